import numpy as np
import pytest
from scipy import stats
from tables import table

from utilities.lab.checks.dev_for_test import dev_for_test, dev_for_test_cloud, expected_maximum, optimism


def splits(rng, true, noise=1.0, items=200, test_true=None):
    def split(values):
        return table(np.asarray(values)[:, None] + rng.normal(0, noise, (len(values), items)))

    return split(true), split(true if test_true is None else test_true)


def test_the_correlation_is_spearmans_and_what_noise_leaves_is_told():
    rng = np.random.default_rng(0)
    dev, test = splits(rng, rng.normal(0, 0.2, 40))
    found = dev_for_test(dev, test)
    assert found.value == pytest.approx(stats.spearmanr(dev.means, test.means).statistic)
    assert found.low < found.value < found.high
    assert found.numbers["kendall"] == pytest.approx(stats.kendalltau(dev.means, test.means).statistic)
    assert found.numbers["reachable"] == pytest.approx(0.2**2 / (0.2**2 + 1 / 200), rel=0.1)
    assert found.value == pytest.approx(found.numbers["reachable"], abs=0.1)


@pytest.mark.parametrize("check", [dev_for_test, dev_for_test_cloud])
def test_verdicts(check):
    rng = np.random.default_rng(1)
    true = np.linspace(-1, 1, 12)
    assert check(*splits(rng, true)).verdict == "pass"
    assert check(*splits(rng, true, test_true=-true)).verdict == "fail"
    assert check(*splits(rng, true, test_true=rng.permutation(true))).verdict in {"fail", "warn"}


def test_few_experts_leave_a_wide_interval_and_many_items_do_not_help():
    rng = np.random.default_rng(2)
    few = dev_for_test(*splits(rng, np.linspace(-1, 1, 5), items=2000))
    many = dev_for_test(*splits(rng, np.linspace(-1, 1, 50)))
    assert few.value == pytest.approx(1)
    assert 0 < few.low < 0.3
    assert many.low > 0.8


def test_the_clouds_interval_is_of_items():
    rng = np.random.default_rng(3)
    true = rng.normal(0, 0.1, 24)
    wide, narrow = (dev_for_test_cloud(*splits(rng, true, items=n)) for n in (100, 1600))
    assert wide.high - wide.low > narrow.high - narrow.low
    assert narrow.low <= narrow.value <= narrow.high <= 1


def test_models_are_matched_by_name_and_those_without_scores_left_out():
    rng = np.random.default_rng(4)
    true = np.linspace(-1, 1, 8)
    dev, test = splits(rng, true)
    turned = table(test.values[::-1], models=tuple(reversed(test.models)))
    assert dev_for_test(dev, turned).value == dev_for_test(dev, test).value
    broken = dev.values.copy()
    broken[2] = np.nan
    assert dev_for_test(table(broken), test).numbers["models"] == 7


@pytest.mark.parametrize(
    ("dev", "test", "told"),
    [
        (np.ones((4, 30)), np.ones((4, 30)), "4 models have scores on dev and test, at least 5"),
        (np.ones((6, 30)), np.ones((6, 30)), "all models have the same value"),
        (np.ones((6, 30)), np.ones((6, 10)), "10 items"),
    ],
)
def test_what_cannot_be_correlated_is_said(dev, test, told):
    found = dev_for_test(table(dev), table(test))
    assert found.verdict == "not applicable"
    assert told in found.advice


def test_the_expected_maximum_of_normal_numbers():
    assert expected_maximum(1) == pytest.approx(0, abs=1e-6)
    assert expected_maximum(2) == pytest.approx(1 / np.sqrt(np.pi), abs=1e-6)
    drawn = np.random.default_rng(5).normal(size=(4000, 500)).max(1).mean()
    assert expected_maximum(500) == pytest.approx(drawn, abs=0.02)


def test_the_optimism_of_the_best_of_many_is_what_simulations_show():
    rng, candidates, shown = np.random.default_rng(6), 50, []
    for _ in range(300):
        shared = rng.normal(0, 1, 100)  # how easy each item is: all candidates alike, so nobody is luckier by it
        dev = shared + rng.normal(0, 0.7, (candidates, 100))
        shown.append(dev.mean(1).max() - shared.mean())
    pools = [rng.normal(0, 1, 100) + rng.normal(0, 0.7, (20, 100)) for _ in range(20)]  # equally good, all of them
    found = [optimism(table(pool), candidates) for pool in pools]
    assert np.mean([one.value for one in found]) == pytest.approx(np.mean(shown), rel=0.05)
    assert all(one.advice.startswith("not decided: 100 items") for one in found if one.verdict == "warn")
    assert "pass" not in {one.verdict for one in found}
    assert optimism(table(pools[0] + np.arange(20)[:, None]), candidates).verdict == "pass"


def test_optimism_needs_candidates_and_noise():
    with pytest.raises(ValueError, match="best of 0"):
        optimism(table(np.ones((2, 30))), 0)
    assert "one cluster" in optimism(table(np.eye(3, 30), 30), 10).advice
