"""Splits dev items by source into items that a search uses and items that it never sees."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from utilities.core import Item
from utilities.text_similarity import SAME, nearness, stems

__all__ = ["split_hold_out"]

LEAST_HELD = 2
"""One item has no interval, so it could say nothing."""
LEAST_KEPT = 4
"""An objective of fewer items than this is noise, and what is left of a tiny task must stay one."""


def split_hold_out(items: Sequence[Item], share: float, seed: int) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Splits dev items into those that the objective keeps and those that are held out, each in the given order.

    Near-duplicates of an item, and the items of its source, are on its side: otherwise the search would know held-out
    items by their duplicates. At least 2 items are held out and at least 4 are kept; if no such split exists, none is
    held out.

    Args:
        items: Dev items of one item set.
        share: Part of them to hold out, 0 to 1; 0 holds out none.
        seed: The same seed gives the same split.

    Raises:
        ValueError: `share` is not a share.
    """
    if not 0 <= share < 1:
        raise ValueError(f"a share of {share} cannot be held out; 0 up to 1 is accepted")
    most = len(items) - LEAST_KEPT
    wanted = min(max(round(share * len(items)), LEAST_HELD), most)
    if share == 0 or wanted < LEAST_HELD:
        return tuple(items), ()
    groups = _alike(items)
    np.random.default_rng(seed).shuffle(groups)
    held: set[int] = set()
    # Groups that fit; where they are too large for that, any that leaves enough.
    for enough, limit in ((wanted, wanted), (LEAST_HELD, most)):
        for group in groups:
            if len(held) < enough and held.isdisjoint(group) and len(held) + len(group) <= limit:
                held.update(group)
    if len(held) < LEAST_HELD:
        return tuple(items), ()
    return (
        tuple(item for k, item in enumerate(items) if k not in held),
        tuple(item for k, item in enumerate(items) if k in held),
    )


def _alike(items: Sequence[Item]) -> list[list[int]]:
    """Positions of the items, those together that ask the same or have the same source."""
    words = [_content_words(item) for item in items]
    group = list(range(len(items)))  # of each item, the first one of its group
    for a, b in combinations(range(len(items)), 2):
        same_source = items[a].source is not None and items[a].source == items[b].source
        if group[a] != group[b] and (same_source or nearness(words[a], words[b]) >= SAME):
            group = [group[a] if g == group[b] else g for g in group]
    return [[k for k, g in enumerate(group) if g == first] for first in sorted(set(group))]


def _content_words(item: Item) -> frozenset[str]:
    text = " ".join([item.question, *(item.choices or {}).values()])
    return frozenset(stems(text)) or frozenset([text])  # without any content word it is like itself alone
