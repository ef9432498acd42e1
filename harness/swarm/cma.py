"""CMA-ES on mixing coefficients (Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv 1604.00772; package `cmaes`).

Four methods are it with another start, other bounds, or another meaning of its numbers: `cma`, `cma_positive` and
`evol_merge` here, `lorahub` in its own file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from harness.swarm.groups import Deviations
from harness.swarm.update import Rows

__all__ = ["CmaEs", "cma", "cma_positive", "evol_merge"]

STEP = 0.2
"""Initial standard deviation of a coefficient: with ten experts as far from the mean of all as good mixtures were."""


TOTAL = 1.2
"""Total of the row where `cma_positive` starts: good mixtures were seen to have 1.2 to 1.6."""


class CmaEs:
    """CMA-ES without restarts.

    A missing value counts as the middle one of its generation, so that it pulls to neither side.

    Args:
        mean: Where it starts, [experts]; two or more.
        sigma: Initial standard deviation of every coefficient.
        seed: Of every random number.
        bounds: Lowest and highest value of its numbers; None for no bounds. It draws again what falls outside.
        rows: What its numbers [asked, experts] mean as rows; themselves by default.
        population: Rows a generation; by default the package's 4 + floor(3 ln n) for n experts.
    """

    def __init__(
        self,
        mean: Sequence[float],
        sigma: float,
        seed: int,
        bounds: tuple[float, float] | None = None,
        rows: Callable[[Rows], Rows] = lambda numbers: numbers,
        population: int | None = None,
    ) -> None:
        from cmaes import CMA

        n = len(mean)
        limits = None if bounds is None else np.tile(np.array(bounds), (n, 1))
        small = int(np.random.SeedSequence(seed).generate_state(1)[0])  # the package takes 32 bits
        start = np.array(mean, dtype=np.float64)
        with np.errstate(divide="ignore"):  # of two or three rows one is taken: a rate is 0, and a bound infinite
            self._cma = CMA(start, sigma, bounds=limits, seed=small, population_size=population)
        self._rows = rows
        self._asked: Rows | None = None

    @property
    def finished(self) -> str | None:
        """Whether it has converged; None while it can go on."""
        return "converged" if self._cma.should_stop() else None

    def ask(self) -> Rows:
        """The next generation as rows, [population, experts]."""
        if self._asked is None:
            self._asked = np.stack([self._cma.ask() for _ in range(self._cma.population_size)])
        return self._rows(self._asked)

    def tell(self, values: Sequence[float | None]) -> None:
        """The generation's values; of a generation without any nothing is learned."""
        if self._asked is None:
            raise ValueError("tell without ask")
        known = [value for value in values if value is not None]
        if known:
            middle = float(np.median(known))
            costs = [-(middle if value is None else value) for value in values]  # the package looks for the lowest
            self._cma.tell(list(zip(self._asked, costs, strict=True)))
        self._asked = None


def cma(experts: int, seed: int, population: int | None = None, groups: Deviations | None = None) -> CmaEs:
    """CMA-ES on the coefficients themselves, from the mean of all experts, without bounds.

    Args:
        experts: Columns of a row.
        seed: Of every random number.
        population: As in `CmaEs`.
        groups: What its numbers mean where groups of modules have coefficients of their own.
    """
    groups = groups or Deviations(experts)
    return CmaEs(groups.start(1.0 / experts), STEP, seed, rows=groups.rows, population=population)


def cma_positive(experts: int, seed: int, population: int | None = None, groups: Deviations | None = None) -> CmaEs:
    """CMA-ES on mixtures: negative coefficients count as zero, and the total is free; arguments as in `cma`.

    Without the bound it finds negative coefficients and long rows that fit the noise of dev; see docs/search.md.
    """
    told = groups or Deviations(experts)
    return CmaEs(
        told.start(TOTAL / experts),
        STEP,
        seed,
        rows=lambda numbers: np.maximum(told.rows(numbers), 0.0),
        population=population,
    )


def evol_merge(experts: int, seed: int) -> CmaEs:
    """Evolutionary merging in parameter space (Akiba et al., arXiv 2403.13187, section 3.1).

    As there, CMA-ES starts at 0.5 with standard deviation 1/6 and keeps its numbers in [0, 1]. Simplified: one number
    an expert instead of one a layer, and a weighted average, with weights that sum to 1, in place of TIES with DARE,
    whose densities the original evolves too. So it differs from `cma` in being bound to true averages.
    """
    return CmaEs([0.5] * experts, 1 / 6, seed, (0.0, 1.0), _averages)


def _averages(numbers: Rows) -> Rows:
    """Numbers that are not negative as weights that sum to 1; where all are zero, the mean of all experts."""
    totals = numbers.sum(axis=1, keepdims=True)
    return np.where(totals > 0, numbers / np.where(totals > 0, totals, 1.0), 1.0 / numbers.shape[1])
