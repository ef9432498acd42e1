"""The searches that `--optimiser` names, each over rows of mixing coefficients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from harness.swarm.cma import cma, cma_positive
from harness.swarm.drivers import Budgeted, Generations, History, SearchStrategy
from harness.swarm.groups import Deviations, Drawn
from harness.swarm.loop import Optimiser
from harness.swarm.particle_swarm import ParticleSwarm
from harness.swarm.random_search import RandomSearch
from harness.swarm.settings import SwarmSettings
from harness.swarm.simplex import OnSimplex
from harness.swarm.standard_swarm import StandardSwarm
from harness.swarm.state import SwarmState
from utilities.registry import Registry

__all__ = ["make_budgeted", "make_optimiser", "make_strategy", "optimisers"]

optimisers: Registry[Callable[[int, SwarmSettings, int, int], SearchStrategy]] = Registry(
    "optimiser", ("harness.swarm",), ("optimisers.register",), group="model_swarms.optimisers"
)
"""Makers of searches: (columns of one group's row, settings, seed, groups) -> search at its beginning."""


@optimisers.register("pso")
def _pso(columns: int, settings: SwarmSettings, seed: int, groups: int) -> SearchStrategy:
    """The published particle swarm (Algorithm 1)."""
    return ParticleSwarm(columns, settings, seed, groups=groups)


@optimisers.register("pso-standard")
def _pso_standard(columns: int, settings: SwarmSettings, seed: int, groups: int) -> SearchStrategy:
    """A particle swarm with constriction and random factors for each coefficient."""
    return StandardSwarm(columns, settings.particles, seed, groups, settings.shrinkage)


@optimisers.register("random")
def _random(columns: int, settings: SwarmSettings, seed: int, groups: int) -> SearchStrategy:
    """Random mixtures: non-negative coefficients with a sum from 0.5 to 2."""
    return Drawn(lambda own: RandomSearch(columns, own, settings.particles), groups, settings.shrinkage, seed)


@optimisers.register("cma")
def _cma(columns: int, settings: SwarmSettings, seed: int, groups: int) -> SearchStrategy:
    """CMA-ES over all rows of coefficients."""
    return _adapted(cma, columns, settings, seed, groups)


@optimisers.register("cma-positive")
def _cma_positive(columns: int, settings: SwarmSettings, seed: int, groups: int) -> SearchStrategy:
    """CMA-ES on mixtures without negative coefficients."""
    return _adapted(cma_positive, columns, settings, seed, groups)


def _adapted(
    make: Callable[..., SearchStrategy], columns: int, settings: SwarmSettings, seed: int, groups: int
) -> SearchStrategy:
    deviations = Deviations(columns, groups, settings.shrinkage)
    if len(deviations.start(0.0)) == 1 or settings.particles < 2:  # no covariance to adapt
        return _random(columns, settings, seed, groups)
    return make(columns, seed, settings.particles, deviations)


def make_strategy(columns: int, settings: SwarmSettings, seed: int, groups: int = 1) -> SearchStrategy:
    """The search strategy of the settings, without a limit; its rows are [groups * columns]."""
    strategy = optimisers.get(settings.optimiser)(columns, settings, seed, groups)
    own = settings.optimiser == "pso"  # it projects its positions itself
    return OnSimplex(strategy, groups) if settings.simplex and not own else strategy


def make_budgeted(
    columns: int,
    experts: int,
    settings: SwarmSettings,
    seed: int,
    budget: int,
    state: History | None = None,
    groups: int = 1,
) -> Budgeted:
    """The search of the settings, ended by a number of evaluations instead of iterations; arguments as below.

    The initial experts are evaluated first, as part of the budget; the published swarm starts from them itself.
    """
    inner = make_strategy(columns, settings.model_copy(update={"iterations": budget}), seed, groups)
    if settings.optimiser == "pso":
        return Budgeted(inner, budget, state=state)
    first = np.tile(np.eye(columns)[:experts], (1, groups))
    return Budgeted(inner, budget, state=state, first=first, patience=settings.patience)


def make_optimiser(
    columns: int,
    experts: int,
    settings: SwarmSettings,
    seed: int,
    state: Mapping[str, Any] | None = None,
    groups: int = 1,
) -> Optimiser:
    """The search of the settings as an optimiser that ends and can be saved.

    Args:
        columns: Columns of a group's row: the experts, and the base model with `--include-base`.
        experts: Initial experts, the first columns. Every search evaluates them first.
        settings: Which search, and for how long.
        seed: Seed of every random number.
        state: `state.to_dict()` of an earlier one.
        groups: Groups of modules with coefficients of their own; a row is [groups * columns].

    Raises:
        KeyError, TypeError, ValueError: The state belongs to another search.
    """
    if settings.optimiser == "pso":
        saved = None if state is None else SwarmState.from_dict(dict(state))
        return ParticleSwarm(columns, settings, seed, saved, groups)
    inner = make_strategy(columns, settings, seed, groups)
    history = None if state is None else History.from_dict(dict(state))
    first = np.tile(np.eye(columns)[:experts], (1, groups))
    return Generations(inner, first, settings.iterations, settings.patience, history)
