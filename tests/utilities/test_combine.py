import numpy as np
import pytest
from scipy import stats

from utilities.combine import combinations, combine_evaluations, harmonic_mean
from utilities.core import Evaluation, ItemResult, Reason, Score, Unscored, Usage
from utilities.errors import UserError


def evaluation(values, prefix="", seconds=1.0):
    outcomes = [Unscored(Reason.REFUSED) if v is None else Score(float(v)) for v in values]
    results = [ItemResult(f"{prefix}{k}", f"{prefix}{k}", "", "", o) for k, o in enumerate(outcomes)]
    return Evaluation.of(results, Usage(len(values), seconds))


@pytest.mark.parametrize("values", [(0.5, 0.25), (1.0, 1.0), (0.9, 0.1, 0.4), (1e-9, 1.0), (0.3,)])
def test_the_harmonic_mean_is_scipys(values):
    ours = harmonic_mean({str(k): np.float64(v) for k, v in enumerate(values)})
    assert float(ours) == pytest.approx(stats.hmean(values), rel=1e-12)


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.0, 0.0), (-0.5, 1.0), (0.0, np.nan)])
def test_a_zero_or_less_in_any_part_makes_the_whole_zero(values):
    assert float(harmonic_mean({str(k): np.float64(v) for k, v in enumerate(values)})) == 0.0


def test_a_part_without_a_value_leaves_the_whole_without_one():
    assert np.isnan(harmonic_mean({"a": np.float64(np.nan), "b": np.float64(0.5)}))


def test_the_harmonic_mean_works_elementwise_on_arrays():
    a, b = np.random.default_rng(0).uniform(0.01, 1, (2, 3, 5))
    np.testing.assert_allclose(harmonic_mean({"a": a, "b": b}), stats.hmean(np.stack([a, b]), axis=0), rtol=1e-12)
    np.testing.assert_array_equal(harmonic_mean({"a": np.array([0.0, 0.5]), "b": np.array([1.0, 0.5])}), [0.0, 0.5])


def test_two_evaluations_become_one_with_counts_usage_and_parts():
    parts = {"one": evaluation([1, 1, 0, 0] * 10, "a"), "two": evaluation([1, 0, 0, 0] * 10, "b")}
    whole = combine_evaluations(parts, combinations.get("harmonic_mean"))
    assert whole.value == pytest.approx(stats.hmean([0.5, 0.25]))
    assert (whole.n, whole.n_unscored, whole.usage, whole.problem) == (80, 0, Usage(80, 2.0), None)
    assert whole.leaves == parts


def test_the_standard_error_of_a_combination_agrees_with_the_delta_method():
    rng = np.random.default_rng(3)
    parts = {"one": evaluation(rng.random(400) < 0.6, "a"), "two": evaluation(rng.random(400) < 0.4, "b")}
    whole = combine_evaluations(parts, harmonic_mean)
    x, y = parts["one"], parts["two"]
    slope_x, slope_y = 2 * y.value**2 / (x.value + y.value) ** 2, 2 * x.value**2 / (x.value + y.value) ** 2
    assert whole.se == pytest.approx(np.hypot(slope_x * x.se, slope_y * y.se), rel=0.1)


def test_the_same_evaluations_give_the_same_standard_error():
    parts = {"one": evaluation([1, 0, 1] * 9, "a"), "two": evaluation([1, 1, 0, 0] * 5, "b")}
    assert combine_evaluations(parts, harmonic_mean).se == combine_evaluations(parts, harmonic_mean).se


def test_few_items_still_have_a_finite_standard_error():
    # Many resamples of so few items leave one of the sets empty; those must not turn the result into NaN.
    whole = combine_evaluations({"one": evaluation([1, 0], "a"), "two": evaluation([1, 1], "b")}, harmonic_mean)
    assert whole.se is not None and np.isfinite(whole.se) and whole.se > 0


def test_items_of_two_sets_are_not_tied_by_having_the_same_id():
    # Published files number their items; "1" of one file has nothing to do with "1" of the other.
    rng = np.random.default_rng(5)
    right = rng.random(300) < 0.5
    same_ids = {"one": evaluation(right), "two": evaluation(right)}
    other_ids = {"one": evaluation(right, "a"), "two": evaluation(right, "b")}
    a, b = (combine_evaluations(parts, harmonic_mean).se for parts in (same_ids, other_ids))
    assert a == pytest.approx(b, rel=0.1)  # tied items would widen it by the square root of two


def test_a_part_that_is_not_comparable_makes_the_whole_so_and_is_named():
    parts = {"good": evaluation([1, 0], "a"), "bad": evaluation([1, None], "b")}
    whole = combine_evaluations(parts, harmonic_mean)
    assert (whole.value, whole.se, whole.n, whole.n_unscored) == (None, None, 3, 1)
    assert whole.problem == "bad: 1 of 2 items are unscored (limit 10%)"
    assert whole.leaves == parts


def test_a_single_part_passes_through():
    only = evaluation([1, 0])
    assert combine_evaluations({"only": only}, harmonic_mean) is only


def test_an_unknown_combination_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown combination 'harmonic'. Did you mean 'harmonic_mean'"):
        combinations.get("harmonic")
