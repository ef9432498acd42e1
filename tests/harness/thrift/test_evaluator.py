"""The door for a search: what it is told, what is learned, what it cost, and what does not apply."""

import asyncio
import json

import numpy as np
import pytest

from harness.swarm.settings import SwarmSettings
from harness.thrift.applies import why_not
from harness.thrift.cost import Spending
from harness.thrift.evaluator import Evaluator
from tests.harness.thrift.synthetic_task import EXPERTS, Rowed, synthetic_task, truth
from utilities import statistics


@pytest.fixture(autouse=True)
def rough_errors(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 10)


def mixtures(seed, size=20):
    rng = np.random.default_rng(seed)
    return [Rowed(row) for row in rng.uniform(0.5, 2, (size, 1)) * rng.dirichlet(np.ones(EXPERTS), size)]


def batches(evaluator, *seeds):
    return [asyncio.run(evaluator(mixtures(seed), range(20))) for seed in seeds]


def test_the_first_batch_of_a_race_is_whole_and_later_ones_are_cheap():
    task = synthetic_task()
    evaluator = Evaluator(task, "race", 0)
    first, second = batches(evaluator, 1, 2)
    assert all(one.complete and one.items == 400 for one in first)
    assert sum(one.items for one in second) < 0.5 * 20 * 400
    for one, model in zip(second, mixtures(2), strict=True):
        if one.complete:
            assert one.value == one.evaluation.value == pytest.approx(truth(task, model.row))
        else:
            assert one.evaluation.value is None
            assert one.evaluation.n == one.items < 400
    assert evaluator.spending.items == sum(one.items for one in first + second)
    assert evaluator.spending.saved == 1 - evaluator.spending.items / 16000


def test_a_race_goes_on_as_if_it_had_never_stopped():
    whole = Evaluator(synthetic_task(), "race", 0)
    first, second = batches(whole, 1, 2)
    resumed = Evaluator(synthetic_task(), "race", 0)
    resumed.learn([one.evaluation for one in first])
    assert batches(resumed, 2) == [second]


def test_pruning_learns_from_every_batch():
    evaluator = Evaluator(synthetic_task(), "exact", 0)
    found = batches(evaluator, 1, 2, 3)
    items = [sum(one.items for one in batch) for batch in found]
    assert items[2] < items[0]
    best = max(one.value for batch in found for one in batch if one.complete)
    assert best == pytest.approx(max(truth(evaluator.task, m.row) for seed in (1, 2, 3) for m in mixtures(seed)))


def test_what_was_spent_is_saved_with_the_run():
    spent = Spending()
    assert spent.saved == 0.0
    spent.add(3, 100, 400)
    spent.add(3, 400, 400)
    spent.add(0, 100, 400)
    assert (spent.items, spent.by_particle[3], spent.saved) == (600, 500, 0.5)
    assert Spending.from_dict(json.loads(json.dumps(spent.to_dict()))) == spent


@pytest.mark.parametrize(
    ("way", "search", "told"),
    [
        ("exact", {"optimiser": "pso", "winner": "best"}, None),
        ("exact", {"optimiser": "random"}, None),
        ("exact", {"optimiser": "pso", "winner": "centre"}, "--winner best is accepted"),
        ("exact", {"optimiser": "cma"}, "learns from every value"),
        ("race", {"optimiser": "cma-positive"}, None),
        ("race", {"optimiser": "pso"}, "exact is accepted"),
    ],
)
def test_what_does_not_apply_says_why(way, search, told):
    found = why_not(way, SwarmSettings(**search), synthetic_task(), "metric")
    assert found is None if told is None else told in found


def test_pruning_needs_scores_with_known_ends():
    task = synthetic_task()
    published = SwarmSettings(optimiser="pso", winner="best")
    assert "the objective is smooth" in why_not("exact", published, task, "smooth")
    task.item_sets["set0"].scorer.bounds = None
    assert "are not known" in why_not("exact", published, task, "metric")
    task.item_sets["set0"].scorer.judged = True
    assert "judge" in why_not("race", SwarmSettings(), task, "metric")
