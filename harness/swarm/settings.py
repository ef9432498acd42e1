"""Settings of a search: optimiser, hyperparameters, and presets of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["PRESETS", "VARIANTS", "SwarmSettings"]


class SwarmSettings(BaseModel):
    """Which search, and the hyperparameters of Algorithm 1 for the published one.

    If the paper swept a value, the default is its author's later single-run choice. The other defaults are the best of
    `docs/search.md`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    optimiser: str = "cma-positive"
    """Proposes the next rows: cma-positive (CMA-ES without negative coefficients), cma, pso (the published swarm),
    pso-standard (a swarm with constriction), random, a registered name, or FILE.py:NAME."""
    winner: Literal["top-k-mean", "best"] = "top-k-mean"
    """top-k-mean: the mean of the best rows, unless the best row is significantly better on dev; best: the best row."""
    top_k: int = Field(10, ge=1, le=10_000)
    """Rows that --winner top-k-mean averages; at most a quarter of those that were evaluated."""
    simplex: bool = Field(False, exclude_if=lambda value: not value)
    """Every row is replaced by the nearest one whose coefficients are not negative and sum to 1; always so with
    --mix tokens."""
    particles: int = Field(20, ge=1, le=10_000)
    """N: particles of the swarm, or rows per iteration of another search."""
    iterations: int = Field(50, ge=0, le=1_000_000)
    """K: moves of the whole swarm, after the evaluation of the initial population; or iterations of another search."""
    inertia: float = Field(0.2, ge=0)
    """phi_v: weight of the particle's own velocity."""
    cognitive: float = Field(0.3, ge=0)
    """phi_p: pull of the personal best."""
    social: float = Field(0.4, ge=0)
    """phi_g: pull of the global best."""
    repel: float = Field(0.05, ge=0)
    """phi_w: push away from the global worst."""
    step_length: float = Field(0.5, gt=0)
    """lambda: how far a particle moves along its velocity."""
    step_decay: float = Field(0.95, gt=0, le=1)
    """phi_lambda: factor of the step length after every iteration."""
    step_floor: float = Field(0.0, ge=0)
    """lambda_min: lower limit of the step length."""
    patience: int = Field(10, ge=1)
    """c: the search stops after so many iterations without a better global best."""
    restart_patience: int = Field(5, ge=1)
    """c_r: a particle is reset to its personal best after so many evaluations without improving it."""
    restart_reset: bool = True
    """Whether a restart resets the particle's stagnation counter; the reference code never resets it."""
    random_factors: bool = True
    """Whether the factors r of the velocity are drawn from U(0, 1), as published; else they are 1."""
    initial_velocity: Literal["random", "zero", "best"] = "random"
    """Towards a random other particle, zero, or towards the global best."""
    crossover_max: float = Field(1.0, gt=0)
    """Crossover weights are drawn from U(0, this)."""
    drop_iteration: float = Field(0.0, ge=0, lt=1)
    """drop-K: probability that a whole iteration moves without being evaluated."""
    drop_particle: float = Field(0.0, ge=0, lt=1)
    """drop-N: probability that a particle moves without being evaluated."""
    shrinkage: float = Field(0.5, ge=0, le=1)
    """With --granularity: fraction by which each group's coefficients are shrunk towards the mean over groups."""


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {"optimiser": "pso", "objective": "metric", "winner": "best"},
}
"""`paper` is the published search: its moves, the metric as objective, the best particle as winner."""

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "reference": {
        "inertia": 0.4,
        "cognitive": 0.3,
        "social": 0.3,
        "repel": 0.3,
        "step_length": 1.0,
        "step_floor": 0.1,
        "iterations": 200,
        "restart_reset": False,
        "crossover_max": 2.0,
    },
}
"""Changes of each variant to the defaults: `reference` makes the choices of the authors' code."""
