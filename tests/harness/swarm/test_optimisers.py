"""Every search that `--optimiser` names: it ends, climbs, repeats itself, and stands where it stood when told again."""

import json

import numpy as np
import pytest

from harness.swarm.optimisers import make_optimiser, make_stepwise, optimisers
from harness.swarm.settings import SwarmSettings

NAMES = sorted(optimisers)
GOAL = np.array([0.9, 0.0, 0.3, 0.1])


def height(row):
    """A smooth hill whose top is a mixture with a total of 1.3."""
    return 1.0 - float(np.square(row - GOAL).sum())


def settings(name, **changes):
    return SwarmSettings(**{"optimiser": name, "particles": 8, "iterations": 12, "patience": 50, **changes})


def optimiser(name, seed=0, state=None, **changes):
    return make_optimiser(4, 4, settings(name, **changes), seed, state)


def steps(search, values=height, stop=None):
    """Runs a search to its end; returns all rows that it asked for, one array an iteration."""
    asked = []
    while search.finished is None and len(asked) != stop:
        rows = search.ask()
        asked.append(rows)
        search.tell([values(row) for row in rows])
    return asked


@pytest.mark.parametrize("name", NAMES)
def test_it_finds_a_better_row_than_any_expert(name):
    search = optimiser(name)
    asked = steps(search)
    assert search.finished == "12 iterations done"
    assert len(asked) == 13
    best, value = search.best
    assert value == max(height(row) for rows in asked for row in rows) == height(best)
    assert value > max(height(row) for row in np.eye(4))


@pytest.mark.parametrize("name", NAMES)
def test_the_initial_experts_are_looked_at_first(name):
    first = optimiser(name).ask()
    np.testing.assert_array_equal(first[:4], np.eye(4))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_search_and_another_seed_another(name):
    one, same, other = (np.concatenate(steps(optimiser(name, seed))) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert one.shape != other.shape or not np.array_equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_a_search_that_is_read_back_goes_on_as_if_nothing_had_been(name):
    whole = steps(optimiser(name))
    for stop in (0, 1, 5):
        begun = optimiser(name)
        steps(begun, stop=stop)
        again = optimiser(name, state=json.loads(json.dumps(begun.state.to_dict())))
        assert again.snapshot.iteration == begun.snapshot.iteration == stop - 1
        rest = steps(again)
        np.testing.assert_array_equal(np.concatenate(rest), np.concatenate(whole[stop:]))
        assert again.best[1] == max(height(row) for rows in whole for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_asking_twice_is_asking_once(name):
    search = optimiser(name)
    for _ in range(3):
        np.testing.assert_array_equal(search.ask(), search.ask())
        assert len(search.asked) == len(search.ask())
        search.tell([height(row) for row in search.ask()])


@pytest.mark.parametrize("name", NAMES)
def test_missing_values_are_not_low_ones(name):
    search = optimiser(name)
    rng = np.random.default_rng(0)
    steps(search, lambda row: None if rng.uniform() < 0.3 else height(row) - 100)
    assert search.best[1] is not None
    nothing = optimiser(name, iterations=3)
    steps(nothing, lambda row: None)
    assert nothing.best[1] is None
    assert np.isnan(nothing.best[0]).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_flat_landscape_ends_by_patience(name):
    search = optimiser(name, iterations=50, patience=3)
    steps(search, lambda row: 0.5)
    assert "for 3 iterations" in search.finished
    np.testing.assert_array_equal(search.best[0], np.eye(4)[0])  # of equals the first


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("particles", [1, 5])
def test_one_expert_is_enough(name, particles):
    search = make_optimiser(1, 1, settings(name, particles=particles), 0)
    steps(search, lambda row: 1.0 - abs(float(row[0]) - 1.3))
    assert search.finished
    assert search.best[1] >= 0.7  # the expert itself


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_number_of_values_is_refused(name):
    search = optimiser(name)
    with pytest.raises(ValueError, match="tell without ask"):
        search.tell([1.0])
    search.ask()
    with pytest.raises(ValueError, match="values expected, got 1"):
        search.tell([1.0])


@pytest.mark.parametrize("name", ["cma-positive", "pso-standard", "random"])
def test_these_never_ask_for_a_negative_coefficient(name):
    asked = np.concatenate(steps(optimiser(name, iterations=30), lambda row: -float(row.sum())))
    assert (asked >= 0).all()


@pytest.mark.parametrize("name", ["cma-positive", "cma", "pso-standard"])
def test_these_leave_the_plane_of_coefficients_that_sum_to_one(name):
    search = optimiser(name, iterations=40)
    steps(search)
    np.testing.assert_allclose(search.best[0], GOAL, atol=0.15)
    assert search.best[1] > 0.97


def test_the_base_model_as_an_anchor_is_no_expert():
    search = make_optimiser(5, 4, settings("cma-positive"), 0)
    np.testing.assert_array_equal(search.ask(), np.eye(5)[:4])
    search.tell([0.0] * 4)
    assert search.ask().shape == (8, 5)


def test_whoever_counts_evaluations_gets_the_search_alone():
    search = make_stepwise(4, settings("cma-positive"), 0)
    rows = search.ask()
    assert rows.shape == (8, 4)
    assert not np.array_equal(rows[:4], np.eye(4))
