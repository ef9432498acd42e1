"""Drafted instructions on a topic, and their split into dev and test.

No dev instruction is near to a test instruction, so selection on dev does not contaminate test.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import combinations

from pydantic import BaseModel, ConfigDict

from utilities.errors import UserError
from utilities.text_similarity import NEAR, nearness, stems

__all__ = [
    "FEWEST",
    "LONGEST_INSTRUCTION",
    "Persona",
    "Strict",
    "TopicDraft",
    "bare",
    "checked_topic",
    "is_instruction",
    "on_one_line",
    "split_apart",
]

LONGEST_TOPIC, LONGEST_INSTRUCTION = 300, 2000
"""In characters; a topic is about a sentence long, and an instruction is not a document."""
FEWEST = 4
"""Fewest instructions of a task, two a split: one alone has no standard error."""


class Strict(BaseModel):
    """A judge's reply, in a schema that strict servers accept."""

    # Strict servers refuse length limits in a schema; lengths are checked when replies are read.
    model_config = ConfigDict(frozen=True, json_schema_extra={"additionalProperties": False})


class Persona(Strict):
    """A kind of person with an interest in the topic."""

    name: str
    interest: str


@dataclass(frozen=True, slots=True)
class TopicDraft:
    """Instructions on a topic, not yet reviewed."""

    topic: str
    dev: tuple[str, ...]
    test: tuple[str, ...]
    source: str
    """Where they come from."""
    personas: tuple[Persona, ...] = ()
    dropped: int = 0
    """Instructions dropped as repetitions."""
    embedded: bool = False
    """Whether the bundled models can answer them."""


def checked_topic(topic: str) -> str:
    """The topic on one line.

    Raises:
        UserError: No words, or too many.
    """
    plain = on_one_line(topic)
    if not any(character.isalpha() for character in plain):
        raise UserError(f"the topic is {topic!r}; a few words are expected, such as 'applying for a PhD in robotics'")
    if len(plain) > LONGEST_TOPIC:
        raise UserError(
            f"the topic has {len(plain)} characters; at most {LONGEST_TOPIC} are accepted, a sentence or two"
        )
    return plain


_MARKER = re.compile(r"^(?:[-*•]|\d{1,3}[.)])\s+")
"""The marker of a list entry."""


def on_one_line(text: str) -> str:
    """A text on one line, without control characters."""
    shown = "".join(" " if unicodedata.category(character) in {"Cc", "Cs"} else character for character in text)
    return " ".join(shown.split())


def bare(text: str) -> str:
    """A text on one line, without a list marker."""
    return _MARKER.sub("", on_one_line(text))


def is_instruction(text: str) -> bool:
    """Whether a text can be an instruction: it has letters and is not too long."""
    return len(text) <= LONGEST_INSTRUCTION and any(character.isalpha() for character in text)


def split_apart(
    texts: Sequence[str], dev: int, test: int, seed: int, leave_out: Set[str] = frozenset()
) -> tuple[list[str], list[str]]:
    """At most `dev` and `test` of the texts, such that no text of one split is near to one of the other.

    A text near to one split can only join that split, and a text near to both joins neither. Each of the others joins
    the split that lacks more, followed by the texts near to it. The seed decides the order; within a split it is that
    of `texts`.
    """
    words = [frozenset(stems(text)) - leave_out for text in texts]
    near: list[set[int]] = [set() for _ in texts]
    for one, other in combinations(range(len(texts)), 2):
        if nearness(words[one], words[other]) >= NEAR:
            near[one].add(other)
            near[other].add(one)
    shuffled = random.Random(seed).sample(range(len(texts)), len(texts))
    splits: tuple[list[int], list[int]] = ([], [])
    for k in dict.fromkeys(one for first in shuffled for one in (first, *sorted(near[first]))):
        belongs = [not near[k].isdisjoint(split) for split in splits]
        missing = [size - len(split) for size, split in zip((dev, test), splits, strict=True)]
        where = belongs.index(True) if any(belongs) else int(missing[1] > missing[0])
        if not all(belongs) and missing[where] > 0:
            splits[where].append(k)
    chosen = [[texts[k] for k in sorted(split)] for split in splits]
    return chosen[0], chosen[1]
