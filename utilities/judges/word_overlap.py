"""Words that two texts share, which are added to the prompts of small judges."""

from __future__ import annotations

from collections.abc import Sequence

from utilities.judges.text_features import content_words

__all__ = ["nearest", "shared_words"]

MOST = 12
"""Maximum number of listed words."""


def shared_words(text: str, other: str) -> str:
    """The content words of `text` that also occur in `other`, in order, as a line of a prompt."""
    other_words = set(content_words(other))
    return _listed([word for word in content_words(text) if word in other_words])


def nearest(claim: str, passages: Sequence[str]) -> tuple[str, str]:
    """The passage with the fewest missing words of a claim (first of ties), and these missing words."""
    words = content_words(claim)
    passage_words = [set(content_words(passage)) for passage in passages]
    missing = [[word for word in words if word not in present] for present in passage_words]
    best = min(range(len(passages)), key=lambda k: len(missing[k]))
    return passages[best], _listed(missing[best])


def _listed(words: Sequence[str]) -> str:
    return ", ".join(list(dict.fromkeys(words))[:MOST])
