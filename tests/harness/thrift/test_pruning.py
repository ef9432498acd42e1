"""A pruned search is the search: the same positions, bests and winner, bit for bit, for fewer items."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from harness.embedded import BASE, EXPERTS
from harness.engines.local import LocalEngine
from harness.engines.settings import EngineSettings
from harness.experts.pool import open_pool
from harness.swarm.particle_swarm import ParticleSwarm
from harness.swarm.random_search import RandomSearch
from harness.swarm.settings import SwarmSettings
from harness.thrift.evaluator import Evaluator
from harness.thrift.partial import Partial
from harness.thrift.pruning import Need, keep_best, prune, strictest, swarm_needs
from harness.thrift.stages import Stages, shuffled
from tests.harness.thrift import synthetic_task as synthetic
from tests.harness.thrift.synthetic_task import Rowed, synthetic_task
from utilities import statistics
from utilities.tasks import load_task


@pytest.fixture(autouse=True)
def rough_errors(monkeypatch):
    """Standard errors are not what is looked at here."""
    monkeypatch.setattr(statistics, "RESAMPLES", 10)


def trajectory(task, model, settings, *, columns, pruned, seed=0, stages=8):
    """Everything that the swarm decided, iteration by iteration, and the items that it took."""
    swarm = ParticleSwarm(columns, settings, seed)
    evaluator = Evaluator(task, "exact", seed, stages=stages)
    states, items = [], 0

    async def run():
        nonlocal items
        while swarm.finished is None:
            rows = swarm.ask()
            needs = swarm_needs(swarm.state, swarm.asked) if pruned else [None] * len(rows)
            found = await evaluator([model(row) for row in rows], swarm.asked.tolist(), needs)
            swarm.tell([one.value for one in found])
            items += sum(one.items for one in found)
            state = swarm.state.to_dict()
            del state["scores"]  # the one thing that is not known of a pruned particle, and that decides nothing
            states.append(state)

    asyncio.run(run())
    return states, items, evaluator.spending


@pytest.mark.parametrize(
    "settings",
    [
        {"particles": 12, "iterations": 12, "patience": 12},
        {"particles": 8, "iterations": 15, "patience": 4, "restart_patience": 2, "initial_velocity": "best"},
        {"particles": 10, "iterations": 10, "drop_particle": 0.2, "drop_iteration": 0.1, "best_margin": 0.01},
        {"particles": 10, "iterations": 10, "restart_reset": False, "repel": 0.3, "crossover_max": 2.0},
    ],
)
@pytest.mark.parametrize("sizes", [(60, 40), (50,)])
def test_the_published_search_is_the_same_bit_for_bit(settings, sizes):
    task = synthetic_task(sizes, seed=3)
    options = SwarmSettings(**settings)
    whole, items, _ = trajectory(task, Rowed, options, columns=synthetic.EXPERTS, pruned=False)
    pruned, fewer, spent = trajectory(task, Rowed, options, columns=synthetic.EXPERTS, pruned=True)
    assert pruned == whole
    assert fewer < items
    assert (spent.items, spent.whole) == (fewer, items)


def test_particles_that_cannot_be_scored_change_nothing_either():
    task = synthetic_task((60,), seed=3)

    def model(row):  # some fail on a few items, some on too many
        failing = int(abs(row[0]) * 1000) % 4
        return Rowed(row, frozenset(range({1: 3, 2: 30}.get(failing, 0))))

    options = SwarmSettings(particles=12, iterations=12, patience=12)
    whole, items, _ = trajectory(task, model, options, columns=synthetic.EXPERTS, pruned=False)
    pruned, fewer, _ = trajectory(task, model, options, columns=synthetic.EXPERTS, pruned=True)
    assert pruned == whole
    assert fewer < items


def test_the_published_search_on_the_embedded_model_is_the_same_bit_for_bit():
    task = load_task("medical", edition="mini", limit=8)
    pool = open_pool([str(EXPERTS / name) for name in ("crossword", "forum-posts", "pharmacy-quiz")], BASE)
    engine = LocalEngine(BASE, pool, EngineSettings(device="cpu"))
    try:
        options = SwarmSettings(particles=4, iterations=3)
        whole, items, _ = trajectory(task, engine.particle, options, columns=3, pruned=False)
        pruned, fewer, _ = trajectory(task, engine.particle, options, columns=3, pruned=True, stages=8)
    finally:
        engine.close()
    assert pruned == whole
    assert fewer < items


def test_a_particle_goes_on_until_it_neither_beats_the_best_nor_can_be_the_worst():
    task = synthetic_task((100,), seed=1)
    stages = Stages.cut(task, "dev", 20, shuffled(task, "dev", 0))
    value = float(task.item_sets["set0"].scorer.right(np.zeros(synthetic.EXPERTS)).mean())

    def asked(need):
        partial = Partial(stages, Rowed(np.zeros(synthetic.EXPERTS)))
        return asyncio.run(prune(partial, need)), partial

    told, partial = asked(Need(beat=value + 0.1))
    assert value <= told <= value + 0.1
    assert partial.items < 100
    hopeless = partial.items
    told, partial = asked(Need(beat=value + 0.1, floor=value - 0.1))
    assert value - 0.1 <= told <= value + 0.1
    assert hopeless < partial.items < 100
    for need in (None, Need(beat=value - 0.01), Need(beat=1.0, floor=value + 0.01)):
        told, partial = asked(need)
        assert (told, partial.items) == (value, 100)


def test_of_several_particles_at_one_place_the_strictest_need_counts():
    assert strictest([Need(0.7, 0.4), Need(0.6, 0.5)]) == Need(0.6, 0.4)
    assert strictest([Need(0.7, 0.4), None]) is None
    assert strictest([]) is None


def test_a_swarm_that_has_no_use_for_the_worst_needs_less():
    swarm = ParticleSwarm(3, SwarmSettings(particles=4), 0)
    swarm.ask()
    assert swarm_needs(swarm.state, swarm.asked) == [None] * 4
    swarm.tell([0.5, None, 0.7, 0.3])
    assert swarm_needs(swarm.state, swarm.asked) == [Need(0.5, 0.3), None, Need(0.7, 0.3), Need(0.3, 0.3)]
    assert swarm_needs(swarm.state, swarm.asked, worst=False)[2] == Need(0.7)


@pytest.mark.parametrize("keep", [1, 5])
def test_a_search_that_keeps_the_best_keeps_the_same(keep):
    task = synthetic_task((60, 40), seed=5)
    search, evaluator = RandomSearch(synthetic.EXPERTS, 1), Evaluator(task, "exact", 1, keep=keep)

    async def values(models):
        return [(await task(model, "dev")).value for model in models]

    true, told = [], []
    for _ in range(5):
        models = [Rowed(row) for row in search.ask()]
        true += asyncio.run(values(models))
        told += [one.value for one in asyncio.run(evaluator(models, range(20)))]
    best = sorted(range(100), key=lambda k: -true[k])[:keep]
    assert sorted(range(100), key=lambda k: -told[k])[:keep] == best
    assert [told[k] for k in best] == [true[k] for k in best]
    assert all(high >= value for high, value in zip(told, true, strict=True))
    assert evaluator.spending.saved > 0.2


def test_of_equal_particles_the_first_is_kept():
    task = synthetic_task((40,))
    stages = Stages.cut(task, "dev", 8, shuffled(task, "dev", 0))
    partials = [Partial(stages, Rowed(np.zeros(synthetic.EXPERTS))) for _ in range(3)]
    told = asyncio.run(keep_best(partials))
    assert partials[0].complete
    assert told[0] == partials[0].value() == max(told)


def test_what_cannot_be_scored_is_not_taken_for_the_best():
    task = synthetic_task((40,))
    stages = Stages.cut(task, "dev", 8, shuffled(task, "dev", 0))
    zero = np.zeros(synthetic.EXPERTS)
    partials = [Partial(stages, replace(Rowed(zero), unscored=frozenset(range(20)))), Partial(stages, Rowed(zero))]
    told = asyncio.run(keep_best(partials))
    assert told == [None, partials[1].value()]
    assert asyncio.run(keep_best([Partial(stages, Rowed(zero))], [1.0])) == [1.0]
