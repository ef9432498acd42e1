"""Particle swarm optimisation behind ask and tell: the order of the formulas of `update.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.swarm import update
from harness.swarm.loop import Snapshot
from harness.swarm.settings import SwarmSettings
from harness.swarm.simplex import simplex
from harness.swarm.state import SwarmState
from harness.swarm.update import Rows, Weights


class ParticleSwarm:
    """The published search. `ask` for rows, evaluate them, `tell` their values; `state` is everything to save.

    With several groups of modules a row is [groups * experts], group after group. All groups start with the same
    coefficients; random factors are drawn per group, and the groups are shrunk towards their mean after every move.

    Args:
        experts: Number of initial experts, the columns of every row (of every group).
        settings: Hyperparameters.
        seed: Seed of the one generator.
        state: Continue from here instead of from a new population.
        groups: Groups of modules with coefficients of their own.
    """

    def __init__(
        self, experts: int, settings: SwarmSettings, seed: int, state: SwarmState | None = None, groups: int = 1
    ) -> None:
        self.settings = settings
        self._shape = (groups, experts)
        self._weights = Weights(settings.inertia, settings.cognitive, settings.social, settings.repel)
        self.state = state if state is not None else self._initial(experts, seed)
        self._moved: SwarmState | None = None
        self._evaluated: Rows = self.state.positions

    def _initial(self, experts: int, seed: int) -> SwarmState:
        s, rng = self.settings, np.random.default_rng(seed)
        groups, n = self._shape[0], s.particles
        x = self._projected(np.tile(update.populate(experts, n, s.crossover_max, rng), (1, groups)))
        v = update.velocities_to_others(x, rng) if s.initial_velocity == "random" else np.zeros_like(x)
        nothing, never = np.full(x.shape[1], np.nan), np.full(n, np.nan)
        return SwarmState(
            iteration=-1,
            positions=x,
            velocities=v,
            scores=never,
            personal_best=x,
            personal_best_scores=never,
            global_best=nothing,
            global_best_score=np.nan,
            global_worst=nothing,
            global_worst_score=np.nan,
            step_length=s.step_length,
            stagnation=np.zeros(n, dtype=np.int64),
            unchanged=0,
            restarted=np.zeros(n, dtype=bool),
            skipped=np.zeros(n, dtype=bool),
            random_state=dict(rng.bit_generator.state),
        )

    @property
    def finished(self) -> str | None:
        """Why the search is over; None if it is not."""
        if self.state.iteration >= self.settings.iterations:
            return f"{self.settings.iterations} iterations done"
        if self.state.unchanged >= self.settings.patience:
            return f"no better particle for {self.settings.patience} iterations"
        return None

    @property
    def best(self) -> tuple[update.Row, float | None]:
        """The global best row [groups * experts] and its score; None if nothing has a score."""
        score = self.state.global_best_score
        return self.state.global_best, None if np.isnan(score) else score

    @property
    def snapshot(self) -> Snapshot:
        """The state after the last `tell`; positions are the evaluated ones, before any restart."""
        s = self.state
        return Snapshot(s.iteration, self._evaluated, s.personal_best, s.step_length, s.restarted, s.skipped)

    @property
    def asked(self) -> NDArray[np.intp]:
        """Indices of the particles whose rows the last `ask` returned: all but the skipped ones."""
        return np.flatnonzero(~(self._moved or self.state).skipped)

    def ask(self) -> Rows:
        """Moves the swarm and returns the rows to evaluate next, [rows, experts], without skipped particles.

        Repeated calls return the same rows: only `tell` advances the state.
        """
        old, s = self.state, self.settings
        if old.iteration < 0:
            self._moved = replace(old, iteration=0)
            return self._moved.positions.copy()
        rng = _generator(old.random_state)
        n = s.particles
        # With shrinkage 1 one draw is used for all groups: the search is that of one group.
        r = rng.uniform(size=(n, 1 if s.shrinkage == 1 else self._shape[0], 4))
        r = r if s.random_factors else np.ones_like(r)
        all_drop, own_drop = rng.uniform(), rng.uniform(size=n)
        skipped = (own_drop < s.drop_particle) | (all_drop < s.drop_iteration)
        x, v = self._by_group(old.positions), self._by_group(old.velocities)
        if not np.isnan(old.global_best_score):
            p, g, w = (self._by_group(rows) for rows in (old.personal_best, old.global_best, old.global_worst))
            v = update.velocity(x, v, p, g, w, self._weights, r)
        x = update.shrink(update.move(x, v, old.step_length), s.shrinkage)
        self._moved = replace(
            old,
            iteration=old.iteration + 1,
            positions=self._projected(x.reshape(n, -1)),
            velocities=v.reshape(n, -1),
            step_length=update.decay(old.step_length, s.step_decay, s.step_floor),
            skipped=skipped,
            random_state=dict(rng.bit_generator.state),
        )
        return self._moved.positions[~skipped]

    def _projected(self, rows: Rows) -> Rows:
        return simplex(rows, self._shape[0]) if self.settings.simplex else rows

    def _by_group(self, rows: Rows) -> Rows:
        """Rows [..., groups * experts] as [..., groups, experts]."""
        return rows.reshape(*rows.shape[:-1], *self._shape)

    def tell(self, values: Sequence[float | None]) -> None:
        """Takes the values of the rows of the last `ask`, in order; None for a missing value.

        A missing value changes no best and no counter: it is not a low value.

        Raises:
            ValueError: `ask` was not called, or the number of values differs from the number of rows.
        """
        if self._moved is None:
            raise ValueError("tell without ask")
        state, s = self._moved, self.settings
        evaluated = np.flatnonzero(~state.skipped)
        if len(values) != evaluated.size:
            raise ValueError(f"{evaluated.size} values expected, got {len(values)}")
        scores = np.full(s.particles, np.nan)
        scores[evaluated] = [np.nan if value is None else value for value in values]
        present = ~np.isnan(scores)

        # Strict comparisons; a first score beats no score.
        improved = present & ~(scores <= state.personal_best_scores)
        personal_best = np.where(improved[:, None], state.positions, state.personal_best)
        personal_best_scores = np.where(improved, scores, state.personal_best_scores)
        stagnation = np.where(improved, 0, state.stagnation + present)

        best, best_score = state.global_best, state.global_best_score
        worst, worst_score = state.global_worst, state.global_worst_score
        # An iteration without any value is not counted; one that drop-K skipped is, as in Algorithm 1.
        unchanged = state.unchanged + (state.iteration > 0 and (present.any() or evaluated.size == 0))
        if present.any():
            top, bottom = int(np.nanargmax(scores)), int(np.nanargmin(scores))
            if not scores[top] <= best_score:
                best, best_score, unchanged = state.positions[top], float(scores[top]), 0
            if not scores[bottom] >= worst_score:
                worst, worst_score = state.positions[bottom], float(scores[bottom])

        positions, velocities = state.positions, state.velocities
        if state.iteration == 0 and s.initial_velocity == "best" and not np.isnan(best_score):
            velocities = best - positions
        restarted = present & (stagnation >= s.restart_patience)
        positions, velocities = update.restart(positions, velocities, personal_best, restarted)
        if s.restart_reset:
            stagnation = np.where(restarted, 0, stagnation)
        self.state = replace(
            state,
            positions=positions,
            velocities=velocities,
            scores=np.where(present, scores, state.scores),
            personal_best=personal_best,
            personal_best_scores=personal_best_scores,
            global_best=best,
            global_best_score=best_score,
            global_worst=worst,
            global_worst_score=worst_score,
            stagnation=stagnation,
            unchanged=int(unchanged),
            restarted=restarted,
        )
        self._moved = None
        # A skipped particle keeps its last score and the position that the score belongs to.
        self._evaluated = np.where(state.skipped[:, None], self._evaluated, state.positions)


def _generator(state: dict[str, Any]) -> np.random.Generator:
    rng = np.random.default_rng()
    rng.bit_generator.state = state
    return rng
