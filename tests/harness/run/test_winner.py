"""Winner selection: the mean of the best rows, unless the best row is significantly better; or by validation items."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from harness.run.winner import Scored, averaged_rows, mean_of_top_k, select_winner
from harness.session.evaluator import NOT_EVALUATED, Cost
from harness.swarm.settings import SwarmSettings
from utilities.core import Evaluation, ItemResult, Reason, Response, Score, Unscored
from utilities.tasks import Task

A, B = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def mean(parts):
    return next(iter(parts.values()))


def evaluation(values):
    outcomes = [Unscored(Reason.MALFORMED) if v is None else Score(float(v)) for v in values]
    return Evaluation.of([ItemResult(f"i{k}", f"i{k}", "", Response(""), o) for k, o in enumerate(outcomes)])


class Recorded:
    """Stands for an `Evaluator` whose evaluations are known: the names that were evaluated are in `names`."""

    def __init__(self, values, validation=False):
        self.values, self.names = values, []
        held = Task("held", "", "mini", "mean", {}, {}) if validation else None
        self.session = SimpleNamespace(validation_set=held, unit_rows=np.eye(2))
        self.task = SimpleNamespace(combine=mean)
        self.objective = "metric"

    async def recorded(self, record, label, row, split, task=None):
        self.names.append(label)
        return evaluation(self.values[label])

    def objective_of(self, evaluation):
        return evaluation

    def summary(self, row):
        return NOT_EVALUATED

    def cost_of(self, record, evaluation):
        return Cost.of(evaluation, 0.0)


def winner(evaluator, mean_row, best=B):
    """Selected among 40 rows whose 10 best have the mean `mean_row`, and `best`."""
    scored = [Scored(mean_row, 0.9)] * 10 + [Scored(A, 0.0)] * 30
    return asyncio.run(select_winner(evaluator, SwarmSettings(), scored, best)).finalist


def test_the_mean_is_that_of_the_best_rows():
    found = [Scored(A, 0.1), Scored(B, 0.9), Scored(A + B, 0.9), Scored(3 * B, 0.5)]
    found += [Scored(5 * A, 0.0)] * 8
    np.testing.assert_array_equal(mean_of_top_k(found, 1), B)  # of equals the first
    np.testing.assert_array_equal(mean_of_top_k(found, 2), (B + A + B) / 2)
    np.testing.assert_allclose(mean_of_top_k(found, 10), (B + A + B + 3 * B) / 3)  # a quarter of twelve


@pytest.mark.parametrize(("rows", "most", "taken"), [(1, 10, 1), (7, 10, 1), (22, 10, 5), (40, 10, 10), (110, 10, 10)])
def test_of_few_rows_few_are_averaged(rows, most, taken):
    assert averaged_rows(rows, most) == taken


def test_the_mean_wins_if_the_best_row_is_better_within_noise():
    rng = np.random.default_rng(0)
    lucky = rng.uniform(size=200) < 0.62
    other = rng.uniform(size=200) < 0.60
    evaluator = Recorded({"top-k-mean": other, "best": lucky})
    assert winner(evaluator, A) == "top-k-mean"
    assert evaluator.names == ["top-k-mean", "best"]


def test_the_best_row_wins_if_it_is_significantly_better():
    better = np.ones(200)
    assert winner(Recorded({"top-k-mean": better - (np.arange(200) % 5 == 0), "best": better}), A) == "best"


def test_a_mean_that_cannot_be_scored_does_not_win():
    assert winner(Recorded({"top-k-mean": [None] * 20, "best": [0.0, 1.0] * 10}), A) == "best"


def test_if_the_mean_is_the_best_row_nothing_is_evaluated():
    evaluator = Recorded({})
    assert winner(evaluator, A, A.copy()) == "best"
    assert evaluator.names == []


@pytest.mark.parametrize(
    ("values", "wins"),
    [
        ({"top-k-mean": [1, 1], "best": [1, 0], "best_initial": [0, 0]}, "top-k-mean"),
        ({"top-k-mean": [0, 0], "best": [1, 0], "best_initial": [1, 1]}, "best_initial"),
        ({"top-k-mean": [1, 0], "best": [0, 1], "best_initial": [1, 0]}, "top-k-mean"),
        ({"top-k-mean": [None, None], "best": [0, 0], "best_initial": [0, 0]}, "best"),
    ],
)
def test_validation_items_decide_and_of_equals_the_first_wins(values, wins):
    evaluator = Recorded(values, validation=True)
    assert winner(evaluator, A) == wins
    assert evaluator.names == list(values)
