import numpy as np
import pytest
from tables import table

from utilities.lab.checks.noise import noise_floor, preferences, retest


def test_a_deterministic_utility_has_no_floor():
    scores = table(np.random.default_rng(0).random((5, 100)))
    found = noise_floor(scores, scores)
    assert (found.verdict, found.value) == ("pass", 0)
    assert found.numbers["changed"] == 0


def test_the_floor_is_the_standard_error_of_the_difference():
    rng = np.random.default_rng(1)
    truth, sd, items = rng.normal(0, 1, (30, 400)), 0.3, 400
    found = noise_floor(table(truth + rng.normal(0, sd, truth.shape)), table(truth + rng.normal(0, sd, truth.shape)))
    assert found.numbers["expected"] == pytest.approx(np.sqrt(2) * sd / np.sqrt(items), rel=0.05)
    assert found.numbers["seen"] == pytest.approx(found.numbers["expected"], rel=0.35)
    assert found.numbers["share_of_variance"] == pytest.approx(2 * sd**2 / (2 * (1 + sd**2)), rel=0.35)
    assert found.verdict == "pass"


def test_a_shift_of_all_items_is_noise_too():
    scores = np.random.default_rng(2).random((5, 100))
    found = noise_floor(table(scores), table(scores + 0.2))
    assert found.value == pytest.approx(0.2)
    assert found.verdict == "fail"


def test_one_model_has_a_floor_and_nothing_to_hold_it_against():
    rng = np.random.default_rng(3)
    one, other = table(rng.random(50)), table(rng.random(50))
    assert (noise_floor(one, one).verdict, noise_floor(one, other).verdict) == ("pass", "warn")


def test_verdicts_and_ties():
    found = preferences(table([[1, 0, 2, np.nan], [0, 1, 2 + 1e-9, 1]]))
    np.testing.assert_array_equal(found, [[1, -1, 0, np.nan]])
    assert preferences(table([[1, 2]])).shape == (0, 2)


def test_a_known_share_of_flips():
    # One of ten items changes its verdict between the replicates.
    first = np.tile([[1.0], [0.0]], 100)
    second = first.copy()
    second[:, ::10] = second[::-1, ::10]
    found = retest([table(first), table(second)])
    assert found.value == pytest.approx(0.1)
    assert found.low < 0.1 < found.high
    assert found.verdict == "pass"
    third = retest([table(first), table(second), table(first)])
    assert third.value == pytest.approx(2 / 3 * 0.1)
    assert third.numbers["replicates"] == 3


def test_a_coin_flips_as_the_yardstick_says():
    rng = np.random.default_rng(4)
    smooth = retest([table(rng.random((6, 300))) for _ in range(2)])
    assert smooth.value == pytest.approx(0.5, abs=0.03)
    thrice = retest([table(np.where(rng.integers(0, 3, 900) == 0, [[1], [0]], rng.integers(0, 2, 900))) for _ in "ab"])
    assert smooth.verdict == thrice.verdict == "fail"


@pytest.mark.parametrize(
    ("replicates", "told"),
    [
        ([table(np.ones((2, 30)))], "only once"),
        ([table(np.ones((2, 30))), table(np.ones((2, 31)))], "other models or items"),
        ([table(np.ones((1, 30)))] * 2, "at least 2 are needed"),
        ([table(np.ones((2, 30))), table(np.full((2, 30), np.nan))], "no answer was scored"),
    ],
)
def test_what_cannot_be_tested_again_is_said(replicates, told):
    found = retest(replicates)
    assert found.verdict == "not applicable"
    assert told in found.advice


def test_a_second_evaluation_of_something_else_is_no_second_one():
    found = noise_floor(table(np.ones((2, 30))), table(np.ones((3, 30))))
    assert found.verdict == "not applicable"
    few = noise_floor(table(np.ones((2, 10))), table(np.ones((2, 10))))
    assert "below 20 items that were scored twice" in few.advice
