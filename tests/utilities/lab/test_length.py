import numpy as np
import pytest
from tables import table

from utilities.lab.checks.length import length_slope, padding, prefers_longer


def with_words(values, words, per_cluster=1):
    return table(values, per_cluster, words=np.array(words, dtype=float))


def test_the_correlation_is_taken_among_answers_to_the_same_item():
    rng = np.random.default_rng(0)
    words = rng.integers(5, 60, (8, 100))
    easy = rng.normal(0, 5, 100)  # and long answers are given to easy items
    words = words + np.round(3 * (easy - easy.min())).astype(int)
    found = length_slope(with_words(easy + rng.normal(0, 1, (8, 100)), words))
    assert abs(found.value) < 0.1
    assert found.verdict == "pass"
    across = np.corrcoef(np.tile(easy, 8), np.log1p(words).ravel())[0, 1]
    assert across > 0.5


def test_a_known_slope():
    rng = np.random.default_rng(1)
    words = rng.integers(5, 80, (8, 150))
    noise = rng.normal(0, 0.5, (8, 150))
    found = length_slope(with_words(2 * np.log2(1 + words) + noise, words))
    assert found.numbers["slope_per_doubling"] == pytest.approx(2, abs=0.05)
    assert found.value**2 == pytest.approx(found.numbers["variance_explained"])
    assert found.low < found.value < found.high
    assert found.verdict == "fail"
    assert "largely length" in found.advice
    assert "largely brevity" in length_slope(with_words(-np.log2(1 + words) + noise, words)).advice


def test_how_often_the_longer_one_wins_counts_ties_as_halves_and_like_lengths_not_at_all():
    words = np.array([[10.0] * 40, [20.0] * 40, [21.0] * 40])
    values = np.array([[0.0] * 40, [1.0] * 20 + [0.0] * 20, [1.0] * 20 + [-1.0] * 20])
    found = prefers_longer(with_words(values, words))
    # First against second: 20 wins and 20 ties; first against third: 20 wins, 20 losses; the others are as long.
    assert found.numbers["pairs"] == 80
    assert found.value == pytest.approx((20 + 10 + 20) / 80)


def test_an_empty_answer_is_shorter():
    found = prefers_longer(with_words(np.array([[0.0] * 30, [1.0] * 30]), np.array([[0.0] * 30, [1.0] * 30])))
    assert (found.value, found.verdict) == (1, "fail")


def test_padding_changes_nothing_or_pays():
    rng = np.random.default_rng(2)
    honest = rng.random((5, 80))
    assert padding(table(honest), table(honest)).value == 0.5
    paid = padding(table(honest), table(honest + np.where(rng.random((5, 80)) < 0.8, 0.01, -0.01)))
    assert paid.value == pytest.approx(0.8, abs=0.05)
    assert paid.verdict == "fail"
    assert padding(table(honest), table(honest - 0.1)).verdict == "pass"


def test_what_cannot_be_compared_is_said():
    constant = with_words(np.random.default_rng(3).random((3, 50)), np.full((3, 50), 7))
    assert "below 20 items with answers of different length" in length_slope(constant).advice
    assert "below 20 items with answers of different length" in prefers_longer(constant).advice
    assert "known length" in length_slope(table(np.ones((3, 50)))).advice
    flat = with_words(np.ones((3, 50)), np.arange(150).reshape(3, 50))
    assert "all answers to an item have the same score" in length_slope(flat).advice
    unscored = table(np.full((3, 50), np.nan), words=np.ones((3, 50)))
    assert length_slope(unscored).verdict == prefers_longer(unscored).verdict == "not applicable"
    assert "other models" in padding(table(np.ones((2, 30))), table(np.ones((3, 30)))).advice
    assert "below 20 items" in padding(table(np.ones((2, 10))), table(np.ones((2, 10)))).advice
