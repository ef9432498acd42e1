"""One number of several: how the values of a task's parts become the value that the swarm optimises.

The parts are a task's item sets, or the groups of an item set that has `group_by`: `minimum` over groups is the worst
group, `mean` the group mean. Every combination works elementwise on arrays, so that the bootstrap can combine
thousands of resamples at once; nan is a part without a value, or parts that have no such combination.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from utilities.core import Evaluation, Usage
from utilities.errors import UserError
from utilities.registry import Registry
from utilities.statistics import bootstrap_se

__all__ = ["combinations", "combine_evaluations", "harmonic_mean", "mean", "minimum", "weighted_mean"]

Floats = NDArray[np.float64]
Combination = Callable[[Mapping[str, Floats]], Floats]

combinations: Registry[Combination] = Registry("combination", group="model_swarms.combinations")


@combinations.register("harmonic_mean")
def harmonic_mean(values: Mapping[str, Floats]) -> Floats:
    """The harmonic mean, the paper's objective for a domain of two data sets (section 3).

    A zero in any part makes the whole zero: the harmonic mean of rates is pulled to the worst of them, and an expert
    that fails one set altogether is no expert of the domain. Below zero there is no harmonic mean: a negative part
    makes the whole nan, and an evaluation not comparable.
    """
    stacked = _stacked(values)
    positive = np.where(stacked > 0, stacked, np.nan)
    least = positive.min(axis=0)  # relative to it, no reciprocal is too large
    whole = least * stacked.shape[0] / (least / positive).sum(axis=0)
    # A part that a resample left without any item is nan there already; only true zeros become zero.
    whole = np.where((stacked == 0).any(axis=0), 0.0, whole)
    return np.where((stacked < 0).any(axis=0), np.nan, whole)


@combinations.register("mean")
def mean(values: Mapping[str, Floats]) -> Floats:
    """The arithmetic mean, for scores of any sign.

    A zero counts as a zero and a negative value as itself: one part can make up for another.
    """
    return np.asarray(_stacked(values).mean(axis=0))


def weighted_mean(values: Mapping[str, Floats], weights: Mapping[str, float] | None = None) -> Floats:
    """The arithmetic mean with the task file's weights, for scores of any sign.

    A zero counts as a zero and a negative value as itself, each as much as its part weighs.

    Args:
        values: The parts by name.
        weights: A positive weight for every part, by name; only their ratios matter.

    Raises:
        UserError: A part has no weight.
    """
    known = weights or {}
    for name in values:
        if name not in known:
            raise UserError(f"weighted_mean: no weight is given for {name!r}")
    return np.asarray(np.average(_stacked(values), axis=0, weights=[known[name] for name in values]))


combinations.register("weighted_mean")(weighted_mean)  # as a decorator it would hide that there are weights


@combinations.register("minimum")
def minimum(values: Mapping[str, Floats]) -> Floats:
    """The worst part, for scores of any sign; over groups, the worst group (Sagawa et al. 2020).

    A zero is the whole where no part is below it, and a negative value is the whole where it is the lowest: no part
    makes up for another. Small groups are noisy, and the minimum of noisy means is biased low: of ten groups that are
    equally good, the worst seems 1.5 standard errors of a group worse than it is, and a search is led by which group
    was unlucky. With few items a group, `mean` or `harmonic_mean` over the groups is the steadier objective.
    """
    return np.asarray(_stacked(values).min(axis=0))


def _stacked(values: Mapping[str, Floats]) -> Floats:
    """The parts as one array [parts, ...]."""
    return np.stack([np.asarray(value, dtype=np.float64) for value in values.values()])


def combine_evaluations(parts: Mapping[str, Evaluation], how: Combination) -> Evaluation:
    """Several evaluations as one. One part passes through; one part that is not comparable makes the whole so."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    n, missing = sum(p.n for p in parts.values()), sum(p.n_unscored for p in parts.values())
    usage = sum((p.usage for p in parts.values()), Usage())
    problem = "; ".join(f"{name}: {part.problem}" for name, part in parts.items() if part.problem)
    if problem:
        return Evaluation(None, None, n, missing, usage, problem, parts=dict(parts))
    known = {name: part.value or 0.0 for name, part in parts.items()}
    value = float(how({name: np.asarray(part) for name, part in known.items()}))
    if not np.isfinite(value):
        below = ", ".join(f"{name} is {part:.4g}" for name, part in known.items() if part < 0)
        problem = f"{below}: this combination has no meaning below zero; --combine mean is meant for scores below zero"
        problem = problem if below else f"the combination of {known} is {value}"
        return Evaluation(None, None, n, missing, usage, problem, parts=dict(parts))
    whole = Evaluation(value, None, n, missing, usage, parts=dict(parts))
    return Evaluation(value, bootstrap_se(whole, how), n, missing, usage, parts=dict(parts))
