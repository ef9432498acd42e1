"""Which words two texts have in common: what judges too small to compare two texts are told beside them."""

from __future__ import annotations

from collections.abc import Sequence

from utilities.judges.text_features import content_words

__all__ = ["nearest", "shared_words"]

MOST = 12
"""Words that are told at most."""


def shared_words(text: str, other: str) -> str:
    """The content words of `text` that stand in `other` too, in their order, as a line of a prompt."""
    known = set(content_words(other))
    return _told([word for word in content_words(text) if word in known])


def nearest(claim: str, passages: Sequence[str]) -> tuple[str, str]:
    """The passage that lacks the fewest words of a claim, the first of equals, and the words that it lacks."""
    words = content_words(claim)
    known = [set(content_words(passage)) for passage in passages]
    lacking = [[word for word in words if word not in found] for found in known]
    best = min(range(len(passages)), key=lambda k: len(lacking[k]))
    return passages[best], _told(lacking[best])


def _told(words: Sequence[str]) -> str:
    return ", ".join(list(dict.fromkeys(words))[:MOST])
