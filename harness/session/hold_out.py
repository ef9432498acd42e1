"""Splits dev items by source into items that a search uses and items that are held out from it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from utilities.core import Item
from utilities.text_similarity import SAME, nearness, stems

__all__ = ["split_hold_out"]

LEAST_HELD = 2
"""Minimum number of held-out items: one item has no confidence interval."""
LEAST_KEPT = 4
"""Minimum number of items left for the objective: with fewer it is mostly noise."""


def split_hold_out(items: Sequence[Item], share: float, seed: int) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Splits dev items into items for the objective and held-out items, each in the original order.

    Near-duplicates and items of the same source are in the same part; otherwise held-out items would leak into the
    search. At least 2 items are held out and at least 4 remain; if no such split exists, no item is held out.

    Args:
        items: Dev items of one item set.
        share: Fraction to hold out, 0 <= share < 1; 0 holds out no items.
        seed: The same seed gives the same split.

    Raises:
        ValueError: `share` is out of range.
    """
    if not 0 <= share < 1:
        raise ValueError(f"a share of {share} cannot be held out; 0 up to 1 is accepted")
    maximum = len(items) - LEAST_KEPT
    target = min(max(round(share * len(items)), LEAST_HELD), maximum)
    if share == 0 or target < LEAST_HELD:
        return tuple(items), ()
    groups = _alike(items)
    np.random.default_rng(seed).shuffle(groups)
    held: set[int] = set()
    # First try groups that fit the target size; if all are too large, any group that leaves enough items.
    for minimum, limit in ((target, target), (LEAST_HELD, maximum)):
        for group in groups:
            if len(held) < minimum and held.isdisjoint(group) and len(held) + len(group) <= limit:
                held.update(group)
    if len(held) < LEAST_HELD:
        return tuple(items), ()
    return (
        tuple(item for k, item in enumerate(items) if k not in held),
        tuple(item for k, item in enumerate(items) if k in held),
    )


def _alike(items: Sequence[Item]) -> list[list[int]]:
    """Indices of the items, grouped by near-duplicate questions and by source."""
    words = [_content_words(item) for item in items]
    group = list(range(len(items)))  # index of the first item of each item's group
    for a, b in combinations(range(len(items)), 2):
        same_source = items[a].source is not None and items[a].source == items[b].source
        if group[a] != group[b] and (same_source or nearness(words[a], words[b]) >= SAME):
            group = [group[a] if g == group[b] else g for g in group]
    return [[k for k, g in enumerate(group) if g == first] for first in sorted(set(group))]


def _content_words(item: Item) -> frozenset[str]:
    text = " ".join([item.question, *(item.choices or {}).values()])
    return frozenset(stems(text)) or frozenset([text])  # without content words, an item only matches identical text
