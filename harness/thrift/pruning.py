"""Exact pruning: a particle is asked no more when no answer could change anything that the search does with it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.swarm.state import SwarmState
from harness.thrift.bounds import value_bounds
from harness.thrift.partial import Partial

__all__ = ["Need", "keep_best", "prune", "strictest", "swarm_needs"]


@dataclass(frozen=True)
class Need:
    """What a search must know of a value: what it is, unless it is not above `beat` and not below `floor`."""

    beat: float
    """The best so far: a value that is no better changes nothing."""
    floor: float = -math.inf
    """The worst so far, for a search that remembers the worst: a value that is lower must be known."""


def swarm_needs(state: SwarmState, asked: NDArray[np.intp], *, worst: bool = True) -> list[Need | None]:
    """What `ParticleSwarm` needs of the particles `asked`, from its state before they are told.

    It compares a value with three numbers: the particle's own best (which is at most the global best, so a value that
    does not beat the one cannot beat the other), the global worst, and whether there is a value at all. A particle
    that is told any number from the worst to its own best is treated in the same way as with its true value, as long
    as that lies there too.

    Args:
        state: `ParticleSwarm.state`.
        asked: Numbers of the particles, `ParticleSwarm.asked`.
        worst: Whether the global worst is of use: a search that is not pushed away from it (repel is 0) saves far more.

    Returns:
        A need a particle; None for one that has no best yet, whose value must be known.
    """
    best, floor = state.personal_best_scores, state.global_worst_score if worst else -math.inf
    return [None if math.isnan(best[k]) else Need(float(best[k]), float(floor)) for k in asked]


def strictest(needs: Sequence[Need | None]) -> Need | None:
    """The need that serves all of several, of particles that stand at the same place.

    Returns:
        The lowest best and the lowest worst; None where one of them must know the value.
    """
    if not needs or any(need is None for need in needs):
        return None
    known = [need for need in needs if need is not None]
    return Need(min(need.beat for need in known), min(need.floor for need in known))


async def prune(partial: Partial, need: Need | None) -> float | None:
    """Asks a particle until what the search needs is known.

    While it may still beat the best it is asked the first stage that is left, afterwards the last one: with stages from
    the hardest items to the easiest (`informative.from_hard_to_easy`) wrong answers come first, which show that it does
    not beat the best, and then right ones, which show that it is not the worst.

    Returns:
        What the search is to be told: the value, None where it is not comparable; of a particle that was stopped the
        highest that it could still have been, which no decision can tell from the true one.
    """
    if need is None:
        await partial.finish()
    while not partial.complete and need is not None:
        low, high = value_bounds(partial)
        if high <= need.beat and low >= need.floor:
            return high
        await partial.ask(partial.left[0] if high > need.beat else partial.left[-1])
    return partial.value()


async def keep_best(partials: Sequence[Partial], best: Sequence[float] = (), keep: int = 1) -> list[float | None]:
    """Asks particles until the best of them are known, for a search that learns nothing from the values of others.

    They go through the stages together. One is stopped when so many others as are kept are sure to be better, or as
    good and before it: found earlier, or earlier in this `ask`.

    Args:
        partials: The particles of an `ask`, in its order.
        best: The best values before them; only the first `keep` matter.
        keep: How many are kept.

    Returns:
        What the search is to be told, a particle, as in `prune`.
    """
    told: dict[int, float] = {}
    while going := [k for k, one in enumerate(partials) if k not in told and not one.complete]:
        bounds = [value_bounds(one) for one in partials]
        for k in going:
            high = bounds[k].high
            better = sum(value >= high for value in best)
            better += sum(bound.low > high or (bound.low == high and j < k) for j, bound in enumerate(bounds))
            if better >= keep:
                told[k] = high
        await asyncio.gather(*(partials[k].ask(partials[k].left[0]) for k in going if k not in told))
    return [told[k] if k in told else one.value() for k, one in enumerate(partials)]
