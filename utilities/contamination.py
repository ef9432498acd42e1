"""Contamination: test items that also occur in dev, which makes the test value optimistic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from utilities.core import Item

__all__ = ["content", "find_overlap"]


def find_overlap(dev: Sequence[Item], test: Sequence[Item]) -> tuple[str, ...]:
    """Ids of the test items that overlap with an item of dev.

    The items have the same question, and either the same options in any order and lettering or the same correct answer
    among other options: 149 of the 1000 published test items of Knowledge Crosswords are of the second kind.
    """
    seen = {key for item in dev for key in _overlap_keys(item)}
    return tuple(item.id for item in test if not seen.isdisjoint(_overlap_keys(item)))


def content(item: Item) -> tuple[str, tuple[str, ...]]:
    """Identity of an item: question, columns and options, without regard to order, lettering and white space."""
    return item.text, tuple(sorted(_plain(option) for option in (item.choices or {}).values()))


def _overlap_keys(item: Item) -> Iterator[tuple[str, str | tuple[str, ...]]]:
    question, options = content(item)
    yield question, options
    if item.choices and item.answer:
        yield question, _plain(item.choices[item.answer])


def _plain(text: str) -> str:
    return " ".join(text.split())
