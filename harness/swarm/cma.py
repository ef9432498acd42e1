"""CMA-ES on mixing coefficients (Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv 1604.00772; package `cmaes`).

Four methods use it with different starts, bounds, or mappings of its numbers to rows: `cma`, `cma_positive` and
`evol_merge` here, `lorahub` in its own file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from harness.swarm.groups import Deviations
from harness.swarm.update import Rows

__all__ = ["CmaEs", "cma", "cma_positive", "evol_merge"]

STEP = 0.2
"""Initial standard deviation of a coefficient: with ten experts about the distance of good mixtures from the mean."""

TOTAL = 1.2
"""Sum of the row where `cma_positive` starts; good mixtures had sums of 1.2 to 1.6."""


class CmaEs:
    """CMA-ES without restarts.

    A missing value counts as the median of its generation, so that it has no influence on the direction.

    Args:
        mean: Start, [experts]; at least two.
        sigma: Initial standard deviation of every coefficient.
        seed: Seed of every random number.
        bounds: Lowest and highest value of its numbers, or None; values outside are drawn again.
        rows: Maps its numbers [population, experts] to rows; the identity by default.
        population: Rows per generation; by default the package's 4 + floor(3 ln n) for n experts.
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
        with np.errstate(divide="ignore"):  # with two or three rows only one is selected: a rate is 0
            self._cma = CMA(start, sigma, bounds=limits, seed=small, population_size=population)
        self._rows = rows
        self._numbers: Rows | None = None

    @property
    def finished(self) -> str | None:
        """ "converged", or None."""
        return "converged" if self._cma.should_stop() else None

    def ask(self) -> Rows:
        """The next generation as rows, [population, experts]."""
        if self._numbers is None:
            self._numbers = np.stack([self._cma.ask() for _ in range(self._cma.population_size)])
        return self._rows(self._numbers)

    def tell(self, values: Sequence[float | None]) -> None:
        """Takes the values of the generation; one without any value is ignored."""
        if self._numbers is None:
            raise ValueError("tell without ask")
        present = [value for value in values if value is not None]
        if present:
            median = float(np.median(present))
            costs = [-(median if value is None else value) for value in values]  # the package minimises
            self._cma.tell(list(zip(self._numbers, costs, strict=True)))
        self._numbers = None


def cma(experts: int, seed: int, population: int | None = None, groups: Deviations | None = None) -> CmaEs:
    """CMA-ES on the coefficients themselves, from the mean of all experts, without bounds.

    Args:
        experts: Columns of a row.
        seed: Seed of every random number.
        population: As in `CmaEs`.
        groups: Maps its numbers to rows if groups of modules have coefficients of their own.
    """
    groups = groups or Deviations(experts)
    return CmaEs(groups.start(1.0 / experts), STEP, seed, rows=groups.rows, population=population)


def cma_positive(experts: int, seed: int, population: int | None = None, groups: Deviations | None = None) -> CmaEs:
    """CMA-ES on mixtures: negative coefficients count as zero, and the sum is free; arguments as in `cma`.

    Without the bound it finds negative coefficients and large sums that fit the noise of dev; see docs/search.md.
    """
    groups = groups or Deviations(experts)
    return CmaEs(
        groups.start(TOTAL / experts),
        STEP,
        seed,
        rows=lambda numbers: np.maximum(groups.rows(numbers), 0.0),
        population=population,
    )


def evol_merge(experts: int, seed: int) -> CmaEs:
    """Evolutionary merging in parameter space (Akiba et al., arXiv 2403.13187, section 3.1).

    The paper starts three models at 0.5 each with standard deviation 1/6, within [0, 1] and with a free sum. More
    experts start at the same sum, with the same ratio of both. Simplified: one weight per expert instead of one weight
    and one density per layer, and no TIES with DARE.
    """
    return CmaEs([1.5 / experts] * experts, 0.5 / experts, seed, (0.0, 1.0))
