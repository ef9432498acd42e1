"""Standard errors and paired intervals of evaluations, with the cluster bootstrap over items.

Items about the same fact or passage are correlated; treating them as independent makes intervals too narrow. Therefore
whole clusters are resampled, across all item sets at once, and with the same resample for both sides of a difference
(paired bootstrap). The resampling is `scipy.stats.bootstrap`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from utilities.core import Evaluation, Score
from utilities.standard_error import unanimous_se

__all__ = [
    "ClusterSums",
    "Combine",
    "Difference",
    "Estimate",
    "Pair",
    "Resampled",
    "bootstrap_se",
    "cluster_sums",
    "clustered_estimate",
    "combined",
    "difference_over_runs",
    "estimate_of_sums",
    "paired_difference",
    "resampled_difference",
    "small_sample_factor",
]

Floats = NDArray[np.float64]
Combine = Callable[[Mapping[str, Floats]], Floats]
"""Combines the values of the item sets, by name, into one; works elementwise on arrays."""

RESAMPLES = 2000


class Difference(NamedTuple):
    """A difference of two evaluations of the same items, with its 95 % interval."""

    value: float
    low: float
    high: float


class Estimate(NamedTuple):
    """A statistic with its 95 % interval; the ends are None if they cannot be estimated."""

    value: float
    low: float | None
    high: float | None


class Pair(NamedTuple):
    """The two sides of a difference on one task: evaluations of the same items, one per run (seed)."""

    runs: Sequence[Evaluation]
    others: Sequence[Evaluation]
    combine: Combine


class Resampled(NamedTuple):
    """A difference with its values on the resamples."""

    value: float
    drawn: Floats
    """[resamples], without non-finite values, widened for small samples."""

    @property
    def difference(self) -> Difference:
        """The difference with its 95 % percentile interval."""
        low, high = np.percentile(self.drawn, [2.5, 97.5])
        return Difference(self.value, float(low), float(high))

    @property
    def se(self) -> float:
        """Standard error of the difference."""
        return float(self.drawn.std(ddof=1))

    @property
    def p(self) -> float:
        """Two-sided p of no difference: twice the share of resamples on the other side of zero.

        One is added to the count (Davison and Hinkley, "Bootstrap Methods and their Application", 1997, equation
        4.11), so p is at least 2 / (resamples + 1). It is below 0.05 exactly if the interval excludes zero, because
        both use the same resamples.
        """
        beyond = min(np.count_nonzero(self.drawn <= 0), np.count_nonzero(self.drawn >= 0))
        return float(min(1.0, 2 * (1 + beyond) / (1 + self.drawn.size)))


def small_sample_factor(clusters: int) -> float:
    """By how much a bootstrap interval over so few clusters is too narrow: 9 for two, 1.6 for five, 1.05 for forty.

    The spread of resamples is too small by sqrt((n - 1) / n), and a normal interval ignores that the spread itself is
    estimated, as Student's t does not (Hesterberg 2015, "What Teachers Should Know About the Bootstrap").
    """
    from scipy.special import stdtrit

    return float(np.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, 0.975) / 1.959964)


def clustered_estimate(
    statistic: Callable[[NDArray[np.intp]], float],
    clusters: Sequence[str],
    seed: int = 0,
    resamples: int | None = None,
    method: Literal["percentile", "normal"] = "percentile",
) -> Estimate:
    """A statistic of items with its cluster bootstrap interval.

    Args:
        statistic: Function of item positions, possibly repeated; nan if undefined.
        clusters: Cluster of each item.
        seed: Seed of the bootstrap.
        resamples: Number of resamples, by default `RESAMPLES`; fewer for a slow statistic.
        method: `percentile`, or `normal`: the value +- 1.96 standard deviations of the resamples. Resampling adds
            noise, which lowers a rank correlation, so its percentiles are biased low. Both are widened for few
            clusters (`small_sample_factor`).

    Returns:
        The statistic of all items; without an interval if there is only one cluster, or if the statistic is undefined
        on the items or on most resamples.
    """
    value = float(statistic(np.arange(len(clusters))))
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    order = np.argsort(index, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(index))[:-1])
    if len(members) < 2 or not np.isfinite(value):
        return Estimate(value, None, None)

    def drawn_statistic(rows: NDArray[np.intp]) -> Floats:
        flat = rows.reshape(-1, len(members))
        singletons = len(members) == len(order)  # each item is its own cluster: nothing to concatenate
        values = [statistic(order[row] if singletons else np.concatenate([members[k] for k in row])) for row in flat]
        return np.array(values, dtype=np.float64).reshape(rows.shape[:-1])

    return _interval(value, drawn_statistic, len(members), seed, resamples, method)


def estimate_of_sums(
    statistic: Callable[..., Floats],
    sums: Sequence[NDArray[Any]],
    clusters: Sequence[str],
    seed: int = 0,
    resamples: int | None = None,
) -> Estimate:
    """As `clustered_estimate`, for a statistic of sums over items, which needs no loop over the resamples.

    Args:
        statistic: Function of the sums, elementwise on arrays; `np.divide` gives the ratio of two sums.
        sums: What is summed, each an array [items].
        clusters: Cluster of each item.
        seed: Seed of the bootstrap.
        resamples: Number of resamples, by default `RESAMPLES`.
    """
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    by_cluster = [np.bincount(index, one) for one in sums]
    with np.errstate(invalid="ignore", divide="ignore"):  # not defined is nan
        value = float(statistic(*(np.sum(one, dtype=np.float64) for one in sums)))
        if len(by_cluster[0]) < 2 or not np.isfinite(value):
            return Estimate(value, None, None)
        return _interval(
            value, lambda rows: statistic(*(of[rows].sum(-1) for of in by_cluster)), len(by_cluster[0]), seed, resamples
        )


def _interval(
    value: float,
    statistic: Callable[[NDArray[np.intp]], Floats],
    clusters: int,
    seed: int,
    resamples: int | None,
    method: Literal["percentile", "normal"] = "percentile",
) -> Estimate:
    """The interval of a value from its statistic on resampled clusters [..., clusters]."""
    drawn = _resampled(statistic, (clusters,), seed, resamples)
    if drawn is None:
        return Estimate(value, None, None)
    drawn = value + small_sample_factor(clusters) * (drawn - value)
    if method == "normal":
        half = 1.959964 * float(drawn.std(ddof=1))
        return Estimate(value, value - half, value + half)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


class ClusterSums(NamedTuple):
    """Scores of several evaluations (sides) of the same items, summed by part and cluster."""

    sums: Floats
    """[sides, parts, clusters]: summed scores."""
    counts: Floats
    """[parts, clusters]: scored items."""
    names: tuple[str, ...]


def cluster_sums(sides: Sequence[Evaluation]) -> ClusterSums:
    """Scores summed by part and cluster, over the items scored by every side.

    Sources are clusters across all parts; an item without a source is a cluster within its part, because ids are unique
    only there (two published files may both have an item "73").
    """
    names = tuple(sides[0].leaves)
    item_ids = {name: {result.item_id for result in leaf.results} for name, leaf in sides[0].leaves.items()}
    scored: list[dict[tuple[str, str], tuple[tuple[str, str], float]]] = []
    for side in sides:
        if tuple(side.leaves) != names:
            raise ValueError(f"evaluations of other item sets cannot be paired: {names} and {tuple(side.leaves)}")
        for name, leaf in side.leaves.items():
            if {result.item_id for result in leaf.results} != item_ids[name]:
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
    return ClusterSums(sums, counts, names)


def combined(data: ClusterSums, index: NDArray[np.intp], combine: Combine) -> Floats:
    """The combined values [sides, ...] on resampled clusters `index` [..., clusters]; one part passes through."""
    size = data.counts.shape[1]
    rows = index.reshape(-1, size)
    # Multiplicity of each cluster, [resamples, clusters]; then one matrix product covers all parts.
    drawn = np.bincount((rows + size * np.arange(len(rows))[:, None]).ravel(), minlength=rows.size)
    drawn = drawn.reshape(rows.shape).astype(np.float64)
    counts = drawn @ data.counts.T
    counts = np.where(counts > 0, counts, np.nan)
    sides = []
    for sums in data.sums:
        values = (drawn @ sums.T) / counts
        parts = {name: values[:, k].reshape(index.shape[:-1]) for k, name in enumerate(data.names)}
        sides.append(combine(parts) if len(parts) > 1 else next(iter(parts.values())))
    return np.stack(sides)


def _clusters(data: ClusterSums) -> int:
    """Number of clusters of the smallest part."""
    return int((data.counts > 0).sum(-1).min())


def _enough(data: ClusterSums) -> bool:
    """Whether every part has at least two clusters, which a variance estimate needs."""
    return _clusters(data) >= 2


def _resampled(
    statistic: Callable[..., Floats], sizes: Sequence[int], seed: int, resamples: int | None = None
) -> Floats | None:
    """The statistic on resamples of samples of these sizes (clusters, runs), without non-finite values.

    It is not finite if a resample has no item of an item set, or if a part of a harmonic mean is negative. Returns None
    if that holds for most resamples, because the others are then not representative.
    """
    from scipy import stats

    resamples = resamples or RESAMPLES

    def vectorized(*index: NDArray[np.intp], axis: int = -1) -> Floats:
        return statistic(*index)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # from scipy's own interval, which is not used
        drawn = stats.bootstrap(
            tuple(np.arange(size) for size in sizes),
            vectorized,
            n_resamples=resamples,
            vectorized=True,
            batch=200,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
    usable = np.asarray(drawn[np.isfinite(drawn)])
    return usable if usable.size > resamples // 2 else None


def bootstrap_se(evaluation: Evaluation, combine: Combine, seed: int = 0) -> float | None:
    """Standard error of a combined value (cluster bootstrap over items); None if a part has too few clusters.

    Of scores that are all 0 or all 1 it is that of one share (`unanimous_se`).
    """
    data = cluster_sums([evaluation])
    if not _enough(data):
        return None
    size = data.counts.shape[1]
    drawn = _resampled(lambda index: combined(data, index, combine)[0], (size,), seed)
    if drawn is None:
        return None
    if any(np.array_equal(data.sums[0], share * data.counts) for share in (0, 1)):
        return unanimous_se(size)
    return float(drawn.std(ddof=1) * np.sqrt(size / (size - 1)))


def paired_difference(a: Evaluation, b: Evaluation, combine: Combine, seed: int = 0) -> Difference | None:
    """`a - b` on the items scored by both, with the 95 % percentile interval of the paired cluster bootstrap.

    Returns:
        The difference, or None if a part has too few clusters scored by both.

    Raises:
        ValueError: The evaluations are of different item sets.
    """
    return difference_over_runs([a], [b], combine, seed)


def difference_over_runs(
    runs: Sequence[Evaluation], others: Sequence[Evaluation], combine: Combine, seed: int = 0
) -> Difference | None:
    """Mean over `runs` (seeds) minus mean over `others`, with a 95 % interval over items and over runs.

    Returns:
        The difference, or None if a part has too few clusters scored by all runs of both sides.

    Raises:
        ValueError: The evaluations are of different item sets.
    """
    resampled = resampled_difference([Pair(runs, others, combine)], seed)
    return None if resampled is None else resampled.difference


def resampled_difference(pairs: Sequence[Pair], seed: int = 0) -> Resampled | None:
    """The mean over tasks of "mean of the runs minus mean of the others", resampled within each task.

    Clusters of items are drawn jointly for both sides; runs are drawn independently for each side, so the interval
    covers other items and other seeds. A side with a single run is not resampled, so its variation over seeds is not
    included. Items that a run could not score are removed from all runs of their task.

    Drawing items and runs counts their interaction more than once, which makes intervals wider; few runs make them
    narrower. Few clusters are corrected for (`small_sample_factor`). In simulations with 200 items and equal sides, 94
    to 100 % of the intervals contain zero if runs vary little, and 89 % if 2 or 3 runs vary more than their items
    explain. More runs help.

    Returns:
        The difference and its resamples, or None if a part of a task has too few clusters scored by all runs.

    Raises:
        ValueError: The evaluations of a pair are of different item sets.
    """
    data = [cluster_sums([*pair.runs, *pair.others]) for pair in pairs]
    if not all(_enough(task) for task in data):
        return None
    sizes = [
        size
        for pair, task in zip(pairs, data, strict=True)
        for size in (task.counts.shape[1], len(pair.runs), len(pair.others))
        if size > 1
    ]

    def difference(*index: NDArray[np.intp]) -> Floats:
        indices = iter(index)
        total = np.zeros(())
        for pair, task in zip(pairs, data, strict=True):
            values = combined(task, next(indices), pair.combine)
            cut = len(pair.runs)
            total = total + (_over_runs(values[:cut], indices) - _over_runs(values[cut:], indices))
        return total / len(pairs)

    value = float(difference(*(np.arange(size) for size in sizes)))
    if not np.isfinite(value):  # on the shared items a harmonic mean's part may be below zero
        return None
    if all((task.sums == task.sums[0]).all() for task in data):  # no resample can differ
        return Resampled(value, np.full(RESAMPLES, value))
    drawn = _resampled(difference, sizes, seed)
    if drawn is None:
        return None
    factor = small_sample_factor(min(_clusters(task) for task in data))
    return Resampled(value, value + factor * (drawn - value))


def _over_runs(values: Floats, indices: Iterator[NDArray[np.intp]]) -> Floats:
    """The mean over the drawn runs of `values` [runs, ...]; a single run is not drawn."""
    if len(values) == 1:
        return np.asarray(values[0])
    return np.asarray(np.take_along_axis(np.moveaxis(values, 0, -1), next(indices), axis=-1).mean(-1))
