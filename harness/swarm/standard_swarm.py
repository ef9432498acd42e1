"""The standard particle swarm on mixtures: a constriction factor, and random factors a coefficient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.swarm.random_search import random_mixtures
from harness.swarm.update import Rows

__all__ = ["StandardSwarm"]

CONSTRICTION, PULL = 0.7298, 2.05
"""chi and phi_1 = phi_2 of Clerc and Kennedy 2002, as in "Defining a Standard for Particle Swarm Optimization"."""
TOTAL = (0.8, 1.6)
"""Totals of the first rows."""
BOUNCE = 0.5
"""What is left of a velocity that met the border, turned round."""


class StandardSwarm:
    """Particle swarm optimisation with constriction (Clerc and Kennedy 2002; Bratton and Kennedy 2007).

    v <- chi (v + phi r_1 (p - x) + phi r_2 (g - x)), x <- x + v, with r drawn for every coefficient, so that, unlike
    the published search, a particle may leave the plane that its start, its best and the swarm's best span. It begins
    at random mixtures, and coefficients stay at zero or above: a particle that would go below stops there and turns.

    Args:
        experts: Columns of a row.
        particles: Rows an `ask`.
        seed: Seed of the one generator.
    """

    finished: str | None = None
    """It can always go on."""

    def __init__(self, experts: int, particles: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._x = random_mixtures(experts, particles, TOTAL, self._rng)
        self._x[0] = 1.0 / experts  # the mean of all
        self._v = (self._x[self._rng.permutation(particles)] - self._x) / 2
        self._best, self._values = self._x.copy(), np.full(particles, -np.inf)
        self._moved = True

    def ask(self) -> Rows:
        """The next positions, [particles, experts]."""
        if not self._moved:
            self._move()
            self._moved = True
        return self._x.copy()

    def _move(self) -> None:
        top = self._best[int(self._values.argmax())]
        r = self._rng.uniform(size=(2, *self._x.shape))
        pull = PULL * (r[0] * (self._best - self._x) + r[1] * (top - self._x))
        self._v = CONSTRICTION * (self._v + pull)
        self._x = self._x + self._v
        below = self._x < 0
        self._x, self._v = np.where(below, 0.0, self._x), np.where(below, -BOUNCE * self._v, self._v)

    def tell(self, values: Sequence[float | None]) -> None:
        """The values of the positions; a missing one changes no best."""
        told = np.array([-np.inf if value is None else value for value in values])
        better = told > self._values
        self._best[better], self._values[better] = self._x[better], told[better]
        self._moved = False
