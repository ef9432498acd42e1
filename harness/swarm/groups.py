"""Searches other than the published swarm, with coefficients for each group of modules.

The published swarm has its groups inside, as its random factors are drawn for each. For the others a row is made of
what all groups share and of how each group differs from that, and a part of the difference is taken back, because more
freedom fits more noise. Where nothing of it would be left, there are no such numbers: it is the search of the whole
model, with its coefficients for every group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from harness.swarm.drivers import Stepwise
from harness.swarm.update import Rows

__all__ = ["Deviations", "Drawn", "rows_of_groups"]


def rows_of_groups(shared: Rows, deviations: Rows, shrinkage: float) -> Rows:
    """Rows [rows, groups * experts]: shared + (1 - shrinkage) deviation, group after group.

    Args:
        shared: What all groups have in common, [rows, experts].
        deviations: What each adds to it, [rows, groups, experts].
        shrinkage: The part of the deviations that is taken away.
    """
    return (shared[:, None] + (1.0 - shrinkage) * deviations).reshape(len(shared), -1)


class Deviations:
    """What the numbers of a search mean as rows of groups: the shared coefficients, then each group's deviations.

    Args:
        experts: Columns of a group's row.
        groups: Groups of modules.
        shrinkage: As in `rows_of_groups`.
    """

    def __init__(self, experts: int, groups: int = 1, shrinkage: float = 0.0) -> None:
        self._experts, self._groups, self._shrinkage = experts, groups, shrinkage
        self._deviating = groups > 1 and shrinkage < 1

    def start(self, coefficient: float) -> list[float]:
        """The numbers [experts + groups * experts] of equal coefficients of all experts in all groups."""
        return [coefficient] * self._experts + [0.0] * (self._groups * self._experts * self._deviating)

    def rows(self, numbers: Rows) -> Rows:
        """The rows [rows, groups * experts] of numbers [rows, experts + groups * experts]."""
        if not self._deviating:
            return np.tile(numbers, (1, self._groups))
        parts = numbers.reshape(len(numbers), 1 + self._groups, self._experts)
        return rows_of_groups(parts[:, 0], parts[:, 1:], self._shrinkage)


class Drawn:
    """A search that learns nothing, such as random search: each group's row is drawn by the same law as the shared one.

    The deviation of a group is its own row minus the shared one, so what it gets lies between the two.

    Args:
        make: Makes the search of one group from a seed.
        groups: Groups of modules.
        shrinkage: As in `rows_of_groups`.
        seed: Of the shared rows; the groups' own come from seeds that follow from it.
    """

    finished: str | None = None
    """It can always go on."""

    def __init__(self, make: Callable[[int], Stepwise], groups: int, shrinkage: float, seed: int) -> None:
        deviating = groups > 1 and shrinkage < 1
        seeds = np.random.SeedSequence(seed).generate_state(groups if deviating else 0)
        self._shared, self._own = make(seed), [make(int(one)) for one in seeds]
        self._groups, self._shrinkage = groups, shrinkage

    def ask(self) -> Rows:
        """The next rows, [asked, groups * experts]."""
        shared = self._shared.ask()
        if not self._own:
            return np.tile(shared, (1, self._groups))
        own = np.stack([one.ask() for one in self._own], axis=1)
        return rows_of_groups(shared, own - shared[:, None], self._shrinkage)

    def tell(self, values: Sequence[float | None]) -> None:
        """Learns nothing."""
