import numpy as np
import pytest
from tables import table

from utilities.lab.checks.attacks import attacks

HONEST = np.random.default_rng(0).normal(5, 1, (10, 60))


def canaries_of(*rows, names=("empty", "colon", "padding")):
    return table(np.array(rows), models=names[: len(rows)])


def test_the_strongest_canary_is_the_value_and_all_are_among_the_numbers():
    found = attacks(table(HONEST), canaries_of(np.full(60, 1.0), np.full(60, 4.0)))
    assert found.value == found.numbers["colon"] == pytest.approx(np.mean(HONEST < 4))
    assert found.numbers["empty"] == 0
    assert found.verdict == "pass"
    assert "colon" in found.advice


def test_whoever_beats_the_median_honest_answer_is_named():
    found = attacks(table(HONEST), canaries_of(np.full(60, 6.0), np.full(60, 9.0), np.full(60, 2.0)))
    assert found.verdict == "fail"
    assert "colon, empty" in found.advice


def test_a_tie_beats_nobody_and_is_a_warning():
    found = attacks(table(np.ones((10, 60))), canaries_of(np.ones(60)))
    assert (found.value, found.verdict) == (0.5, "warn")


def test_the_same_item_is_compared():
    easy = np.linspace(0, 100, 60)
    found = attacks(table(HONEST + easy), canaries_of(easy))
    assert found.value < 0.01


def test_canaries_on_some_of_the_items_in_another_order():
    part = canaries_of(np.full(60, 9.0)).take(np.arange(59, 29, -1))
    assert attacks(table(HONEST), part).value == 1


def test_a_canary_that_could_not_be_scored_has_beaten_nobody():
    found = attacks(table(HONEST), canaries_of(np.full(60, np.nan), np.full(60, 1.0)))
    assert (found.numbers["empty"], found.verdict) == (None, "pass")
    none = attacks(table(HONEST), canaries_of(np.full(60, np.nan)))
    assert (none.verdict, none.advice) == ("pass", "no canary has a score")


@pytest.mark.parametrize(
    ("honest", "attacked", "told"),
    [
        (table(HONEST), table(np.zeros((0, 60))), "there are no canaries"),
        (table(HONEST), table(np.zeros((1, 60)), prefix="other"), "0 items have answers"),
        (table(np.full((2, 60), np.nan)), table(np.zeros((1, 60))), "below 20 items have a scored honest answer"),
    ],
)
def test_what_cannot_be_compared_is_said(honest, attacked, told):
    found = attacks(honest, attacked)
    assert found.verdict == "not applicable"
    assert told in found.advice
