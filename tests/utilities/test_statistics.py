import numpy as np
import pytest
from scipy import stats

from utilities.combine import combine_evaluations, harmonic_mean
from utilities.core import Evaluation, ItemResult, Reason, Score, Unscored
from utilities.standard_error import clustered_se
from utilities.statistics import (
    Difference,
    Estimate,
    Pair,
    bootstrap_se,
    clustered_estimate,
    difference_over_runs,
    paired_difference,
    resampled_difference,
    small_sample_factor,
)


def mean(values):
    return next(iter(values.values()))


def evaluation(values, clusters=None, ids=None):
    ids = ids or [f"i{k}" for k in range(len(values))]
    clusters = clusters or ids
    outcomes = [Unscored(Reason.MALFORMED) if v is None else Score(float(v)) for v in values]
    return Evaluation.of([ItemResult(i, c, "", "", o) for i, c, o in zip(ids, clusters, outcomes, strict=True)])


def test_identical_evaluations_differ_by_nothing_with_no_width():
    values = [1, 0, 1, 1, 0]
    assert paired_difference(evaluation(values), evaluation(values), mean) == Difference(0.0, 0.0, 0.0)


def test_a_constant_shift_has_no_width():
    a = np.random.default_rng(0).random(50)
    found = paired_difference(evaluation(a + 0.25), evaluation(a), mean)
    assert found == pytest.approx((0.25, 0.25, 0.25), abs=1e-12)


def test_the_difference_changes_sign_with_its_sides():
    rng = np.random.default_rng(1)
    a, b = evaluation(rng.random(60)), evaluation(rng.random(60))
    there, back = paired_difference(a, b, mean), paired_difference(b, a, mean)
    assert there.value == pytest.approx(-back.value)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.low < there.value < there.high


def test_pairing_takes_out_what_items_share():
    # Item difficulty varies far more than the sides do; an unpaired interval would be many times as wide.
    rng = np.random.default_rng(2)
    difficulty, noise = rng.normal(0, 1, 200), rng.normal(0, 0.05, 200)
    a, b = evaluation(difficulty + 0.1 + noise), evaluation(difficulty)
    found = paired_difference(a, b, mean)
    assert 0 < found.low < 0.1 < found.high
    assert found.high - found.low < 0.2 * (2 * 1.96 * np.hypot(a.se, b.se))


@pytest.mark.parametrize("clustered", [False, True])
def test_the_interval_covers_the_truth_about_19_times_in_20(clustered):
    rng, truth, covered = np.random.default_rng(7), 0.1, 0
    for k in range(100):
        size = 2 if clustered else 1
        shared = np.repeat(rng.normal(0, 0.3, 40), size)
        difference = truth + shared + rng.normal(0, 0.1, shared.size)
        base = rng.normal(0, 1, shared.size)
        clusters = [f"c{i // size}" for i in range(shared.size)]
        found = paired_difference(evaluation(base + difference, clusters), evaluation(base, clusters), mean, seed=k)
        covered += found.low <= truth <= found.high
    assert 88 <= covered <= 100


def test_clustered_items_give_wider_intervals_than_pretended_independence():
    rng = np.random.default_rng(4)
    shared = np.repeat(rng.normal(0, 1, 40), 5)
    values, clusters = shared + rng.normal(0, 0.1, 200), [f"c{k // 5}" for k in range(200)]
    zeros = np.zeros(200)
    honest = paired_difference(evaluation(values, clusters), evaluation(zeros, clusters), mean)
    naive = paired_difference(evaluation(values), evaluation(zeros), mean)
    assert honest.value == pytest.approx(naive.value)
    # Five items that say the same are worth one: the interval is about sqrt(5) times as wide.
    assert 1.8 < (honest.high - honest.low) / (naive.high - naive.low) < 2.7


def test_items_unscored_on_one_side_leave_both():
    a = evaluation([1.0] * 10 + [None] + [0.5] * 10)
    b = evaluation([0.0] + [1.0] * 20)
    without_both = [*range(10), *range(11, 21)]
    expected = np.mean([([1.0] * 11 + [0.5] * 10)[k] - (0.0 if k == 0 else 1.0) for k in without_both])
    assert paired_difference(a, b, mean).value == pytest.approx(expected)


def test_other_item_sets_cannot_be_paired():
    single = evaluation([1, 0, 1])
    both = combine_evaluations({"x": evaluation([1, 0]), "y": evaluation([1, 1])}, harmonic_mean)
    renamed = combine_evaluations({"x": evaluation([1, 0]), "z": evaluation([1, 1])}, harmonic_mean)
    for other in (both, evaluation([1, 0]), evaluation([1, 0, 1], ids=["i0", "i1", "i7"])):
        with pytest.raises(ValueError, match="cannot be paired"):
            paired_difference(single, other, mean)
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_difference(both, renamed, harmonic_mean)


