"""One number of several: how the values of a task's item sets become the value that the swarm optimises.

Every combination works elementwise on arrays, so that the bootstrap can combine thousands of resamples at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from utilities.core import Evaluation, Usage
from utilities.registry import Registry
from utilities.statistics import bootstrap_se

__all__ = ["combinations", "combine_evaluations", "harmonic_mean"]

Floats = NDArray[np.float64]
Combination = Callable[[Mapping[str, Floats]], Floats]

combinations: Registry[Combination] = Registry("combination")


@combinations.register("harmonic_mean")
def harmonic_mean(values: Mapping[str, Floats]) -> Floats:
    """The harmonic mean, the paper's objective for a domain of two data sets (section 3).

    A zero in any part makes the whole zero, and so does a negative value: the harmonic mean of rates is pulled to the
    worst of them, and an expert that fails one set altogether is no expert of the domain.
    """
    stacked = np.stack([np.asarray(value, dtype=np.float64) for value in values.values()])
    positive = np.where(stacked > 0, stacked, np.nan)
    mean = stacked.shape[0] / (1.0 / positive).sum(axis=0)
    # A part that a resample left without any item is nan there already; only true zeros become zero.
    return np.where((stacked <= 0).any(axis=0), 0.0, mean)


def combine_evaluations(parts: Mapping[str, Evaluation], how: Combination) -> Evaluation:
    """Several evaluations as one. One part passes through; one part that is not comparable makes the whole so."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    n, missing = sum(p.n for p in parts.values()), sum(p.n_unscored for p in parts.values())
    usage = sum((p.usage for p in parts.values()), Usage())
    problems = [f"{name}: {part.problem}" for name, part in parts.items() if part.problem]
    if problems:
        return Evaluation(None, None, n, missing, usage, "; ".join(problems), parts=dict(parts))
    value = float(how({name: np.asarray(part.value or 0.0) for name, part in parts.items()}))
    whole = Evaluation(value, None, n, missing, usage, parts=dict(parts))
    return Evaluation(value, bootstrap_se(whole, how), n, missing, usage, parts=dict(parts))
