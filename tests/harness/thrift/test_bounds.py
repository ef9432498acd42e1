"""The value always lies between its bounds, which close as items are asked."""

import asyncio
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from harness.thrift.bounds import UNKNOWN, value_bounds, why_unbounded
from harness.thrift.partial import Partial
from harness.thrift.stages import Stages, shuffled
from tests.harness.thrift.synthetic_task import EXPERTS, Rowed, synthetic_task
from utilities.core import Score
from utilities.scorers import GoldLogprob, MultipleChoice


def narrowing(task, model):
    """The bounds after each stage, and the value."""
    partial = Partial(Stages.cut(task, "dev", 9, shuffled(task, "dev", 3)), model)

    async def ask():
        found = [value_bounds(partial)]
        for stage in tuple(partial.left):
            await partial.ask(stage)
            found.append(value_bounds(partial))
        return found

    return asyncio.run(ask()), partial.value()


@pytest.mark.parametrize(
    "given",
    [
        {"combination": "harmonic_mean"},
        {"combination": "mean"},
        {"combination": "minimum", "group_by": "domain"},
        {"combination": "harmonic_mean", "group_by": "domain"},
        {"combination": "weighted_mean", "weights": {"set0": 2.0, "set1": 1.0}},
        {"sizes": (53,)},
        {"sizes": (50, 3)},
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold_in_any_order_and_close_on_the_value(given, seed):
    row = np.random.default_rng(seed).normal(0.2, 0.3, EXPERTS)
    bounds, value = narrowing(synthetic_task(seed=seed, **given), Rowed(row))
    assert bounds[0] == pytest.approx((0.0, 1.0))
    for (low, high), (next_low, next_high) in pairwise(bounds):
        assert low <= next_low <= value <= next_high <= high
    assert bounds[-1] == (value, value)


def test_a_particle_with_an_unscored_item_has_no_bounds():
    bounds, value = narrowing(synthetic_task((60,)), Rowed(np.zeros(EXPERTS), frozenset({4})))
    assert value is not None
    assert bounds[-1] == UNKNOWN


def test_a_score_that_should_not_be_is_not_relied_on():
    task = synthetic_task((20,))
    partial = Partial(Stages.cut(task, "dev", 2, shuffled(task, "dev", 0)), Rowed(np.zeros(EXPERTS)))
    asyncio.run(partial.ask(0))
    name, result = next(iter(partial.found["set0"].items()))
    partial.found["set0"][name] = replace(result, outcome=Score(1.5))
    assert value_bounds(partial) == UNKNOWN


def test_scores_without_a_lower_end_bound_the_value_from_above():
    task = synthetic_task((20,), combination="mean")
    task.item_sets["set0"].scorer.bounds = (-math.inf, 1.0)
    bounds, value = narrowing(task, Rowed(np.zeros(EXPERTS)))
    assert bounds[4].low == -math.inf
    assert value <= bounds[4].high < 1.0


def test_whether_a_task_has_bounds_is_said_in_words():
    task = synthetic_task()
    assert why_unbounded(task) is None
    assert "objective is smooth" in why_unbounded(task, "smooth")
    task.item_sets["set1"].scorer.bounds = None
    assert why_unbounded(task) == "item set 'set1' is scored by Formula, whose best and worst scores are not known"


def test_scorers_know_their_ends():
    assert MultipleChoice().bounds == GoldLogprob(scale="probability").bounds == (0.0, 1.0)
    assert GoldLogprob().bounds == (-math.inf, 0.0)
