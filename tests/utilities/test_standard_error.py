import numpy as np
import pytest

from utilities.standard_error import clustered_se, two_way_se


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
