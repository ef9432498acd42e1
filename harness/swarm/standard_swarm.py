"""The standard particle swarm on mixtures: a constriction factor, and a random factor per coefficient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.swarm.random_search import random_mixtures
from harness.swarm.update import Rows, shrink, velocities_to_others

__all__ = ["StandardSwarm"]

CONSTRICTION, PULL = 0.7298, 2.05
"""chi and phi_1 = phi_2 of Clerc and Kennedy 2002, as in "Defining a Standard for Particle Swarm Optimization"."""
TOTAL = (0.8, 1.6)
"""Range of the sums of the first rows."""
BOUNCE = 0.5
"""Factor of a velocity that is reversed at the border."""


class StandardSwarm:
    """Particle swarm optimisation with constriction (Clerc and Kennedy 2002; Bratton and Kennedy 2007).

    v <- chi (v + phi r_1 (p - x) + phi r_2 (g - x)), x <- x + v, with r drawn for every coefficient. Unlike in
    the published search, a particle can leave the plane spanned by its start, its best and the swarm's best. It starts
    at random mixtures, and coefficients are not negative: a particle that would go below zero stops and reverses.

    Args:
        experts: Columns of a row (of every group).
        particles: Rows per `ask`.
        seed: Seed of the one generator.
        groups: Groups of modules with coefficients of their own; all start equal.
        shrinkage: Fraction of the groups' deviations from their mean that every move removes.
    """

    finished: str | None = None
    """It never ends by itself."""

    def __init__(self, experts: int, particles: int, seed: int, groups: int = 1, shrinkage: float = 0.0) -> None:
        self._rng, self._shrinkage = np.random.default_rng(seed), shrinkage
        first = random_mixtures(experts, particles, TOTAL, self._rng)
        first[0] = 1.0 / experts  # the mean of all
        self._x = np.repeat(first[:, None], groups, axis=1)
        self._v = np.repeat(velocities_to_others(first, self._rng)[:, None], groups, axis=1) / 2
        self._best, self._values = self._x.copy(), np.full(particles, -np.inf)
        self._moved = True

    def ask(self) -> Rows:
        """The next positions, [particles, groups * experts]."""
        if not self._moved:
            self._move()
            self._moved = True
        return self._x.reshape(len(self._x), -1).copy()

    def _move(self) -> None:
        top = self._best[int(self._values.argmax())]
        particles, groups, experts = self._x.shape
        # With shrinkage 1 one draw is used for all groups.
        r = self._rng.uniform(size=(2, particles, 1 if self._shrinkage == 1 else groups, experts))
        pull = PULL * (r[0] * (self._best - self._x) + r[1] * (top - self._x))
        self._v = CONSTRICTION * (self._v + pull)
        self._x = self._x + self._v
        below = self._x < 0
        self._x, self._v = np.where(below, 0.0, self._x), np.where(below, -BOUNCE * self._v, self._v)
        self._x = shrink(self._x, self._shrinkage)

    def tell(self, values: Sequence[float | None]) -> None:
        """Takes the values of the positions; a missing one changes no best."""
        scores = np.array([-np.inf if value is None else value for value in values])
        better = scores > self._values
        self._best[better], self._values[better] = self._x[better], scores[better]
        self._moved = False
