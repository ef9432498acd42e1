"""The formulas of Algorithm 1 (Model Swarms, arXiv 2410.11163) as pure functions on mixing coefficients.

A particle is a row of coefficients over the initial experts, x_i = sum_j c_ij expert_j, so positions, velocities and
bests are arrays `[particles, experts]` in float64. All random factors of the algorithm are scalars per particle and
step, so this is exactly the published search in weight space, except for rounding. No I/O, no model, no state.

If groups of modules have coefficients of their own, arrays are `[particles, groups, experts]`, and the random factors
are scalars per particle, group and step: Algorithm 1 in every group, with one utility for all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
"""[particles, experts]"""
Row = NDArray[np.float64]
"""[experts]"""


class Weights(NamedTuple):
    """The four coefficients of the velocity."""

    inertia: float
    """phi_v, along the particle's own velocity."""
    cognitive: float
    """phi_p, towards its personal best."""
    social: float
    """phi_g, towards the global best."""
    repel: float
    """phi_w, away from the global worst."""


def populate(experts: int, particles: int, crossover_max: float, rng: np.random.Generator) -> Rows:
    """The initial positions: the experts themselves, then crossovers of two distinct random ones.

    A crossover is t x_a + (1 - t) x_b with t ~ U(0, crossover_max); the paper draws from U(0, 1), the reference code
    from U(0, 2). With fewer particles than experts the first experts are taken; a single expert is repeated.

    Returns:
        Rows [particles, experts], each summing to 1.
    """
    rows = np.zeros((particles, experts))
    for i in range(particles):
        if i < experts:
            rows[i, i] = 1.0
        elif experts == 1:
            rows[i, 0] = 1.0
        else:
            a, b = rng.choice(experts, size=2, replace=False)
            t = rng.uniform(0.0, crossover_max)
            rows[i, a], rows[i, b] = t, 1.0 - t
    return rows


def velocities_to_others(x: Rows, rng: np.random.Generator) -> Rows:
    """Initial velocity `random`: x_j - x_i for a random j other than i."""
    particles = x.shape[0]
    if particles == 1:
        return np.zeros_like(x)
    others: NDArray[np.int64] = (np.arange(particles) + rng.integers(1, particles, size=particles)) % particles
    return x[others] - x


def velocity(
    x: Rows, v: Rows, personal_best: Rows, global_best: Row, global_worst: Row, weights: Weights, r: Rows
) -> Rows:
    """The new velocity of every particle (Algorithm 1).

    v_i = (1/C) [ r_v phi_v v_i + r_p phi_p (p_i - x_i) + r_g phi_g (g - x_i) - r_w phi_w (w - x_i) ],
    C = r_v phi_v + r_p phi_p + r_g phi_g + r_w phi_w.

    Args:
        x: Positions [particles, experts] or [particles, groups, experts].
        v: Velocities, of the same shape.
        personal_best: p, of the same shape.
        global_best: g [experts] or [groups, experts].
        global_worst: w, of the same shape as g.
        weights: phi.
        r: Random factors in (0, 1), [particles, 4] or [particles, groups, 4], in the order of `weights`; with one group
            of factors, every group moves in the same way.

    Returns:
        Velocities, of the shape of x; zero where all factors of a particle are zero.
    """
    factors = r * np.asarray(weights)
    total = factors.sum(axis=-1, keepdims=True)
    pull = (
        factors[..., 0:1] * v
        + factors[..., 1:2] * (personal_best - x)
        + factors[..., 2:3] * (global_best - x)
        - factors[..., 3:4] * (global_worst - x)
    )
    new: Rows = np.divide(pull, total, out=np.zeros_like(pull), where=total > 0)
    return new


def move(x: Rows, v: Rows, step_length: float) -> Rows:
    """x_i + lambda v_i."""
    return x + step_length * v


def shared(x: Rows) -> Rows:
    """The mean over groups, [..., 1, experts] of x [..., groups, experts].

    Computed relative to the first group, so that it is exact for equal groups.
    """
    first = x[..., :1, :]
    mean: Rows = first + (x - first).mean(axis=-2, keepdims=True)
    return mean


def shrink(x: Rows, shrinkage: float) -> Rows:
    """The coefficients x [..., groups, experts], shrunk towards the mean over groups.

    x_g <- m + (1 - shrinkage) (x_g - m) with m the mean over groups, which does not change. More freedom fits more
    noise; this removes a part of it (not in the paper, which has one group).
    """
    mean = shared(x)
    return mean + (1.0 - shrinkage) * (x - mean)


def decay(step_length: float, factor: float, floor: float) -> float:
    """The next step length, max(lambda phi_lambda, lambda_min); once an iteration."""
    return max(step_length * factor, floor)


def restart(x: Rows, v: Rows, personal_best: Rows, which: NDArray[np.bool_]) -> tuple[Rows, Rows]:
    """Positions and velocities after the particles `which` [particles] are reset to their personal bests, at rest."""
    chosen = which[:, None]
    return np.where(chosen, personal_best, x), np.where(chosen, 0.0, v)
