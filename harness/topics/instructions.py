"""Instructions on a topic before a person has looked at them: what they are, and how they become dev and test.

However they came, dev and test ask about different matters: what dev has chosen, test could not have given away.
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
    "parted",
]

LONGEST_TOPIC, LONGEST_INSTRUCTION = 300, 2000
"""In characters: a topic is an interest in a sentence, and an instruction no document."""
FEWEST = 4
"""Instructions that a task needs at least, two a split: of one alone nothing can be said about noise."""


class Strict(BaseModel):
    """A judge's reply, in a schema that strict servers take."""

    # As strict servers want a schema; lengths are checked where replies are read, for they refuse those in it.
    model_config = ConfigDict(frozen=True, json_schema_extra={"additionalProperties": False})


class Persona(Strict):
    """Somebody who is interested in the topic."""

    name: str
    interest: str


@dataclass(frozen=True, slots=True)
class TopicDraft:
    """Instructions on a topic, before a person has looked at them."""

    topic: str
    dev: tuple[str, ...]
    test: tuple[str, ...]
    source: str
    """Who or what they come from."""
    personas: tuple[Persona, ...] = ()
    dropped: int = 0
    """Instructions that were left out because another one asks the same."""
    embedded: bool = False
    """Whether they are such as the bundled model family can answer."""


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
"""What a line of a list begins with."""


def on_one_line(text: str) -> str:
    """A text on one line, without control characters."""
    shown = "".join(" " if unicodedata.category(character) in {"Cc", "Cs"} else character for character in text)
    return " ".join(shown.split())


def bare(text: str) -> str:
    """A text on one line, without the mark that an entry of a list begins with."""
    return _MARKER.sub("", on_one_line(text))


def is_instruction(text: str) -> bool:
    """Whether somebody may be asked this: words, and no document."""
    return len(text) <= LONGEST_INSTRUCTION and any(character.isalpha() for character in text)


def parted(
    texts: Sequence[str], dev: int, test: int, seed: int, leave_out: Set[str] = frozenset()
) -> tuple[list[str], list[str]]:
    """At most `dev` and `test` of the texts, such that no text of one split is near to one of the other.

    A text that is near to one split can only go there, and one that is near to both to neither; of the others each goes
    where more is missing, and those that are near to it come next. The order is the seed's; within a split it is that
    of `texts`.
    """
    mine = [frozenset(stems(text)) - leave_out for text in texts]
    near: list[set[int]] = [set() for _ in texts]
    for one, other in combinations(range(len(texts)), 2):
        if nearness(mine[one], mine[other]) >= NEAR:
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
