"""Items that tell models apart come first, and none is left out."""

import asyncio

import numpy as np
import pytest

from harness.thrift.informative import by_variance, from_hard_to_easy, mean_scores, scores_by_item_set
from tests.harness.thrift.synthetic_task import EXPERTS, Rowed, synthetic_task


def scores_of(columns, models=10):
    """[models, items]: so many right answers an item."""
    return {"set": np.array([[float(k < right) for right in columns] for k in range(models)])}


def test_items_on_which_models_differ_are_asked_more_often_first():
    rng = np.random.default_rng(0)
    right = rng.permutation([0] * 30 + [10] * 30 + [1, 9] * 10 + [5] * 20)
    order = by_variance(scores_of(right), 1)["set"]
    assert sorted(order.positions) == list(range(100))
    first, rest = right[list(order.positions[:40])], right[list(order.positions[40:])]
    assert np.mean(first == 5) > 2 * np.mean(rest == 5)
    agreed = np.isin(first, (0, 10)).mean()
    assert 0 < agreed < 0.4  # of 60 in 100: seldom, but not never
    strata = np.array(order.strata)
    assert set(right[strata == 0]) == {0, 10}
    assert all(len({strata[k] for k in np.flatnonzero(right == kind)}) == 1 for kind in (0, 10))


def test_every_stratum_is_among_the_first():
    right = [0] * 50 + [5] * 5 + [1] * 5
    order = by_variance(scores_of(right), 3)["set"]
    strata = np.array(order.strata)
    first = strata[list(order.positions[:8])]
    assert all((first == stratum).sum() >= 2 for stratum in np.unique(strata))


def test_where_all_agree_on_everything_the_order_is_random_and_complete():
    for right in ([0] * 20, [10] * 20):
        order = by_variance(scores_of(right), 5)["set"]
        assert sorted(order.positions) == list(range(20))
        assert set(order.strata) == {0}


def test_the_seed_decides_among_equals():
    scores = scores_of([5] * 40)
    assert by_variance(scores, 1) == by_variance(scores, 1)
    assert by_variance(scores, 1) != by_variance(scores, 2)
    assert from_hard_to_easy(scores, 1) != from_hard_to_easy(scores, 2)


def test_too_few_models_teach_nothing():
    assert by_variance(scores_of([1, 2, 3], models=3), 0) is None
    assert from_hard_to_easy({"set": np.zeros((0, 3))}, 0) is None


def test_what_nobody_was_asked_is_taken_as_the_mean():
    known = np.array([[1.0, np.nan, 0.0], [1.0, np.nan, np.nan]])
    assert mean_scores(known) == pytest.approx([1.0, 0.5, 0.0])
    assert by_variance({"set": np.tile(known, (2, 1))}, 0)["set"].positions


@pytest.mark.parametrize(
    "given", [{}, {"sizes": (30,)}, {"group_by": "domain"}, {"sizes": (30,), "group_by": "domain"}]
)
def test_scores_are_read_from_evaluations_in_the_order_of_the_split(given):
    task = synthetic_task(**given)
    rows = np.eye(EXPERTS)[:2]
    evaluations = [asyncio.run(task(Rowed(row, frozenset({7})), "dev")) for row in rows]
    for name, scores in scores_by_item_set(task, "dev", evaluations).items():
        expected = np.stack([task.item_sets[name].scorer.right(row) for row in rows])
        expected[:, 7] = np.nan
        assert np.array_equal(scores, expected, equal_nan=True)
