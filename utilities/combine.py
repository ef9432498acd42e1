"""Combinations of the values of a task's parts into the value that the swarm optimises.

The parts are a task's item sets, or the groups of an item set with `group_by`: `minimum` over groups is the worst
group, `mean` the group mean. Every combination works elementwise on arrays, so that the bootstrap can combine thousands
of resamples at once; nan means a part without a value or an undefined combination.
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

    If any part is zero, the result is zero: an expert that fails one set completely is no expert of the domain. The
    harmonic mean is undefined below zero: a negative part makes the result nan, and an evaluation not comparable.
    """
    stacked = _stacked(values)
    positive = np.where(stacked > 0, stacked, np.nan)
    smallest = positive.min(axis=0)  # dividing by it avoids overflow of reciprocals
    result = smallest * stacked.shape[0] / (smallest / positive).sum(axis=0)
    # A part without items in a resample is already nan; only true zeros give zero.
    result = np.where((stacked == 0).any(axis=0), 0.0, result)
    return np.where((stacked < 0).any(axis=0), np.nan, result)


@combinations.register("mean")
def mean(values: Mapping[str, Floats]) -> Floats:
    """The arithmetic mean, for scores of any sign.

    Zeros and negative values count as they are: one part can compensate for another.
    """
    return np.asarray(_stacked(values).mean(axis=0))


def weighted_mean(values: Mapping[str, Floats], weights: Mapping[str, float] | None = None) -> Floats:
    """The arithmetic mean with the task file's weights, for scores of any sign.

    Zeros and negative values count as they are, with the weight of their part.

    Args:
        values: The parts by name.
        weights: A positive weight for every part, by name; only their ratios matter.

    Raises:
        UserError: A part has no weight.
    """
    by_name = weights or {}
    for name in values:
        if name not in by_name:
            raise UserError(f"weighted_mean: no weight is given for {name!r}")
    return np.asarray(np.average(_stacked(values), axis=0, weights=[by_name[name] for name in values]))


combinations.register("weighted_mean")(weighted_mean)  # as a decorator it would hide the parameter `weights`


@combinations.register("minimum")
def minimum(values: Mapping[str, Floats]) -> Floats:
    """The worst part, for scores of any sign; over groups, the worst group (Sagawa et al. 2020).

    Zeros and negative values count as they are: no part compensates for another. Small groups are noisy, and the
    minimum of noisy means is biased low: of ten equally good groups, the worst appears 1.5 standard errors of a group
    worse than it is, so noise guides the search. With few items per group, `mean` or `harmonic_mean` over the groups is
    the more stable objective.
    """
    return np.asarray(_stacked(values).min(axis=0))


def _stacked(values: Mapping[str, Floats]) -> Floats:
    """The parts as one array [parts, ...]."""
    return np.stack([np.asarray(value, dtype=np.float64) for value in values.values()])


def combine_evaluations(parts: Mapping[str, Evaluation], how: Combination) -> Evaluation:
    """Combines evaluations into one; not comparable if a part is not. A single part is returned as it is."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    n, missing = sum(p.n for p in parts.values()), sum(p.n_unscored for p in parts.values())
    usage = sum((p.usage for p in parts.values()), Usage())
    problem = "; ".join(f"{name}: {part.problem}" for name, part in parts.items() if part.problem)
    if problem:
        return Evaluation(None, None, n, missing, usage, problem, parts=dict(parts))
    part_values = {name: part.value or 0.0 for name, part in parts.items()}
    value = float(how({name: np.asarray(part) for name, part in part_values.items()}))
    if not np.isfinite(value):
        below = ", ".join(f"{name} is {part:.4g}" for name, part in part_values.items() if part < 0)
        problem = f"{below}: this combination has no meaning below zero; --combine mean is meant for scores below zero"
        problem = problem if below else f"the combination of {part_values} is {value}"
        return Evaluation(None, None, n, missing, usage, problem, parts=dict(parts))
    combined = Evaluation(value, None, n, missing, usage, parts=dict(parts))
    return Evaluation(value, bootstrap_se(combined, how), n, missing, usage, parts=dict(parts))