def test_fewer_than_two_clusters_have_no_interval():
    assert paired_difference(evaluation([1]), evaluation([0]), mean) is None
    assert paired_difference(evaluation([1, 1], ["c", "c"]), evaluation([0, 1], ["c", "c"]), mean) is None
    assert paired_difference(evaluation([1, None]), evaluation([None, 1]), mean) is None
    assert bootstrap_se(evaluation([1, 1], ["c", "c"]), mean) is None


def test_combined_evaluations_are_paired_through_the_combination():
    rng = np.random.default_rng(8)
    sides = []
    for p in (0.8, 0.3):
        parts = {name: evaluation(rng.random(200) < p) for name in ("x", "y")}
        sides.append(combine_evaluations(parts, harmonic_mean))
    found = paired_difference(*sides, harmonic_mean)
    assert found.value == pytest.approx(sides[0].value - sides[1].value)
    assert 0.3 < found.low < found.value < found.high < 0.7


def test_two_items_a_set_give_a_finite_interval():
    sides = [
        combine_evaluations({"x": evaluation(x), "y": evaluation([1, 1])}, harmonic_mean) for x in ([1, 1], [1, 0])
    ]
    assert np.isfinite(paired_difference(*sides, harmonic_mean)).all()


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    rng = np.random.default_rng(9)
    a, b = evaluation(rng.random(30)), evaluation(rng.random(30))
    assert paired_difference(a, b, mean, seed=1) == paired_difference(a, b, mean, seed=1)
    assert paired_difference(a, b, mean, seed=1) != paired_difference(a, b, mean, seed=2)


def test_the_bootstrap_agrees_with_the_formula_for_a_plain_mean():
    rng = np.random.default_rng(10)
    shared = np.repeat(rng.normal(0, 1, 100), 3)
    values, clusters = shared + rng.normal(0, 0.5, 300), [f"c{k // 3}" for k in range(300)]
    one = evaluation(values, clusters)
    assert bootstrap_se(one, mean) == pytest.approx(one.se, rel=0.08)


def test_runs_that_differ_widen_the_interval_and_more_runs_narrow_it():
    rng = np.random.default_rng(12)
    other = rng.random(100)
    same = [evaluation(other + 0.1 + rng.normal(0, 0.05, 100)) for _ in range(5)]
    apart = [evaluation(other + 0.1 + shift + rng.normal(0, 0.05, 100)) for shift in (-0.2, -0.1, 0.0, 0.1, 0.2)]
    close, wide = (difference_over_runs(runs, [evaluation(other)], mean) for runs in (same, apart))
    more = difference_over_runs(apart * 4, [evaluation(other)], mean)
    assert close.value == pytest.approx(0.1, abs=0.02) and wide.value == pytest.approx(0.1, abs=0.02)
    assert close.high - close.low < 0.5 * (more.high - more.low) < 0.5 * (wide.high - wide.low)


def test_the_interval_over_runs_covers_the_truth_about_19_times_in_20():
    rng, truth, covered = np.random.default_rng(13), 0.1, 0
    for k in range(60):
        other = rng.normal(0, 1, 60)
        runs = [evaluation(other + truth + rng.normal(0, 0.1) + rng.normal(0, 0.2, 60)) for _ in range(10)]
        found = difference_over_runs(runs, [evaluation(other)], mean, seed=k)
        covered += found.low <= truth <= found.high
    assert covered >= 50


def test_runs_of_both_sides_are_averaged_and_the_sides_can_be_swapped():
    rng = np.random.default_rng(14)
    a, b = [evaluation(rng.random(80)) for _ in range(3)], [evaluation(rng.random(80)) for _ in range(2)]
    there, back = difference_over_runs(a, b, mean), difference_over_runs(b, a, mean)
    assert there.value == pytest.approx(np.mean([e.value for e in a]) - np.mean([e.value for e in b]))
    assert back.value == pytest.approx(-there.value)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=0.02)


def test_spread_between_the_runs_of_either_side_widens_the_interval():
    rng = np.random.default_rng(15)
    base = rng.random(100)
    close, apart = ([evaluation(base + shift) for shift in shifts] for shifts in ((0, 0, 0), (-0.2, 0, 0.2)))
    narrow = difference_over_runs(close, close, mean)
    for sides in ((apart, close), (close, apart)):
        wide = difference_over_runs(*sides, mean)
        assert narrow == (0, 0, 0)
        assert wide.low < -0.1 and wide.high > 0.1


def test_a_difference_over_tasks_is_the_mean_of_theirs_and_surer_than_each():
    rng = np.random.default_rng(16)
    pairs = []
    for n, truth in ((100, 0.1), (60, 0.3), (80, 0.2)):
        base = rng.random(n)
        pairs.append(Pair([evaluation(base + truth + rng.normal(0, 0.3, n))], [evaluation(base)], mean))
    each = [resampled_difference([pair]).difference for pair in pairs]
    whole = resampled_difference(pairs).difference
    assert whole.value == pytest.approx(np.mean([one.value for one in each]))
    assert whole.high - whole.low < min(one.high - one.low for one in each)
    # independent tasks: variances add up
    assert whole.high - whole.low == pytest.approx(np.sqrt(sum((one.high - one.low) ** 2 for one in each)) / 3, rel=0.1)


