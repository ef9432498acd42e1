"""The difference of two particles on the items that both were asked, as an estimate of their difference on all items.

Stratified sampling from a finite population (Cochran, "Sampling Techniques", 1977, chapter 5): whatever decides how
many items of a stratum are asked first, within the stratum they are a random sample, so each stratum's mean difference
weighted with the stratum's size is unbiased for the whole, for any two models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.thrift.partial import Partial

__all__ = ["Paired", "paired"]

Floats = NDArray[np.float64]
LEAST = 2
"""Items of a stratum that tell how far its differences vary; one with fewer is taken together with its neighbour."""
STEP = 1e-4
"""Of the numerical derivative of a combination."""


class Paired(NamedTuple):
    """`a - b` on all items, estimated."""

    value: float
    se: float
    """What the items that were not asked may change, and clusters of items that vary together; 0 where all were."""
    items: int
    """Items that both have a score of."""
    clusters: int
    values: tuple[float, float]
    """The estimates of a and of b, on the same items."""


def paired(a: Partial, b: Partial) -> Paired | None:
    """The difference of two particles that go through the same stages.

    Returns:
        The difference; None where a part of the task has fewer than two items that both have a score of.

    Raises:
        ValueError: They go through other stages.
    """
    if a.stages is not b.stages:
        raise ValueError("particles that are asked other stages cannot be paired")
    means: dict[str, tuple[float, float]] = {}
    spread: dict[str, tuple[Floats, list[str]]] = {}
    items = 0
    for part, strata in a.stages.strata.items():
        found = _strata(a, b, strata)
        total = sum(size for size, _, _ in found)
        if not found or len(found[0][1]) < LEAST:
            return None
        weights = [size / total for size, _, _ in found]
        means[part] = (
            sum(w * float(x.mean(axis=0)[0]) for w, (_, x, _) in zip(weights, found, strict=True)),
            sum(w * float(x.mean(axis=0)[1]) for w, (_, x, _) in zip(weights, found, strict=True)),
        )
        influence = np.concatenate([w * _influence(size, x) for w, (size, x, _) in zip(weights, found, strict=True)])
        clusters = [cluster for _, _, names in found for cluster in names]
        spread[part] = (influence, clusters)
        items += len(clusters)
    combine = _combination(a.stages.task.combine, list(means))
    sides = np.array(list(means.values()))  # [parts, sides]
    values = combine(sides)
    if not np.isfinite(values).all():
        return None
    slopes = _slopes(combine, sides.mean(axis=1))
    sums: dict[str, float] = {}
    for slope, (influence, names) in zip(slopes, spread.values(), strict=True):
        for cluster, one in zip(names, slope * influence, strict=True):
            sums[cluster] = sums.get(cluster, 0.0) + float(one)
    se = math.sqrt(math.fsum(one * one for one in sums.values()))
    return Paired(float(values[0] - values[1]), se, items, len(sums), (float(values[0]), float(values[1])))


def _strata(a: Partial, b: Partial, strata: Mapping[str, list[str]]) -> list[tuple[int, Floats, list[str]]]:
    """Of each stratum its size, the scores [items, sides] that both have, and the clusters of their items."""
    found: list[tuple[int, Floats, list[str]]] = []
    for name, ids in strata.items():
        item_set = name.rsplit("/", 1)[0]
        rows, clusters = [], []
        for one in ids:
            left, right = a.score(item_set, one), b.score(item_set, one)
            if left is not None and right is not None:
                rows.append((left, right))
                cluster = a.found[item_set][one].cluster
                clusters.append(cluster if cluster != one else f"{item_set}:{one}")
        now = (len(ids), np.array(rows, dtype=np.float64).reshape(-1, 2), clusters)
        if found and min(len(now[1]), len(found[-1][1])) < LEAST:
            size, scores, names = found.pop()
            now = (size + now[0], np.concatenate([scores, now[1]]), names + now[2])
        found.append(now)
    return found


def _influence(size: int, scores: Floats) -> Floats:
    """[items]: what each item's difference adds to the error of the stratum's mean; its squares sum to the variance.

    With the correction for a finite population: of a stratum whose items were all asked there is no error left.
    """
    d = scores[:, 0] - scores[:, 1]
    n = len(d)
    return np.asarray((d - d.mean()) / n * math.sqrt(n / (n - 1) * max(0.0, 1 - n / size)))


def _combination(how: Callable[..., Any], names: list[str]) -> Callable[[Floats], Floats]:
    """The task's combination on arrays [parts, ...]; a single part passes through."""

    def combine(values: Floats) -> Floats:
        if len(names) == 1:
            return np.asarray(values[0])
        return np.asarray(how(dict(zip(names, values, strict=True))))

    return combine


def _slopes(combine: Callable[[Floats], Floats], at: Floats) -> Floats:
    """[parts]: how fast the combined value rises with each part; 0 where it has none, as at the edge of its meaning."""
    steps = STEP * np.eye(len(at))
    rise = combine(at[:, None] + steps) - combine(at[:, None] - steps)
    return np.nan_to_num(rise / (2 * STEP))
