"""Standard errors and paired intervals of evaluations, clustered by what items share.

Items about the same fact or passage succeed and fail together; counting them as independent makes every interval too
narrow. So whole clusters are resampled, across all item sets at once, and with the same resample for both sides of a
difference (paired bootstrap). The resampling is `scipy.stats.bootstrap`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utilities.core import Evaluation, Score

__all__ = ["Difference", "bootstrap_se", "clustered_se", "difference_over_runs", "paired_difference"]

Floats = NDArray[np.float64]
Combine = Callable[[Mapping[str, Floats]], Floats]
"""Values of the item sets, by name, to the one number; works on arrays elementwise."""

RESAMPLES = 2000


class Difference(NamedTuple):
    """A difference of two evaluations of the same items, with its 95 % interval."""

    value: float
    low: float
    high: float


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


class _ClusterSums(NamedTuple):
    sums: Floats
    """[sides, parts, clusters]: summed scores."""
    counts: Floats
    """[parts, clusters]: scored items."""
    names: tuple[str, ...]


def _cluster_sums(sides: Sequence[Evaluation]) -> _ClusterSums:
    """Scores summed by part and cluster, over the items that every side scored.

    Sources are clusters across all parts; an item without a source is a cluster of its own part, because ids are
    unique only there (two published files may both have an item "73").
    """
    names = tuple(sides[0].leaves)
    asked = {name: {result.item_id for result in leaf.results} for name, leaf in sides[0].leaves.items()}
    scored: list[dict[tuple[str, str], tuple[tuple[str, str], float]]] = []
    for side in sides:
        if tuple(side.leaves) != names:
            raise ValueError(f"evaluations of other item sets cannot be paired: {names} and {tuple(side.leaves)}")
        for name, leaf in side.leaves.items():
            if {result.item_id for result in leaf.results} != asked[name]:
                raise ValueError(f"evaluations of other items cannot be paired (item set {name!r})")
        scored.append(
            {
                (part, result.item_id): (
                    (part if result.cluster == result.item_id else "", result.cluster),
                    result.outcome.value,
                )
                for part, leaf in side.leaves.items()
                for result in leaf.results
                if isinstance(result.outcome, Score)
            }
        )
    shared = [key for key in scored[0] if all(key in other for other in scored[1:])]
    clusters = {name: k for k, name in enumerate(sorted({scored[0][key][0] for key in shared}))}
    sums = np.zeros((len(sides), len(names), len(clusters)))
    counts = np.zeros((len(names), len(clusters)))
    for key in shared:
        part, cluster = names.index(key[0]), clusters[scored[0][key][0]]
        counts[part, cluster] += 1
        for k, values in enumerate(scored):
            sums[k, part, cluster] += values[key][1]
    return _ClusterSums(sums, counts, names)


def _combined(data: _ClusterSums, side: int, index: NDArray[np.intp], combine: Combine) -> Floats:
    """The combined value of one side on resampled clusters `index` [..., clusters]; one part passes through."""
    size = data.counts.shape[1]
    rows = index.reshape(-1, size)
    # How often each cluster was drawn, [resamples, clusters]: with it, any number of parts is one matrix product.
    drawn = np.bincount((rows + size * np.arange(len(rows))[:, None]).ravel(), minlength=rows.size)
    drawn = drawn.reshape(rows.shape).astype(np.float64)
    counts = drawn @ data.counts.T
    values = (drawn @ data.sums[side].T) / np.where(counts > 0, counts, np.nan)
    parts = {name: values[:, k].reshape(index.shape[:-1]) for k, name in enumerate(data.names)}
    return combine(parts) if len(parts) > 1 else next(iter(parts.values()))


def _enough(data: _ClusterSums) -> bool:
    """Whether every part has two clusters: of a part with one alone nobody knows how far it would vary."""
    return bool(((data.counts > 0).sum(-1) >= 2).all())


def _resampled(statistic: Callable[..., Floats], sizes: Sequence[int], seed: int) -> Floats | None:
    """The statistic on resamples of samples of these sizes (clusters, runs), without those on which it has no value.

    It has none where an item set was left with no item, or a harmonic mean's part fell below zero. None where that is
    most of the resamples: the rest speak for other data.
    """
    from scipy import stats

    def vectorized(*index: NDArray[np.intp], axis: int = -1) -> Floats:
        return statistic(*index)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # scipy's own interval of a resample without items
        drawn = stats.bootstrap(
            tuple(np.arange(size) for size in sizes),
            vectorized,
            n_resamples=RESAMPLES,
            vectorized=True,
            batch=200,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
    usable = np.asarray(drawn[np.isfinite(drawn)])
    return usable if usable.size > RESAMPLES // 2 else None


def bootstrap_se(evaluation: Evaluation, combine: Combine, seed: int = 0) -> float | None:
    """Standard error of a combined value (cluster bootstrap over items); None where a part has too few clusters."""
    data = _cluster_sums([evaluation])
    if not _enough(data):
        return None
    drawn = _resampled(lambda index: _combined(data, 0, index, combine), (data.counts.shape[1],), seed)
    return None if drawn is None else float(drawn.std(ddof=1))


def paired_difference(a: Evaluation, b: Evaluation, combine: Combine, seed: int = 0) -> Difference | None:
    """`a - b` on the items that both scored, with the 95 % percentile interval of the paired cluster bootstrap.

    Returns:
        The difference, or None where a part has too few clusters that are scored by both.

    Raises:
        ValueError: The evaluations are of different item sets.
    """
    data = _cluster_sums([a, b])
    size = data.counts.shape[1]
    if not _enough(data):
        return None

    def difference(index: NDArray[np.intp]) -> Floats:
        return _combined(data, 0, index, combine) - _combined(data, 1, index, combine)

    value = float(difference(np.arange(size)))
    if not np.isfinite(value):  # on the shared items a harmonic mean's part may be below zero
        return None
    if (data.sums[0] == data.sums[1]).all():  # no resample can differ
        return Difference(value, value, value)
    drawn = _resampled(difference, (size,), seed)
    if drawn is None:
        return None
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Difference(value, float(low), float(high))


def difference_over_runs(
    runs: Sequence[Evaluation], other: Evaluation, combine: Combine, seed: int = 0
) -> Difference | None:
    """Mean of several runs (seeds) minus `other`, with a 95 % interval over items and over runs.

    Clusters of items and runs are resampled independently of each other, so the interval holds for other items and
    other seeds; with one run it is `paired_difference`'s.

    Returns:
        The difference, or None where a part has too few clusters that all scored.

    Raises:
        ValueError: The evaluations are of different item sets.
    """
    if len(runs) == 1:
        return paired_difference(runs[0], other, combine, seed)
    data = _cluster_sums([*runs, other])
    size, last = data.counts.shape[1], len(runs)
    if not _enough(data):
        return None

    def difference(index: NDArray[np.intp], chosen: NDArray[np.intp]) -> Floats:
        values = np.stack([_combined(data, side, index, combine) for side in range(last)], axis=-1)
        mean = np.take_along_axis(values, chosen, axis=-1).mean(-1)
        return np.asarray(mean - _combined(data, last, index, combine))

    value = float(difference(np.arange(size), np.arange(last)))
    drawn = _resampled(difference, (size, last), seed)
    if drawn is None:
        return None
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Difference(value, float(low), float(high))
