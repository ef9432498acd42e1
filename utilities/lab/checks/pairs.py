"""Differences between two models on the items that both have scores of."""

from __future__ import annotations

from dataclasses import replace
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
    """Indices of the models."""
    difference: float
    """Mean over the items with both scores."""
    se: float
    """Its standard error, clustered."""
    items: int
    clusters: int


def contrasts(scores: Scores) -> list[Contrast]:
    """Every pair of models that share items of at least two clusters."""
    pairs = []
    for a, b in combinations(range(len(scores.models)), 2):
        both = np.flatnonzero(~np.isnan(scores.values[a] - scores.values[b]))
        clusters = [scores.clusters[k] for k in both]
        difference = scores.values[a, both] - scores.values[b, both]
        se = clustered_se(list(difference), clusters) if both.size else None
        if se is not None:
            pairs.append(Contrast(a, b, float(difference.mean()), se, both.size, len(set(clusters))))
    return pairs


def typical_se(scores: Scores) -> float:
    """Standard error of a difference between two models: root mean square over all pairs; nan without a pair."""
    pairs = contrasts(scores)
    return float(np.sqrt(np.mean([one.se**2 for one in pairs]))) if pairs else float("nan")


def scored_models(scores: Scores) -> Scores:
    """The scores without models that have no score at all."""
    rows = np.flatnonzero((~np.isnan(scores.values)).any(1))
    if rows.size == len(scores.models):
        return scores
    names = tuple(scores.models[k] for k in rows)
    return replace(scores, models=names, values=scores.values[rows], words=scores.words[rows])