def test_p_is_below_5_percent_where_the_interval_leaves_out_zero():
    rng = np.random.default_rng(17)
    seen = set()
    for shift in np.linspace(-0.2, 0.2, 41):
        base = rng.random(40)
        found = resampled_difference(
            [Pair([evaluation(base + shift + rng.normal(0, 0.3, 40))], [evaluation(base)], mean)]
        )
        outside = found.difference.low > 0 or found.difference.high < 0
        assert (found.p < 0.05) == outside
        seen.add(outside)
    assert seen == {True, False}


def test_p_agrees_with_the_t_test_of_paired_items():
    rng = np.random.default_rng(18)
    for truth in (0.0, 0.03, 0.06, 0.09):
        base, change = rng.random(300), truth + rng.normal(0, 0.5, 300)
        found = resampled_difference([Pair([evaluation(base + change)], [evaluation(base)], mean)])
        assert found.p == pytest.approx(stats.ttest_1samp(change, 0).pvalue, abs=0.06)  # 2000 resamples


def test_equal_sides_have_p_1_and_a_constant_gain_the_smallest_p():
    base = np.random.default_rng(19).random(30)
    same, better = evaluation(base), evaluation(base + 0.25)
    assert resampled_difference([Pair([same], [same], mean)]).p == 1
    assert resampled_difference([Pair([better], [same], mean)]).p == pytest.approx(2 / 2001)


# -- few clusters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [8, 15])
def test_intervals_of_few_clusters_cover_the_truth_as_often_as_they_say(count):
    rng = np.random.default_rng(5)
    found = [paired_difference(evaluation(rng.normal(size=count)), evaluation([0.0] * count), mean) for _ in range(300)]
    assert np.mean([one.low <= 0 <= one.high for one in found]) > 0.92  # 0.87 for 8 clusters without the correction


def test_the_small_sample_factor_is_that_of_student_and_vanishes():
    assert [round(small_sample_factor(n), 2) for n in (2, 5, 40, 10_000)] == [9.17, 1.58, 1.05, 1.0]


# -- statistics of clusters --------------------------------------------------------------------------------------------


def mean_of(values):
    return lambda index: float(values[index].mean())


@pytest.mark.parametrize("method", ["percentile", "normal"])
@pytest.mark.parametrize("size", [1, 4])
def test_the_interval_of_any_statistic_is_as_wide_as_the_clustered_standard_error_says(method, size):
    rng = np.random.default_rng(11)
    values = np.repeat(rng.normal(0, 1, 120), size) + rng.normal(0, 0.1, 120 * size)
    order = rng.permutation(values.size)  # neighbours in a list need not share a cluster
    values, clusters = values[order], [f"c{k // size}" for k in order]
    found = clustered_estimate(mean_of(values), clusters, method=method)
    assert found.value == values.mean()
    assert found.high - found.low == pytest.approx(2 * 1.96 * clustered_se(list(values), clusters), rel=0.08)


def test_normal_intervals_lie_around_the_value_where_resampling_pulls_it_down():
    rng = np.random.default_rng(12)
    scores = np.linspace(0, 1, 30)[:, None] + rng.normal(0, 2, (2, 30, 100))

    def rank_correlation(index):
        return float(stats.spearmanr(*scores[:, :, index].mean(-1)).statistic)

    items = [str(k) for k in range(100)]
    low, high = clustered_estimate(rank_correlation, items, resamples=300)[1:]
    centred = clustered_estimate(rank_correlation, items, resamples=300, method="normal")
    assert (centred.low + centred.high) / 2 == pytest.approx(centred.value)
    assert (low + high) / 2 < centred.value + 0.05
    assert (high - low) == pytest.approx(centred.high - centred.low, rel=0.25)


def test_a_statistic_without_a_value_has_no_interval():
    values = np.arange(10.0)
    assert clustered_estimate(mean_of(values), ["one"] * 10) == Estimate(4.5, None, None)
    nowhere = clustered_estimate(lambda index: float("nan"), list("abcdefghij"))
    assert np.isnan(nowhere.value)
    assert nowhere[1:] == (None, None)
    seldom = clustered_estimate(lambda index: 1.0 if len(set(index)) > 8 else float("nan"), list("abcdefghij"))
    assert seldom == Estimate(1.0, None, None)


def test_the_seed_decides_the_interval():
    values, items = np.random.default_rng(13).random(40), [str(k) for k in range(40)]
    one, same, other = (clustered_estimate(mean_of(values), items, seed) for seed in (1, 1, 2))
    assert one == same != other
