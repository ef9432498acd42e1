"""Text similarity by shared content words: cheap, and for any script.

Synonyms are not detected: similar texts in other words get a low similarity.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence, Set
from functools import cache

from utilities.judges.text_features import content_words

__all__ = ["NEAR", "SAME", "nearness", "stems", "without_repeats"]

SAME = 0.5
"""Similarity from which two texts ask the same. Of the 14,700 pairs of instructions within twelve published topics, 47
reach it: two paraphrases, and the 45 pairs of ten sentences that differ in one name."""
NEAR = 0.25
"""Similarity from which two texts concern the same subject, so that an answer to one helps with the other. One percent
of those pairs reach it, and at most ten of fifty instructions form a cluster; at 0.2 two percent, up to eighteen."""

ASKING = frozenset(
    """ask best describe discuss explain get give good hear hearing help keep know knowing let make need please show
    tell use want way work works worth""".split()  # noqa: SIM905 - a list of so many quoted words is not read
)
"""English words that are typical of requests, independent of the subject."""

_ENDINGS = sorted(
    """al ation ations e ed er ers es ic ical ically ics ied ies ing ings ion ions ities ity ly ment ments s
    y""".split(),  # noqa: SIM905 - as above
    key=len,
    reverse=True,
)


def stems(text: str) -> list[str]:
    """The stems of a text's content words, in order and with repetitions.

    Words of non-Latin scripts give character bigrams, which are robust to the inflections of Russian and the prefixes
    of Arabic, and need no dictionary for Chinese.
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
    """Jaccard similarity of two sets of stems, from 0 to 1; 1 if both are empty."""
    return len(one & other) / len(one | other) if one or other else 1.0


def without_repeats(texts: Sequence[str], leave_out: Set[str] = frozenset()) -> list[str]:
    """The texts without near-duplicates of earlier texts (similarity of at least `SAME`).

    Args:
        texts: The texts; of near-duplicates the first is kept.
        leave_out: Stems to ignore, such as those of the common topic.
    """
    stems_by_text: dict[str, Set[str]] = {}
    for text in texts:
        own_stems = frozenset(stems(text)) - leave_out
        if all(nearness(own_stems, other) < SAME for other in stems_by_text.values()):
            stems_by_text[text] = own_stems
    return list(stems_by_text)
