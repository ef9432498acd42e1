import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utilities.errors import UserError
from utilities.rewards.mixes import WORD_LIMIT, Mix, conflict, length_score, mixes, pareto_front

unit = st.floats(0, 1)
# Few different values, so that ties and equal points happen.
points = st.lists(st.tuples(*[st.integers(0, 3)] * 3).map(lambda row: dict(zip("abc", row, strict=True))), max_size=12)


def mixed(name, reward, length):
    return mixes.get(name)({"reward": reward, "length": length})


def test_the_papers_objectives_go_by_name():
    assert list(mixes) == ["concise", "general", "reverse", "verbose"]
    with pytest.raises(UserError, match=r"unknown mix 'verbos'\. Did you mean 'verbose'"):
        mixes.get("verbos")


@settings(deadline=None)
@given(unit, unit)
def test_the_objectives_are_those_of_the_paper(reward, length):
    assert mixed("general", reward, length) == reward
    assert mixed("verbose", reward, length) == pytest.approx((reward + length) / 2, abs=1e-15)
    assert mixed("concise", reward, length) == pytest.approx((reward + (1 - length)) / 2, abs=1e-15)
    assert mixed("reverse", reward, length) == -reward


@settings(deadline=None)
@given(unit, unit, unit)
def test_reverse_is_higher_for_what_the_reward_model_likes_less(one, other, length):
    assert (mixed("reverse", one, length) > mixed("reverse", other, length)) == (one < other)


def test_of_equal_rewards_verbose_prefers_the_longer_answer_and_concise_the_shorter():
    assert mixed("verbose", 0.5, 0.9) > mixed("verbose", 0.5, 0.1)
    assert mixed("concise", 0.5, 0.1) > mixed("concise", 0.5, 0.9)


@settings(deadline=None)
@given(unit, unit, unit)
def test_a_conflict_is_the_weighted_mean_of_its_two_parts(helpful, harmless, weight):
    parts = {"helpful": helpful, "harmless": harmless, "length": 0.3}
    value = conflict("helpful", "harmless", weight)(parts)
    assert value == pytest.approx(weight * helpful + (1 - weight) * harmless, abs=1e-12)


def test_a_mix_of_ones_own_is_weights_by_name():
    assert Mix({"a": 2.0, "b": -1.0}, constant=0.25)({"a": 1.0, "b": 0.5, "unused": 9.0}) == 1.75


def test_a_part_that_was_not_measured_is_named():
    with pytest.raises(UserError, match="the mix needs the part 'length'; measured are: reward"):
        mixes.get("verbose")({"reward": 1.0})
    with pytest.raises(UserError, match="measured are: none"):
        mixes.get("general")({})


@pytest.mark.parametrize("weights", [{}, {"a": math.nan}, {"a": 1.0, "b": math.inf}])
def test_weights_that_make_no_number_are_refused(weights):
    with pytest.raises(UserError, match="weights that are finite"):
        Mix(weights)


@pytest.mark.parametrize("arguments", [("a", "a"), ("a", "b", 1.1), ("a", "b", -0.1), ("a", "b", math.nan)])
def test_a_conflict_needs_two_parts_and_a_share(arguments):
    with pytest.raises(UserError, match="conflict"):
        conflict(*arguments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0.0), (" \n\t", 0.0), ("one", 0.25), ("one, two\n three", 0.75), ("a b c d", 1.0), ("a b c d e f", 1.0)],
)
def test_the_length_score_counts_words_up_to_the_limit(text, expected):
    assert length_score(text, limit=4) == expected


@settings(deadline=None)
@given(st.integers(0, 2 * WORD_LIMIT))
def test_another_word_raises_the_length_score_until_the_limit(words):
    shorter, longer = length_score("word " * words), length_score("word " * (words + 1))
    assert 0 <= shorter <= longer <= 1
    assert (shorter == longer) == (words >= WORD_LIMIT)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_length_limit_below_one_word_is_refused(limit):
    with pytest.raises(UserError, match="must be at least 1"):
        length_score("a b", limit=limit)


def test_a_front_by_hand():
    rows = [(0.9, 0.1), (0.5, 0.5), (0.4, 0.5), (0.1, 0.9), (0.5, 0.4), (0.9, 0.1), (0.0, 0.0)]
    assert pareto_front([{"reward": a, "length": b} for a, b in rows]) == [0, 1, 3, 5]


def test_the_order_in_which_a_point_names_its_parts_does_not_matter():
    assert pareto_front([{"a": 1.0, "b": 0.0}, {"b": 1.0, "a": 2.0}]) == [1]


def dominates(one, other):
    return all(one[name] >= other[name] for name in one) and any(one[name] > other[name] for name in one)


@settings(deadline=None)
@given(points)
def test_a_point_is_on_the_front_or_a_point_of_the_front_dominates_it(rows):
    front = pareto_front(rows)
    assert front == sorted(set(front))
    for k, row in enumerate(rows):
        assert (k in front) != any(dominates(rows[j], row) for j in front)


@settings(deadline=None)
@given(points.filter(bool), st.tuples(*[st.integers(1, 5)] * 3))
def test_the_best_of_any_mix_with_positive_weights_is_on_the_front(rows, weights):
    mix = Mix(dict(zip("abc", weights, strict=True)))
    assert max(range(len(rows)), key=lambda k: mix(rows[k])) in pareto_front(rows)


@settings(deadline=None)
@given(points.flatmap(lambda rows: st.permutations(range(len(rows))).map(lambda order: (rows, order))))
def test_the_front_does_not_depend_on_the_order_of_the_points(case):
    rows, order = case
    shuffled = pareto_front([rows[k] for k in order])
    assert sorted(order[k] for k in shuffled) == pareto_front(rows)


@pytest.mark.parametrize("rows", [[{"a": 1.0}, {"b": 1.0}], [{"a": 1.0}, {"a": 1.0, "b": 2.0}], [{"a": math.nan}]])
def test_points_that_cannot_be_compared_are_refused(rows):
    with pytest.raises(ValueError, match="cannot be compared"):
        pareto_front(rows)
