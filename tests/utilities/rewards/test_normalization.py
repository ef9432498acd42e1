import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from utilities.errors import UserError
from utilities.rewards import NoNormalization, Range, ZScore, normalizations

raws = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30).filter(lambda values: max(values) - min(values) > 1e-3)


def test_the_three_choices_go_by_name():
    assert list(normalizations) == ["none", "range", "zscore"]
    assert normalizations.get("zscore") is ZScore
    with pytest.raises(UserError, match=r"unknown normalization 'z-score'\. Did you mean 'zscore'"):
        normalizations.get("z-score")


@settings(deadline=None)
@given(raws)
def test_a_fitted_zscore_is_scipys(values):
    fitted = ZScore.fit(values)
    np.testing.assert_allclose([fitted(raw) for raw in values], stats.zscore(values, ddof=1), atol=1e-6)


@settings(deadline=None)
@given(raws)
def test_a_fitted_range_puts_its_reference_between_0_and_1_and_uses_both_ends(values):
    normalized = [Range.fit(values)(raw) for raw in values]
    assert (min(normalized), max(normalized)) == (0.0, 1.0)


@pytest.mark.parametrize(("raw", "expected"), [(-9, 0), (-3, 0), (-2, 0.2), (0, 0.6), (2, 1), (2.1, 1), (1e300, 1)])
def test_a_given_range_is_linear_inside_and_clipped_outside(raw, expected):
    assert Range(low=-3, high=2)(raw) == pytest.approx(expected, abs=1e-15)


def test_the_references_range_of_the_paper_is_reproduced():
    papers = Range(low=-3.060546875, high=2.65625)
    assert papers(1.0) == pytest.approx(0.710284)
    assert (papers(-4.0), papers(3.0)) == (0.0, 1.0)


def test_a_given_zscore_uses_the_given_numbers():
    assert ZScore(mean=1.5, sd=2.0)(-0.5) == -1.0


@settings(deadline=None)
@given(raws, st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_a_normalization_never_turns_an_order_around(values, a, b):
    low, high = sorted([a, b])
    for kind in normalizations:
        fitted = normalizations.get(kind).fit(values)
        assert fitted(low) <= fitted(high)


def test_none_changes_nothing_and_needs_no_reference():
    assert NoNormalization.fit([])(-17.25) == -17.25


@pytest.mark.parametrize("kind", [ZScore, Range])
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
        kind.fit(reference)


@pytest.mark.parametrize("ends", [(1, 1), (2, 1), (math.nan, 1), (0, math.inf)])
def test_a_range_without_an_inside_is_refused(ends):
    with pytest.raises(UserError, match="low below high"):
        Range(*ends)


@pytest.mark.parametrize("parameters", [(0, 0), (0, -1), (math.nan, 1), (0, math.inf)])
def test_a_zscore_without_a_spread_is_refused(parameters):
    with pytest.raises(UserError, match="sd above 0"):
        ZScore(*parameters)
