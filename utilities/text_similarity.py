"""How near two texts are in meaning, judged by the content words that they share: cheap, and for any script.

It knows no synonyms: what it calls near is near, and what is near in other words it does not see.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence, Set
from functools import cache

from utilities.judges.text_features import content_words

__all__ = ["NEAR", "SAME", "nearness", "stems", "without_repeats"]

SAME = 0.5
"""From here on two texts ask the same. Of the 14,700 pairs of instructions within the twelve published topics that we
could read, 47 reach it: two that say the same in other words, and the 45 of ten sentences that differ in one name."""
NEAR = 0.25
"""From here on two texts ask about one matter, and an answer to one helps with the other. One percent of those pairs
reach it, and at most ten of fifty instructions hang together; at 0.2 it would be two percent, and up to eighteen."""

ASKING = frozenset(
    """ask best describe discuss explain get give good hear hearing help keep know knowing let make need please show
    tell use want way work works worth""".split()  # noqa: SIM905 - a list of so many quoted words is not read
)
"""English words with which people ask, whatever they ask about."""

_ENDINGS = sorted(
    """al ation ations e ed er ers es ic ical ically ics ied ies ing ings ion ions ities ity ly ment ments s
    y""".split(),  # noqa: SIM905 - as above
    key=len,
    reverse=True,
)


def stems(text: str) -> list[str]:
    """The content words of a text without their endings, in order and as often as they occur.

    Words of other scripts than Latin enter as pairs of neighbouring characters: these survive the inflections of
    Russian and the prefixes of Arabic, and Chinese has no other words that could be had without a dictionary.
    """
    return [stem for word in content_words(text) if word not in ASKING for stem in _stems(word)]


@cache
def _stems(word: str) -> tuple[str, ...]:
    if not all(character.isdigit() or "LATIN" in unicodedata.name(character, "") for character in word):
        return tuple(word[k : k + 2] for k in range(max(1, len(word) - 1)))
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) >= len(ending) + 4:
            return (word[: -len(ending)],)
    return (word,)


def nearness(one: Set[str], other: Set[str]) -> float:
    """The share of their stems that two texts have in common (Jaccard): 0 none, 1 all, also where neither has any."""
    return len(one & other) / len(one | other) if one or other else 1.0


def without_repeats(texts: Sequence[str], leave_out: Set[str] = frozenset()) -> list[str]:
    """The texts of which no earlier one asks the same.

    Args:
        texts: Earlier ones win.
        leave_out: Stems that do not count, such as those of the topic that all the texts are about.
    """
    kept: dict[str, Set[str]] = {}
    for text in texts:
        mine = frozenset(stems(text)) - leave_out
        if all(nearness(mine, other) < SAME for other in kept.values()):
            kept[text] = mine
    return list(kept)
