"""Test items that stand in dev too: a search has seen them, so their value is partly a dev value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from utilities.core import Item

__all__ = ["content", "find_overlap"]


def find_overlap(dev: Sequence[Item], test: Sequence[Item]) -> tuple[str, ...]:
    """Ids of the test items that an item of dev gives away.

    It has the same question, and either the same options in any order and lettering or the same right answer among
    other options: 149 of the 1000 published test items of Knowledge Crosswords are of the second kind.
    """
    seen = {known for item in dev for known in _given_away(item)}
    return tuple(item.id for item in test if not seen.isdisjoint(_given_away(item)))


def content(item: Item) -> tuple[str, tuple[str, ...]]:
    """What makes two items the same: question and options, whatever their order, lettering and white space."""
    return _plain(item.question), tuple(sorted(_plain(option) for option in (item.choices or {}).values()))


def _given_away(item: Item) -> Iterator[tuple[str, str | tuple[str, ...]]]:
    question, options = content(item)
    yield question, options
    if item.choices and item.answer:
        yield question, _plain(item.choices[item.answer])


def _plain(text: str) -> str:
    return " ".join(text.split())
