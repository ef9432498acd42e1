"""Who wins: the mean of the best rows, unless the best one is certainly better, or unseen items say otherwise."""

import asyncio

import numpy as np
import pytest

from harness.run.winner import Found, averaged_rows, choose, confirm, mean_of_top_k
from utilities.core import Evaluation, ItemResult, Reason, Response, Score, Unscored

A, B = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def mean(parts):
    return next(iter(parts.values()))


def evaluation(values):
    outcomes = [Unscored(Reason.MALFORMED) if v is None else Score(float(v)) for v in values]
    return Evaluation.of([ItemResult(f"i{k}", f"i{k}", "", Response(""), o) for k, o in enumerate(outcomes)])


def asked(told):
    """Evaluations by name, and the names in the order they were asked for."""
    names = []

    async def evaluate(name, row):
        names.append(name)
        return evaluation(told[name])

    return evaluate, names


def test_the_centre_is_the_mean_of_the_best_rows():
    found = [Found(A, 0.1), Found(B, 0.9), Found(A + B, 0.9), Found(3 * B, 0.5)]
    found += [Found(5 * A, 0.0)] * 8
    np.testing.assert_array_equal(mean_of_top_k(found, 1), B)  # of equals the first
    np.testing.assert_array_equal(mean_of_top_k(found, 2), (B + A + B) / 2)
    np.testing.assert_allclose(mean_of_top_k(found, 10), (B + A + B + 3 * B) / 3)  # a quarter of twelve


@pytest.mark.parametrize(("rows", "most", "taken"), [(1, 10, 1), (7, 10, 1), (22, 10, 5), (40, 10, 10), (110, 10, 10)])
def test_few_rows_have_a_small_elite(rows, most, taken):
    assert averaged_rows(rows, most) == taken


def test_the_centre_wins_where_the_best_row_is_better_by_luck():
    rng = np.random.default_rng(0)
    lucky = rng.uniform(size=200) < 0.62
    other = rng.uniform(size=200) < 0.60
    evaluate, names = asked({"top-k-mean": other, "best": lucky})
    assert asyncio.run(choose(A, B, evaluate, mean)) == "top-k-mean"
    assert names == ["top-k-mean", "best"]


def test_the_best_row_wins_where_it_is_certainly_better():
    better = np.ones(200)
    evaluate, _ = asked({"top-k-mean": better - (np.arange(200) % 5 == 0), "best": better})
    assert asyncio.run(choose(A, B, evaluate, mean)) == "best"


def test_a_centre_that_cannot_be_scored_does_not_win():
    evaluate, _ = asked({"top-k-mean": [None] * 20, "best": [0.0, 1.0] * 10})
    assert asyncio.run(choose(A, B, evaluate, mean)) == "best"


def test_where_both_are_one_row_nothing_is_asked():
    evaluate, names = asked({})
    assert asyncio.run(choose(A, A.copy(), evaluate, mean)) == "best"
    assert names == []


@pytest.mark.parametrize(
    ("told", "wins"),
    [
        ({"top-k-mean": [1, 1], "best": [1, 0], "best_initial": [0, 0]}, "top-k-mean"),
        ({"top-k-mean": [0, 0], "best": [1, 0], "best_initial": [1, 1]}, "best_initial"),
        ({"top-k-mean": [1, 0], "best": [0, 1], "best_initial": [1, 0]}, "top-k-mean"),
        ({"top-k-mean": [None, None], "best": [0, 0], "best_initial": [0, 0]}, "best"),
    ],
)
def test_unseen_items_decide_and_of_equals_the_first_wins(told, wins):
    evaluate, names = asked(told)
    assert asyncio.run(confirm(dict.fromkeys(told, A), evaluate)) == wins
    assert names == list(told)
