import numpy as np
import pytest

from utilities.standard_error import clustered_se


def test_the_clustered_standard_error_without_clusters_is_the_ordinary_one():
    values = np.random.default_rng(11).random(37)
    ordinary = values.std(ddof=1) / np.sqrt(37)
    assert clustered_se(values, [str(k) for k in range(37)]) == pytest.approx(ordinary, rel=1e-12)
    assert clustered_se(values, ["same"] * 37) is None
