"""The standard error of a mean whose items are clustered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["clustered_se"]


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
