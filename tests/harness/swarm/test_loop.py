"""The loop: in which order it calls what, whichever optimiser it drives."""

import asyncio
from dataclasses import dataclass

import numpy as np
import pytest

from harness.swarm.loop import Optimiser, search
from harness.swarm.particle_swarm import ParticleSwarm
from harness.swarm.settings import SwarmSettings


@dataclass
class RandomState:
    asked: int
    best: np.ndarray
    value: float | None


class RandomSearch:
    """The simplest other optimiser: rows from a normal distribution; the best one wins."""

    def __init__(self, experts, rows, rounds):
        self.experts, self.rows, self.rounds = experts, rows, rounds
        self.rng = np.random.default_rng(0)
        self.state = RandomState(0, np.full(experts, np.nan), None)
        self.pending = None

    @property
    def finished(self):
        return "budget spent" if self.state.asked >= self.rounds else None

    @property
    def best(self):
        return self.state.best, self.state.value

    def ask(self):
        self.pending = self.rng.normal(size=(self.rows, self.experts))
        return self.pending

    def tell(self, values):
        best, top = self.best
        for row, value in zip(self.pending, values, strict=True):
            if value is not None and (top is None or value > top):
                best, top = row, value
        self.state = RandomState(self.state.asked + 1, best, top)


class Watched:
    """Passes everything on to an optimiser and writes down what was called."""

    def __init__(self, optimiser, calls):
        self.optimiser, self.calls = optimiser, calls

    @property
    def state(self):
        return self.optimiser.state

    @property
    def finished(self):
        return self.optimiser.finished

    @property
    def best(self):
        return self.optimiser.best

    def ask(self):
        self.calls.append("ask")
        return self.optimiser.ask()

    def tell(self, values):
        self.calls.append("tell")
        self.optimiser.tell(values)


def hill(row):
    return float(-((row - 0.4) ** 2).sum())


OPTIMISERS = {
    "particle swarm": lambda: ParticleSwarm(3, SwarmSettings(particles=6, iterations=4), seed=0),
    "random search": lambda: RandomSearch(3, rows=6, rounds=5),
}
REASONS = {"particle swarm": "4 iterations done", "random search": "budget spent"}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_asks_evaluates_tells_and_calls_after_once_an_iteration_until_a_reason_to_stop(name):
    calls, batches = [], []
    optimiser: Optimiser = Watched(OPTIMISERS[name](), calls)

    async def evaluate(rows):
        calls.append("evaluate")
        await asyncio.sleep(0)  # a real evaluation lets others work
        batches.append(rows.copy())
        return [hill(row) for row in rows]

    def after():
        calls.append("after")
        assert optimiser.best[1] == max(hill(row) for rows in batches for row in rows)  # told before

    reason = asyncio.run(search(optimiser, evaluate, after))
    assert calls == ["ask", "evaluate", "tell", "after"] * 5
    assert reason == REASONS[name]
    row, value = optimiser.best
    assert hill(row) == value


def test_a_search_that_is_already_over_evaluates_nothing_and_gives_its_reason_again():
    swarm = ParticleSwarm(3, SwarmSettings(particles=4, iterations=0), seed=0)
    swarm.ask()
    swarm.tell([1.0] * 4)

    async def evaluate(rows):
        raise AssertionError("evaluated")

    def after():
        raise AssertionError("after")

    assert asyncio.run(search(swarm, evaluate, after)) == "0 iterations done"


def test_an_evaluation_that_fails_leaves_the_state_of_the_last_complete_iteration():
    swarm = ParticleSwarm(3, SwarmSettings(particles=4), seed=0)
    saved = []

    async def evaluate(rows):
        if len(saved) == 2:
            raise RuntimeError("the engine is gone")
        return [hill(row) for row in rows]

    with pytest.raises(RuntimeError, match="engine is gone"):
        asyncio.run(search(swarm, evaluate, lambda: saved.append(swarm.state)))
    assert [state.iteration for state in saved] == [0, 1]
    assert swarm.state is saved[-1]


def test_dropped_iterations_are_complete_iterations_too():
    sizes = []
    swarm = ParticleSwarm(
        3, SwarmSettings(particles=4, iterations=12, patience=100, drop_iteration=0.5, drop_particle=0.3), seed=0
    )

    async def evaluate(rows):
        return [hill(row) for row in rows]

    def after():
        sizes.append(4 - int(swarm.state.skipped.sum()))

    assert asyncio.run(search(swarm, evaluate, after)) == "12 iterations done"
    assert len(sizes) == 13
    assert {0, 4} < set(sizes)


def test_the_particle_swarm_climbs_a_smooth_hill():
    swarm = ParticleSwarm(3, SwarmSettings(particles=10, iterations=30), seed=0)
    top = np.array([0.2, 0.5, 0.3])  # sums to 1, so the swarm can get there

    async def evaluate(rows):
        return [float(-((row - top) ** 2).sum()) for row in rows]

    asyncio.run(search(swarm, evaluate, lambda: None))
    np.testing.assert_allclose(swarm.best[0], top, atol=0.1)
