"""Items are cut into stages that share nothing and leave nothing out, and joined they are the whole evaluation."""

import asyncio

import numpy as np
import pytest

from harness.thrift.partial import Partial
from harness.thrift.stages import Order, Stages, shuffled
from tests.harness.thrift.synthetic_task import EXPERTS, Rowed, synthetic_task
from utilities.core import Reason

ROW = np.full(EXPERTS, 0.2)
EVERY_KIND = pytest.mark.parametrize(
    "given",
    [
        {},
        {"sizes": (37,)},
        {"sizes": (40, 3)},
        {"group_by": "domain", "combination": "minimum"},
        {"sizes": (60,), "group_by": "domain"},
        {"clusters": 3, "combination": "mean"},
        {"combination": "weighted_mean", "weights": {"set0": 1.0, "set1": 3.0}},
    ],
)


def cut(task, count=8, seed=0):
    return Stages.cut(task, "dev", count, shuffled(task, "dev", seed))


@EVERY_KIND
def test_every_item_is_in_one_stage_and_every_set_has_its_share(given):
    task = synthetic_task(**given)
    stages = cut(task, 7)
    for name, s in task.item_sets.items():
        asked = [item.id for stage in stages.stages for item in stage.get(name, ())]
        assert sorted(asked, key=int) == [item.id for item in s.dev]
        sizes = [len(stage[name]) for stage in stages.stages if name in stage]
        assert max(sizes) - min(sizes) <= 1
    assert stages.items == task.size("dev")
    assert sum(len(ids) for strata in stages.strata.values() for ids in strata.values()) == task.size("dev")


@EVERY_KIND
@pytest.mark.parametrize("order", [range(8), range(7, -1, -1), None])
def test_joined_stages_are_the_tasks_own_evaluation(given, order):
    task = synthetic_task(**given)
    model = Rowed(ROW, frozenset({2}) if task.size("dev") > 100 else frozenset())

    async def both():
        partial = Partial(cut(task), model)
        for stage in order or ():
            await partial.ask(stage)
        await partial.finish()  # where nothing was asked, in one piece
        return partial, await task(model, "dev")

    partial, whole = asyncio.run(both())
    assert partial.evaluation() == whole
    assert whole.value is not None
    assert [r.item_id for leaf in partial.evaluation().leaves.values() for r in leaf.results] == [
        r.item_id for leaf in whole.leaves.values() for r in leaf.results
    ]
    assert (partial.value(), partial.items, partial.complete) == (whole.value, task.size("dev"), True)


@EVERY_KIND
def test_a_particle_that_was_stopped_has_no_value_but_its_results(given):
    task = synthetic_task(**given)
    partial = Partial(cut(task, 4), Rowed(ROW))
    asyncio.run(partial.ask(1))
    evaluation = partial.evaluation()
    assert (evaluation.value, evaluation.se, partial.value()) == (None, None, None)
    assert evaluation.problem == f"stopped after {partial.items} of {task.size('dev')} items"
    assert 0 < evaluation.n == sum(len(leaf.results) for leaf in evaluation.leaves.values()) == partial.items
    with pytest.raises(ValueError, match="not in list"):
        asyncio.run(partial.ask(1))


def test_all_particles_are_asked_the_same_tuples():
    task = synthetic_task()
    stages = cut(task)

    async def ask():
        for _ in range(3):
            partial = Partial(stages, Rowed(ROW))
            for stage in range(8):
                await partial.ask(stage)

    asyncio.run(ask())
    for s in task.item_sets.values():
        assert len(s.scorer.calls) == 24
        assert len({id(items) for items in s.scorer.calls}) == 8


def test_what_is_not_comparable_stays_so():
    task = synthetic_task((40,))
    partial = Partial(cut(task, 4), Rowed(ROW, frozenset(range(10))))
    asyncio.run(partial.finish())
    assert partial.value() is None
    assert "10 of 40 items are unscored" in partial.evaluation().problem
    assert partial.found["set0"]["3"].outcome.reason is Reason.TRANSPORT
    assert partial.score("set0", "3") is None


def test_an_order_of_other_items_is_refused():
    task = synthetic_task((10,))
    with pytest.raises(ValueError, match="not one of its 10 items"):
        Stages.cut(task, "dev", 2, {"set0": Order(list(range(9)), [0] * 9)})
    with pytest.raises(ValueError, match="0 stages"):
        cut(task, 0)
