"""Emergence and diamond in the rough: exact controls equal enumeration, and shares are those of planted answers."""

from itertools import combinations, permutations, product

import numpy as np
import pytest

from harness.analysis.diamond import diamond_lines, rank_shares
from harness.analysis.emergence import (
    AFTER,
    BEFORE,
    RANDOM,
    at_least_one,
    emergence_lines,
    guessed,
    guessed_more_often,
    more_often,
)
from harness.analysis.result import verdict
from harness.analysis.stored import Correctness


def groups(options, **right):
    names = {"before": BEFORE, "after": AFTER, "random": RANDOM}
    arrays = {names[name]: np.array(rows, dtype=bool) for name, rows in right.items()}
    return Correctness(np.array(options), tuple(f"q{k}" for k in range(len(options))), arrays)


@pytest.mark.parametrize(("options", "guessers"), [(2, 3), (4, 2), (5, 3)])
def test_guessers_reach_the_share_of_all_their_answers(options, guessers):
    answers = list(product(range(options), repeat=guessers))
    assert guessed(np.array([options]), guessers)[0] == pytest.approx(np.mean([0 in one for one in answers]))
    both = [(one.count(0), other.count(0)) for one in answers for other in answers]
    share = np.mean([after > before for before, after in both])
    assert guessed_more_often(np.array([options]), guessers)[0] == pytest.approx(share)


def test_a_free_question_has_no_chance_level():
    assert np.isnan(guessed(np.array([0]), 3)).all()
    lines = emergence_lines([("t", groups([0, 0, 4], before=[[0, 0, 0]], after=[[1, 0, 0]]))])
    assert not any("guessed" in line.label for line in lines)


@pytest.mark.parametrize("right", range(6))
def test_as_many_particles_as_experts_is_the_mean_over_all_choices(right):
    models = [True] * right + [False] * (5 - right)
    choices = list(combinations(models, 3))
    assert at_least_one(np.array([right]), 5, 3)[0] == pytest.approx(np.mean([any(one) for one in choices]))
    more = np.mean([sum(one) > 1 for one in choices])
    assert more_often(np.array([1]), 3, np.array([right]), 5)[0] == pytest.approx(more)


def test_fewer_particles_than_experts_are_compared_by_shares():
    assert more_often(np.array([1, 2]), 4, np.array([1, 1]), 2).tolist() == [1.0, 0.0]


def test_shares_are_those_of_the_planted_answers():
    data = groups(
        [4] * 5,
        before=[[0, 0, 0, 0, 1], [0, 0, 0, 0, 0]],
        after=[[1, 0, 0, 0, 1], [1, 1, 0, 0, 1], [0, 0, 0, 0, 1]],
        random=[[1, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0]],
    )
    lines = {line.label: line for line in emergence_lines([("t", data), ("t", data)])}
    assert (lines["emerged"].value, lines["emerged"].n) == (0.5, 8)
    assert lines["emerged - random"].value == pytest.approx(0.5 - 0.75)
    assert lines["emerged - random"].control == pytest.approx(0.75)
    assert lines["emerged - guessed"].control == pytest.approx(1 - 0.75**3)
    assert lines["emerged, as many particles as experts"].value == pytest.approx((1 + 2 / 3) / 4)
    assert lines["surged"].value == pytest.approx((1 + 2 / 3 + 1) / 5)  # over all pairs of the three
    single, repeated = emergence_lines([("t", data)])[0], lines["emerged"]
    assert (single.low, single.high) == (repeated.low, repeated.high)  # a second seed has no new questions
    assert single.low < 0.5 < single.high


def test_no_emergence_at_all_has_an_interval():
    lines = emergence_lines([("t", groups([4] * 20, before=[[0] * 20], after=[[0] * 20]))])
    assert lines[0].value == lines[0].low == 0.0
    assert 0.1 < lines[0].high < 0.25
    assert "surged" not in {line.label for line in lines}


def test_a_rank_with_ties_is_spread_over_the_tied_ranks():
    values = np.array([3.0, 1.0, 3.0, 2.0])
    for which in range(4):
        orders = [p for p in permutations(range(4)) if sorted(p, key=lambda k: -values[k]) == list(p)]
        expected = np.mean([np.eye(4)[order.index(which)] for order in orders], axis=0)
        assert rank_shares(values, which) == pytest.approx(expected)


def test_the_interval_of_ranks_is_exact():
    last, top = np.eye(4)[3], np.eye(4)[0]
    first, bottom = diamond_lines([last, last, last, top])
    assert (first.value, first.control, bottom.value, bottom.control, bottom.n) == (0.25, 0.25, 0.75, 0.5, 4)
    # Clopper-Pearson: at the lower end, three or more of four have a probability of 2.5 %
    p = bottom.low
    assert 4 * p**3 * (1 - p) + p**4 == pytest.approx(0.025)


def test_a_verdict_needs_an_interval_without_zero():
    assert [verdict(0.1, 0.2), verdict(-0.2, -0.1), verdict(-1, 1), verdict(None, None)] == [
        *("holds", "does not hold", "not decided", "not decided")
    ]
    assert verdict(-0.2, -0.1, wanted=-1) == "holds"
