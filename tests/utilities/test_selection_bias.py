"""The selection bias of a search on simulated items; the real searches are in the benchmark of the same name."""

import numpy as np
import pytest

from utilities.combine import mean
from utilities.core import Evaluation, ItemResult, Response, Score
from utilities.selection_bias import Repeated, selection_bias

COLUMNS, ITEMS, ROWS = 4, 80, 30


def evaluation(values):
    items = ((str(k), Score(float(value))) for k, value in enumerate(values))
    return Evaluation.of([ItemResult(name, name, "", Response(""), score) for name, score in items])


def best_of_random(value_of, seed):
    rows = np.random.default_rng(seed).normal(size=(ROWS, COLUMNS))
    values = value_of(rows)
    return rows, Repeated(rows[int(np.argmax(values))], int(np.argmax(values)))


def searched(seed, slope):
    """Items whose scores are linear in a row; the true mean of an item is `slope` times the first coefficient."""
    rng = np.random.default_rng([seed, 1])
    taste = rng.normal(size=(ITEMS, COLUMNS)) + slope * np.eye(COLUMNS)[0]
    rows, winner = best_of_random(lambda new: (new @ taste.T).mean(axis=1), seed)
    truth = float(winner.row @ (taste.mean(axis=0) - slope * np.eye(COLUMNS)[0]))
    evaluations = [evaluation(values) for values in rows @ taste.T]
    again = lambda value_of, own: best_of_random(value_of, own)[1]  # noqa: E731
    return truth, selection_bias(rows, evaluations, evaluations, mean, again, seed)


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_the_estimate_is_the_true_bias_on_average_whether_the_gain_is_luck_or_not(slope):
    found = np.array([searched(seed, slope) for seed in range(10)])
    truth, estimate = found.mean(axis=0)
    assert abs(estimate - truth) < 3 * found.std(axis=0).max() / 10**0.5
    assert slope > 0 or min(truth, estimate) > 0.2


def test_there_is_no_estimate_from_few_rows_few_items_or_an_objective_that_is_no_function_of_the_rows():
    rng = np.random.default_rng(0)
    again = lambda value_of, own: best_of_random(value_of, own)[1]  # noqa: E731
    rows = rng.normal(size=(40, COLUMNS))
    noise = [evaluation(values) for values in rng.normal(size=(40, ITEMS))]
    assert selection_bias(rows, noise, noise, mean, again) is None
    smooth = [evaluation(row[0] + rng.normal(0, 0.01, ITEMS)) for row in rows]
    assert selection_bias(rows, smooth, smooth, mean, again) is not None
    assert selection_bias(rows[:11], smooth[:11], smooth[:11], mean, again) is None
    few = [evaluation(row[0] + rng.normal(0, 0.01, 9)) for row in rows]
    assert selection_bias(rows, few, few, mean, again) is None
