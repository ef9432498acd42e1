"""Searches other than the published swarm, with coefficients for each group of modules.

The published swarm handles groups itself, because its random factors are drawn per group. For the others, a row is the
sum of shared coefficients and a deviation per group. The deviations are shrunk, because more freedom fits more noise.
With shrinkage 1 there are no deviations: it is the search of the whole model, with its coefficients in every group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from harness.swarm.drivers import SearchStrategy
from harness.swarm.update import Rows

__all__ = ["Deviations", "Drawn", "rows_of_groups"]


def rows_of_groups(shared: Rows, deviations: Rows, shrinkage: float) -> Rows:
    """Rows [rows, groups * experts]: shared + (1 - shrinkage) deviation, group after group.

    Args:
        shared: Coefficients of all groups, [rows, experts].
        deviations: Added to them per group, [rows, groups, experts].
        shrinkage: Fraction of the deviations that is removed.
    """
    return (shared[:, None] + (1.0 - shrinkage) * deviations).reshape(len(shared), -1)


class Deviations:
    """Maps the numbers of a search to rows of groups: shared coefficients, then the deviations of each group.

    Args:
        experts: Columns of a group's row.
        groups: Groups of modules.
        shrinkage: As in `rows_of_groups`.
    """

    def __init__(self, experts: int, groups: int = 1, shrinkage: float = 0.0) -> None:
        self._experts, self._groups, self._shrinkage = experts, groups, shrinkage
        self._deviating = groups > 1 and shrinkage < 1

    def start(self, coefficient: float) -> list[float]:
        """The numbers [experts + groups * experts] that stand for equal coefficients in all groups."""
        return [coefficient] * self._experts + [0.0] * (self._groups * self._experts * self._deviating)

    def rows(self, numbers: Rows) -> Rows:
        """The rows [rows, groups * experts] of numbers [rows, experts + groups * experts]."""
        if not self._deviating:
            return np.tile(numbers, (1, self._groups))
        parts = numbers.reshape(len(numbers), 1 + self._groups, self._experts)
        return rows_of_groups(parts[:, 0], parts[:, 1:], self._shrinkage)


class Drawn:
    """A search without feedback, such as random search: the row of each group has the distribution of the shared row.

    The deviation of a group is its own row minus the shared one, so its coefficients lie between the two.

    Args:
        make: Makes the search of one group from a seed.
        groups: Groups of modules.
        shrinkage: As in `rows_of_groups`.
        seed: Seed of the shared rows; the seeds of the groups are derived from it.
    """

    finished: str | None = None
    """It never ends by itself."""

    def __init__(self, make: Callable[[int], SearchStrategy], groups: int, shrinkage: float, seed: int) -> None:
        deviating = groups > 1 and shrinkage < 1
        seeds = np.random.SeedSequence(seed).generate_state(groups if deviating else 0)
        self._shared, self._own = make(seed), [make(int(one)) for one in seeds]
        self._groups, self._shrinkage = groups, shrinkage

    def ask(self) -> Rows:
        """The next rows, [rows, groups * experts]."""
        shared = self._shared.ask()
        if not self._own:
            return np.tile(shared, (1, self._groups))
        own = np.stack([one.ask() for one in self._own], axis=1)
        return rows_of_groups(shared, own - shared[:, None], self._shrinkage)

    def tell(self, values: Sequence[float | None]) -> None:
        """Does nothing."""
