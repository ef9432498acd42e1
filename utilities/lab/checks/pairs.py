"""Differences between two models on the items that both scored: the noise that a search has to see through."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np

from utilities.lab.scores import Scores
from utilities.standard_error import clustered_se

__all__ = ["Contrast", "contrasts", "scored_models", "typical_se"]


class Contrast(NamedTuple):
    """One model minus another, paired by item."""

    first: int
    second: int
    """Positions of the models."""
    difference: float
    """Mean over the items that both scored."""
    se: float
    """Its standard error, clustered."""
    items: int
    clusters: int


def contrasts(scores: Scores) -> list[Contrast]:
    """Every pair of models that share items of at least two clusters."""
    found = []
    for a, b in combinations(range(len(scores.models)), 2):
        both = np.flatnonzero(~np.isnan(scores.values[a] - scores.values[b]))
        clusters = [scores.clusters[k] for k in both]
        difference = scores.values[a, both] - scores.values[b, both]
        se = clustered_se(list(difference), clusters) if both.size else None
        if se is not None:
            found.append(Contrast(a, b, float(difference.mean()), se, both.size, len(set(clusters))))
    return found


def typical_se(scores: Scores) -> float:
    """Standard error of a difference between two models: root mean square over all pairs; nan without a pair."""
    found = contrasts(scores)
    return float(np.sqrt(np.mean([one.se**2 for one in found]))) if found else float("nan")


def scored_models(scores: Scores) -> Scores:
    """Without the models that have no score at all: they would leave no item that all share."""
    kept = np.flatnonzero((~np.isnan(scores.values)).any(1))
    if kept.size == len(scores.models):
        return scores
    return Scores(
        tuple(scores.models[k] for k in kept),
        scores.items,
        scores.values[kept],
        scores.clusters,
        scores.words[kept],
        scores.reasons,
        scores.usage,
        scores.tokens,
    )
