"""The standard error of a mean whose items are clustered, also of one where all items are right or all are wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["clustered_se", "score_se", "two_way_se", "unanimous_se"]


def clustered_se(values: Sequence[float], clusters: Sequence[str]) -> float | None:
    """Standard error of the mean of `values`, allowing any correlation within a cluster; None for one cluster.

    The usual sandwich estimator with the factor G / (G - 1) for G clusters (Cameron and Miller, "A Practitioner's
    Guide to Cluster-Robust Inference", 2015); with one item a cluster it is the ordinary standard error.
    """
    x = np.asarray(values, dtype=np.float64)
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    groups = int(index.max()) + 1
    if groups < 2:
        return None
    sums = np.bincount(index, weights=x - x.mean())
    return float(np.sqrt(groups / (groups - 1) * np.square(sums).sum()) / x.size)


def two_way_se(values: Sequence[float], clusters: Sequence[str], others: Sequence[str]) -> float | None:
    """Standard error of the mean of `values`, allowing correlation within a cluster and within a cluster of `others`.

    The two variances minus that of their intersection (Cameron, Gelbach and Miller, "Robust Inference with Multiway
    Clustering", 2011), and at least the larger of the two: with few clusters the difference may be too small.

    Returns:
        The standard error; that of one kind of clusters if there is one cluster of the other kind; None if there is
        one cluster of both kinds.
    """
    each = [clustered_se(values, one) for one in (clusters, others)]
    single = [se for se in each if se is not None]
    if len(single) < 2:
        return single[0] if single else None
    both = clustered_se(values, [f"{len(a)} {a} {b}" for a, b in zip(clusters, others, strict=True)]) or 0.0
    return float(np.sqrt(max(*np.square(single), np.square(single).sum() - both**2)))


def score_se(values: Sequence[float], clusters: Sequence[str]) -> float | None:
    """`clustered_se` of scores; of scores that are all 0 or all 1 `unanimous_se`, since their spread is 0."""
    se = clustered_se(values, clusters)
    if se == 0 and (all(value == 0 for value in values) or all(value == 1 for value in values)):
        return unanimous_se(len(set(clusters)))
    return se


def unanimous_se(count: int) -> float:
    """Standard error of a share where all of `count` independent items agree.

    1.96 of it reach to the end of Wilson's 95 % interval (JASA 1927): z / (n + z^2). It is 0.08 for 20 items, and 0.005
    for 400.
    """
    z = 1.959964
    return z / (count + z**2)
