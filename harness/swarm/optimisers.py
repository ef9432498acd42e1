"""The searches that `--optimiser` names, each over rows of mixing coefficients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from harness.swarm.budgeted import Stepwise, Told
from harness.swarm.cma import cma, cma_positive
from harness.swarm.generations import Generations
from harness.swarm.particle_swarm import ParticleSwarm
from harness.swarm.random_search import RandomSearch
from harness.swarm.search import Optimiser
from harness.swarm.settings import SwarmSettings
from harness.swarm.standard_swarm import StandardSwarm
from harness.swarm.state import SwarmState
from utilities.registry import Registry

__all__ = ["make_optimiser", "make_stepwise", "optimisers"]

optimisers: Registry[Callable[[int, SwarmSettings, int], Stepwise]] = Registry("optimiser")
"""Makers of searches: (columns of a row, settings, seed) -> search at its beginning."""

optimisers.register("pso")(ParticleSwarm)


@optimisers.register("pso-standard")
def _pso_standard(columns: int, settings: SwarmSettings, seed: int) -> Stepwise:
    return StandardSwarm(columns, settings.particles, seed)


@optimisers.register("random")
def _random(columns: int, settings: SwarmSettings, seed: int) -> Stepwise:
    return RandomSearch(columns, seed, settings.particles)


@optimisers.register("cma")
def _cma(columns: int, settings: SwarmSettings, seed: int) -> Stepwise:
    if columns == 1 or settings.particles < 2:  # no covariance to adapt
        return _random(columns, settings, seed)
    return cma(columns, seed, settings.particles)


@optimisers.register("cma-positive")
def _cma_positive(columns: int, settings: SwarmSettings, seed: int) -> Stepwise:
    if columns == 1 or settings.particles < 2:
        return _random(columns, settings, seed)
    return cma_positive(columns, seed, settings.particles)


def make_stepwise(columns: int, settings: SwarmSettings, seed: int) -> Stepwise:
    """The search of the settings, to be driven by whoever counts evaluations."""
    return optimisers.get(settings.optimiser)(columns, settings, seed)


def make_optimiser(
    columns: int, experts: int, settings: SwarmSettings, seed: int, state: Mapping[str, Any] | None = None
) -> Optimiser:
    """The search of the settings as an optimiser that ends and can be saved.

    Args:
        columns: Columns of a row: the experts, and the base model where it is an anchor.
        experts: Initial experts: the first columns. The published swarm begins at them; others look at them first.
        settings: Which search, and for how long.
        seed: Of every random number.
        state: `state.to_dict()` of an earlier one.

    Raises:
        KeyError, TypeError, ValueError: The state is none of this search.
    """
    if settings.optimiser == "pso":
        return ParticleSwarm(columns, settings, seed, None if state is None else SwarmState.from_dict(dict(state)))
    inner = make_stepwise(columns, settings, seed)
    told = None if state is None else Told.from_dict(dict(state))
    return Generations(inner, np.eye(columns)[:experts], settings.iterations, settings.patience, told)
