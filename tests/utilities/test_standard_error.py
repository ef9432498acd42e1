import numpy as np
import pytest

from utilities.combine import combine_evaluations, mean
from utilities.core import Evaluation, ItemResult, Response, Score
from utilities.standard_error import clustered_se, score_se, two_way_se, unanimous_se


def test_the_clustered_standard_error_without_clusters_is_the_ordinary_one():
    values = np.random.default_rng(11).random(37)
    ordinary = values.std(ddof=1) / np.sqrt(37)
    assert clustered_se(values, [str(k) for k in range(37)]) == pytest.approx(ordinary, rel=1e-12)
    assert clustered_se(values, ["same"] * 37) is None


def test_two_ways_of_clustering_are_one_if_the_other_is_single_and_wider_than_each():
    rng = np.random.default_rng(0)
    items, raters = [str(k // 5) for k in range(200)], [str(k % 5) for k in range(200)]
    by_rater = rng.normal(size=5)[np.arange(200) % 5]
    values = list(by_rater + rng.normal(size=40)[np.arange(200) // 5] + rng.normal(size=200) / 10)
    alone = [clustered_se(values, one) for one in (items, raters)]
    assert two_way_se(values, items, ["one"] * 200) == alone[0] and two_way_se(values, ["a"], ["b"]) is None
    both = clustered_se(values, [str(k) for k in range(200)])
    assert two_way_se(values, items, raters) == pytest.approx(np.sqrt(alone[0] ** 2 + alone[1] ** 2 - both**2))
    assert two_way_se(values, items, raters) > max(alone)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_the_error_of_items_that_are_all_right_or_all_wrong_is_not_zero(score):
    names = [str(k) for k in range(20)]
    assert clustered_se([score] * 20, names) == 0
    se = score_se([score] * 20, names)
    assert se == unanimous_se(20)
    assert 1 - 1.96 * se == pytest.approx(0.8389, abs=1e-4)  # the lower end of Wilson's interval for 20 of 20
    one = Evaluation.of([ItemResult(name, name, "", Response(""), Score(score)) for name in names])
    assert one.se == se
    assert combine_evaluations({"a": one, "b": one}, mean).se == unanimous_se(40)
    assert score_se([7.0] * 20, names) == 0  # equal ratings say nothing of their spread
