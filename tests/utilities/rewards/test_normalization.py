import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from utilities.errors import UserError
from utilities.rewards.normalization import normalizations

raws = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30).filter(lambda values: max(values) - min(values) > 1e-3)


@given(raws)
def test_a_fitted_zscore_is_scipys(values):
    fitted = normalizations.get("zscore")(values)
    np.testing.assert_allclose([fitted(raw) for raw in values], stats.zscore(values, ddof=1), atol=1e-6)


@pytest.mark.parametrize(("raw", "expected"), [(-9, 0), (-3, 0), (-2, 0.2), (0, 0.6), (2, 1), (2.1, 1), (1e300, 1)])
def test_a_range_is_linear_between_the_ends_of_its_reference_and_clipped_outside(raw, expected):
    assert normalizations.get("range")([0.5, 2, -3])(raw) == pytest.approx(expected, abs=1e-15)


@given(raws, st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_a_normalization_never_turns_an_order_around(values, a, b):
    low, high = sorted([a, b])
    for kind in normalizations:
        fitted = normalizations.get(kind)(values)
        assert fitted(low) <= fitted(high)


def test_none_changes_nothing_and_needs_no_reference():
    assert normalizations.get("none")([])(-17.25) == -17.25


@pytest.mark.parametrize("kind", ["zscore", "range"])
@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ([], "0 reference scores; a normalisation is fitted to at least two"),
        ([0.3], "1 reference scores"),
        ([0.3, 0.3, 0.3], r"all 3 reference scores are 0\.3"),
        ([0.1, math.nan], "a reference score is nan"),
        ([0.1, math.inf, 0.2], "a reference score is inf"),
    ],
)
def test_a_reference_that_says_nothing_is_refused(kind, reference, told):
    with pytest.raises(UserError, match=told):
        normalizations.get(kind)(reference)
