"""Selection bias of a search: by how much the dev value of its winner is too high.

Choosing the best of the evaluated rows is one part of it. The other part is larger: every later row lies where dev is
high, also by chance. Both are estimated by cross-fitting from stored answers. The items are split into folds. For each
fold the search is repeated on a response surface of the other items, and its winner is compared on both sides: the
fold did not take part in choosing it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utilities.core import Evaluation
from utilities.statistics import ClusterSums, Combine, cluster_sums, combined

__all__ = ["Repeated", "SearchAgain", "selection_bias"]

Floats = NDArray[np.float64]

FOLDS = 5
ROWS_PER_TERM = 2
"""Fewest rows for each term of the response surface."""
RIDGE = 1e-3
LEAST_FIT = 0.5
"""Share of the variance of the objective over the rows that the response surface must explain."""


class Repeated(NamedTuple):
    """The winner of a repeated search."""

    row: Floats
    """[columns]"""
    place: int | None
    """Its place among the rows in the order of evaluation; None for a row that was not evaluated, such as a mean."""


SearchAgain = Callable[[Callable[[Floats], list[float]], int], Repeated]
"""(values of rows [rows, columns], seed) -> the winner of the same search with these values."""


class _Surface:
    """A quadratic response surface over rows by ridge regression: intercept, slopes, and one curvature for all columns.

    A curvature for each column extrapolates badly from the few rows of a search.
    """

    def __init__(self, rows: Floats) -> None:
        self._mean, self._scale = rows.mean(axis=0), max(float(rows.std()), 1e-9)
        terms = self._terms(rows)
        penalty = RIDGE * np.eye(terms.shape[1])
        penalty[0, 0] = 0.0
        self._solve = np.linalg.solve(terms.T @ terms + penalty, terms.T)

    def _terms(self, rows: Floats) -> Floats:
        z = (rows - self._mean) / self._scale
        return np.hstack([np.ones((len(rows), 1)), z, np.square(z).sum(axis=1, keepdims=True)])

    def at(self, rows: Floats, values: Floats) -> Floats:
        """The surface through `values` [rows of the fit, ...] at other rows, [rows, ...]."""
        return np.asarray(self._terms(rows) @ (self._solve @ values))


def selection_bias(
    rows: Floats,
    objective: Sequence[Evaluation],
    metric: Sequence[Evaluation],
    combine: Combine,
    search: SearchAgain,
    seed: int = 0,
) -> float | None:
    """By how much the metric of a search's winner on dev is expected to be higher than on other items.

    In the simulations of `tests/benchmarks/test_selection_bias_estimate.py` (flat, gentle and peaked objectives), the
    mean estimate is between 0.7 and 1.3 times the truth, or within 0.4 points of it, up to two of its standard errors.

    Args:
        rows: [rows, columns] that were evaluated.
        objective: What the search maximised, on the same items for every row.
        metric: The reported values, in the same order.
        combine: Combines the values of the parts.
        search: Repeats the search.
        seed: Seed of the folds and of the repeated searches.

    Returns:
        The estimate; None if the rows are too few or the items too few for folds, or if the objective is no smooth
        function of the rows.
    """
    if len(rows) < ROWS_PER_TERM * (rows.shape[1] + 2):
        return None
    data = cluster_sums([*objective, *metric])
    clusters = data.counts.shape[1]
    if clusters < 2 * FOLDS:
        return None
    surface = _Surface(rows)
    whole = _values(data, np.arange(clusters), combine)
    if whole is None or _fit(surface, rows, whole[: len(rows)]) < LEAST_FIT:
        return None
    rng = np.random.default_rng(seed)
    differences = []
    order = rng.permutation(clusters)
    order = order[np.argsort(data.counts[:, order].argmax(axis=0), kind="stable")]  # every fold has items of all parts
    for k in range(FOLDS):
        fold = order[k::FOLDS]
        rest, held = (_values(data, part, combine) for part in (np.setdiff1d(order, fold), fold))
        if rest is None or held is None:
            return None
        differences.append(_difference(surface, rows, rest, held, search, rng, seed + k))
    return float(np.mean(differences))


def _values(data: ClusterSums, clusters: NDArray[np.intp], combine: Combine) -> Floats | None:
    """The combined values of all evaluations on some clusters; None if one is not defined."""
    part = ClusterSums(data.sums[:, :, clusters], data.counts[:, clusters], data.names)
    values = combined(part, np.arange(len(clusters)), combine)
    return values if np.isfinite(values).all() else None


def _fit(surface: _Surface, rows: Floats, values: Floats) -> float:
    spread = float(np.square(values - values.mean()).sum())
    return 1 - float(np.square(values - surface.at(rows, values)).sum()) / spread if spread > 0 else 1.0


def _difference(
    surface: _Surface,
    rows: Floats,
    rest: Floats,
    held: Floats,
    search: SearchAgain,
    rng: np.random.Generator,
    seed: int,
) -> float:
    """The metric on `rest` minus that on `held` of the winner of a search on `rest`.

    Rows differ from the surface by chance, so every new row gets the residuals of a row that was evaluated.
    """
    count = len(rows)
    columns = np.stack([rest[:count], rest[count:], held[count:]], axis=1)
    residuals = columns - surface.at(rows, columns)
    drawn: list[int] = []

    def value_of(new: Floats) -> list[float]:
        own = rng.integers(count, size=len(new))
        drawn.extend(int(k) for k in own)
        return [float(v) for v in surface.at(new, columns[:, 0]) + residuals[own, 0]]

    winner = search(value_of, seed)
    _, on_rest, on_held = surface.at(winner.row[None], columns)[0]
    if winner.place is not None:
        on_rest += residuals[drawn[winner.place], 1]
        on_held += residuals[drawn[winner.place], 2]
    return float(on_rest - on_held)
