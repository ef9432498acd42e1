"""Answers that are bad by construction: corrupted gold answers, canaries, and padding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from utilities.core import Item
from utilities.judges.canary import FOLDER, canaries

__all__ = ["canary_answers", "corruptions", "padded_answer"]

LIGHT, HEAVY = 0.2, 0.7
"""Share of the words of a gold answer that are replaced."""
SHORT = 4
"""Median number of words of gold answers below which answers are only correct or wrong."""

PADDING = (
    " There are many aspects to this, and each of them matters in its own way. It is important to look at the whole"
    " picture and to weigh all the factors carefully. In conclusion, there is much to be said about this question."
)


def corruptions(items: Sequence[Item], seed: int = 0) -> dict[str, list[str]]:
    """Rung to its texts, one per item, the best first.

    Free answers: `gold`, `light` (a fifth of the words replaced by words of other gold answers), `heavy` (seven tenths,
    shuffled), `empty`. For items with options, and for gold answers of a word or a number: `gold`, `wrong` (another
    option's letter, another item's answer), `empty`.

    Args:
        items: Those that have an answer; see `Item.answer`.
        seed: Seed of the replacements; a text depends on its item, the seed, and the set's other answers.

    Returns:
        The rungs; empty if an item has no answer, or all have the same.
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
    """Canary to its texts, one per item.

    Args:
        items: The questions.
        folder: Folder of YAML files with canaries; by default those of the library.

    Raises:
        UserError: A file that is not a canary.
    """
    return {canary.name: [canary.text(item) for item in items] for canary in canaries(folder or FOLDER)}


def padded_answer(text: str) -> str:
    """The answer followed by empty phrases of about its own length, at least three sentences."""
    times = max(1, round(len(text.split()) / len(PADDING.split())))
    return text + PADDING * times


def _other(item: Item, gold: Sequence[str], rng: np.random.Generator) -> str | None:
    """A wrong answer; None if there is no other answer."""
    candidates = list(item.choices) if item.choices else gold
    others = sorted({text for text in candidates if text.strip().casefold() != (item.answer or "").strip().casefold()})
    return others[int(rng.integers(len(others)))] if others else None


def _exchanged(text: str, words: Sequence[str], share: float, rng: np.random.Generator) -> str:
    """The text with a share of the words, and at least one, replaced."""
    tokens = text.split()
    count = max(1, round(share * len(tokens)))
    for k in rng.choice(len(tokens), size=count, replace=False):
        other = tokens[k]
        while other == tokens[k] and len(words) > 1:
            other = words[int(rng.integers(len(words)))]
        tokens[k] = other
    return " ".join(tokens)


def _shuffled(text: str, rng: np.random.Generator) -> str:
    return " ".join(rng.permutation(text.split()))
