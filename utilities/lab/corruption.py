"""Answers that are bad by construction, from gold ones: the rungs of the ladder, canaries, and padding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from utilities.core import Item
from utilities.judges.canary import FOLDER, canaries

__all__ = ["canary_answers", "corruptions", "padded_answer"]

LIGHT, HEAVY = 0.2, 0.7
"""Share of the words of a gold answer that are exchanged."""
SHORT = 4
"""Words of a median gold answer below which there is nothing between right and wrong."""

PADDING = (
    " There are many aspects to this, and each of them matters in its own way. It is important to look at the whole"
    " picture and to weigh all the factors carefully. In conclusion, there is much to be said about this question."
)


def corruptions(items: Sequence[Item], seed: int = 0) -> dict[str, list[str]]:
    """Rung to its texts, one an item, the best first.

    Free answers: `gold`, `light` (a fifth of the words exchanged for words of other gold answers), `heavy` (seven
    tenths, and the order lost), `empty`. Items with options, and sets whose gold answers are a word or a number, have
    nothing between right and wrong: `gold`, `wrong` (another option's letter, another item's answer), `empty`.

    Args:
        items: Those that have an answer; see `Item.answer`.
        seed: Of what is exchanged; a text depends on its item and the seed alone, and on the set's other answers.

    Returns:
        The rungs; nothing where not all items have an answer, or all have the same.
    """
    gold = [item.answer or "" for item in items]
    if not items or not all(answer.strip() for answer in gold):
        return {}
    rng = np.random.default_rng(seed)
    short = any(item.choices for item in items) or median(len(answer.split()) for answer in gold) < SHORT
    if short:
        wrong = [_other(item, gold, rng) for item in items]
        if any(text is None for text in wrong):
            return {}
        return {"gold": gold, "wrong": [text or "" for text in wrong], "empty": [""] * len(items)}
    words = sorted({word for answer in gold for word in answer.split()})
    light = [_exchanged(answer, words, LIGHT, rng) for answer in gold]
    heavy = [_shuffled(_exchanged(answer, words, HEAVY, rng), rng) for answer in gold]
    return {"gold": gold, "light": light, "heavy": heavy, "empty": [""] * len(items)}


def canary_answers(items: Sequence[Item], folder: Path | None = None) -> dict[str, list[str]]:
    """Canary to its texts, one an item.

    Args:
        items: What is asked.
        folder: Of YAML files with canaries; those that come with the library where None.

    Raises:
        UserError: A file that is no canary.
    """
    return {canary.name: [canary.text(item) for item in items] for canary in canaries(folder or FOLDER)}


def padded_answer(text: str) -> str:
    """The answer, and words after it that say nothing, about as many as it has itself and at least three sentences."""
    times = max(1, round(len(text.split()) / len(PADDING.split())))
    return text + PADDING * times


def _other(item: Item, gold: Sequence[str], rng: np.random.Generator) -> str | None:
    """A wrong answer; None where there is no other."""
    known = list(item.choices) if item.choices else gold
    others = sorted({text for text in known if text.strip().casefold() != (item.answer or "").strip().casefold()})
    return others[int(rng.integers(len(others)))] if others else None


def _exchanged(text: str, words: Sequence[str], share: float, rng: np.random.Generator) -> str:
    """With a share of the words, and at least one, exchanged for other ones."""
    found = text.split()
    count = max(1, round(share * len(found)))
    for k in rng.choice(len(found), size=count, replace=False):
        other = found[k]
        while other == found[k] and len(words) > 1:
            other = words[int(rng.integers(len(words)))]
        found[k] = other
    return " ".join(found)


def _shuffled(text: str, rng: np.random.Generator) -> str:
    return " ".join(rng.permutation(text.split()))
