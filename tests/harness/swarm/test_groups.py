"""Coefficients for groups of modules: the swarm on grouped rows, other searches on them, and what shrinkage leaves."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.swarm import update
from harness.swarm.drivers import Budgeted
from harness.swarm.groups import Deviations, rows_of_groups
from harness.swarm.optimisers import make_optimiser, make_strategy
from harness.swarm.particle_swarm import ParticleSwarm
from harness.swarm.settings import VARIANTS, SwarmSettings
from harness.swarm.state import SwarmState

N, GROUPS = 3, 4
GOAL = np.array([[0.9, 0.1, 0.3], [0.1, 0.9, 0.2], [0.5, 0.5, 0.0], [0.2, 0.2, 0.8]]).reshape(-1)
"""What each group should be."""

numbers = st.floats(-10, 10, allow_subnormal=False)
shrinkages = st.floats(0, 1)


def value(row):
    return -float(np.square(row - GOAL).sum())


def swarm(groups=GROUPS, seed=0, state=None, **changes):
    changes = {"particles": 7, "iterations": 12, "restart_patience": 2, "patience": 100, **changes}
    return ParticleSwarm(N, SwarmSettings(**changes), seed, state, groups=groups)


def history(optimiser, utility=value):
    """The rows of every ask, in order."""
    rows = []
    while optimiser.finished is None:
        rows.append(optimiser.ask())
        optimiser.tell([utility(row) for row in rows[-1]])
    return rows


# -- shrinking ---------------------------------------------------------------------------------------------------------


def test_shrinking_by_hand():
    x = np.array([[[1.0, 0.0], [0.0, 2.0]]])
    np.testing.assert_allclose(update.shared(x), [[[0.5, 1.0]]], rtol=1e-15)
    np.testing.assert_allclose(update.shrink(x, 0.5), [[[0.75, 0.5], [0.25, 1.5]]], rtol=1e-15)
    np.testing.assert_allclose(update.shrink(x, 1.0), [[[0.5, 1.0], [0.5, 1.0]]], rtol=1e-15)
    np.testing.assert_allclose(update.shrink(x, 0.0), x, rtol=1e-15)


@settings(deadline=None)
@given(arrays(np.float64, (5, GROUPS, N), elements=numbers), shrinkages)
def test_shrinking_keeps_the_mean_and_takes_its_share_of_the_rest(x, shrinkage):
    found = update.shrink(x, shrinkage)
    mean = x.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found.mean(axis=1, keepdims=True), mean, atol=1e-12)
    np.testing.assert_allclose(found - mean, (1 - shrinkage) * (x - mean), atol=1e-12)
    everything = update.shrink(x, 1.0)
    assert (everything == everything[:, :1]).all()


@settings(deadline=None)
@given(arrays(np.float64, (5, N), elements=numbers), shrinkages, st.integers(1, 7))
def test_groups_that_are_equal_stay_what_they_are_bit_for_bit(x, shrinkage, groups):
    tiled = np.repeat(x[:, None], groups, axis=1)
    assert np.array_equal(update.shrink(tiled, shrinkage), tiled)


# -- the swarm ---------------------------------------------------------------------------------------------------------


def plain_search(experts, groups, utility, s, seed):
    """Algorithm 1 on lists of weight vectors, one a group, a particle at a time; returns what was asked for.

    Only the order of the random numbers is that of the code under test.
    """
    rng = np.random.default_rng(seed)
    n = s.particles
    start = [weights.copy() for weights in experts[:n]]
    while len(start) < n:
        a, b = rng.choice(len(experts), size=2, replace=False)
        t = rng.uniform(0.0, s.crossover_max)
        start.append(t * experts[a] + (1 - t) * experts[b])
    x = [[weights.copy() for _ in range(groups)] for weights in start]
    away = rng.integers(1, n, size=n)
    v = [[x[(i + away[i]) % n][g] - x[i][g] for g in range(groups)] for i in range(n)]
    p, p_score, stagnation = [list(one) for one in x], [-np.inf] * n, [0] * n
    best, best_score, worst, worst_score, step, asked = None, -np.inf, None, np.inf, s.step_length, []
    for k in range(s.iterations + 1):
        if k > 0:
            r = rng.uniform(size=(n, groups, 4))
            rng.uniform(size=n + 1)  # the draws of drop-K and drop-N
            for i in range(n):
                for g in range(groups):
                    a, b, c, d = r[i][g] * (s.inertia, s.cognitive, s.social, s.repel)
                    pull = a * v[i][g] + b * (p[i][g] - x[i][g]) + c * (best[g] - x[i][g]) - d * (worst[g] - x[i][g])
                    v[i][g] = pull / (a + b + c + d)
                moved = [x[i][g] + step * v[i][g] for g in range(groups)]
                mean = sum(moved) / groups
                x[i] = [mean + (1 - s.shrinkage) * (one - mean) for one in moved]
            step *= s.step_decay
        asked.append(np.array(x))
        for i in range(n):
            score = utility(x[i])
            stagnation[i] += 1
            if score > p_score[i]:
                p[i], p_score[i], stagnation[i] = list(x[i]), score, 0
            if score > best_score:
                best, best_score = list(x[i]), score
            if score < worst_score:
                worst, worst_score = list(x[i]), score
            if stagnation[i] >= s.restart_patience:
                x[i], v[i], stagnation[i] = list(p[i]), [np.zeros_like(one) for one in v[i]], 0
    return asked


@pytest.mark.parametrize("shrinkage", [0.0, 0.5, 0.9])
def test_the_search_on_grouped_rows_equals_algorithm_1_on_the_weights_of_each_group(shrinkage):
    s = SwarmSettings(particles=6, iterations=20, patience=100, restart_patience=2, shrinkage=shrinkage)
    experts = np.random.default_rng(7).normal(size=(N, 40))  # each group is 40 weights of its own

    def utility(weights):
        return float(-np.mean([np.mean((one - 0.2 * g) ** 2) for g, one in enumerate(weights)]))

    rows = history(ParticleSwarm(N, s, 3, groups=GROUPS), lambda row: utility(row.reshape(GROUPS, N) @ experts))
    expected = plain_search(experts, GROUPS, utility, s, 3)
    assert len(rows) == len(expected) == 21
    for here, there in zip(rows, expected, strict=True):
        np.testing.assert_allclose(here.reshape(-1, GROUPS, N) @ experts, there, rtol=0, atol=1e-9)
    last = rows[-1].reshape(-1, GROUPS, N)
    assert np.ptp(last, axis=1).max() > 1e-3  # the groups did go ways of their own


def test_all_groups_begin_with_the_population_of_one():
    one, many = swarm(1), swarm()
    assert np.array_equal(many.ask(), np.tile(one.ask(), (1, GROUPS)))
    assert np.array_equal(many.state.velocities, np.tile(one.state.velocities, (1, GROUPS)))


CASES = {"plain": {}, "drops": {"drop_particle": 0.3, "drop_iteration": 0.2}, "best": {"initial_velocity": "best"}}


@pytest.mark.parametrize("case", CASES)
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), groups=st.integers(2, 7), variant=st.sampled_from(list(VARIANTS)))
def test_with_shrinkage_1_it_is_the_search_of_the_whole_model_bit_for_bit(case, seed, groups, variant):
    changes = {**VARIANTS[variant], **CASES[case], "iterations": 8}

    def utility(row):
        return -float(np.square(row[:N] - GOAL[:N]).sum())

    one = history(swarm(1, seed, **changes), utility)
    many = history(swarm(groups, seed, **changes, shrinkage=1.0), utility)
    assert len(one) == len(many)
    for here, there in zip(many, one, strict=True):
        assert np.array_equal(here, np.tile(there, (1, groups)))


def test_shrinkage_is_nothing_to_a_swarm_of_one_group():
    free, held = (history(swarm(1, shrinkage=s), lambda row: -float(row @ row)) for s in (0.0, 1.0))
    for here, there in zip(free, held, strict=True):
        assert np.array_equal(here, there)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), shrinkages)
def test_the_sum_of_every_groups_row_stays_1(seed, shrinkage):
    for rows in history(swarm(seed=seed, shrinkage=shrinkage)):
        np.testing.assert_allclose(rows.reshape(-1, GROUPS, N).sum(axis=2), 1.0, atol=1e-9)


def test_less_shrinkage_lets_groups_go_further_apart():
    def spread(shrinkage):
        rows = np.concatenate(history(swarm(shrinkage=shrinkage))).reshape(-1, GROUPS, N)
        return rows.std(axis=1).mean()

    found = [spread(shrinkage) for shrinkage in (0.0, 0.5, 0.9, 1.0)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0.0 < found[-2]


def test_a_utility_that_wants_groups_apart_is_served_better():
    """The same evaluations: what one row for all can reach at most is passed."""
    common = -float(np.square(GOAL.reshape(GROUPS, N) - GOAL.reshape(GROUPS, N).mean(axis=0)).sum())
    grouped = swarm(shrinkage=0.0, particles=20, iterations=60)
    history(grouped)
    assert grouped.best[1] > common > -np.inf
    whole = swarm(shrinkage=1.0, particles=20, iterations=60)
    history(whole)
    assert whole.best[1] <= common


@pytest.mark.parametrize("after", [0, 1, 6])
def test_it_goes_on_from_json_as_if_it_had_never_stopped(after):
    changes = {"drop_particle": 0.2}
    whole, first = history(swarm(**changes)), swarm(**changes)
    rows = []
    for _ in range(after):
        rows.append(first.ask())
        first.tell([value(row) for row in rows[-1]])
    state = SwarmState.from_dict(json.loads(json.dumps(first.state.to_dict())))
    rows += history(swarm(state=state, seed=99, **changes))
    assert len(rows) == len(whole)
    assert all(np.array_equal(here, there) for here, there in zip(rows, whole, strict=True))


def test_one_expert_stays_itself_in_every_group():
    optimiser = ParticleSwarm(1, SwarmSettings(particles=3, iterations=4), 0, groups=GROUPS)
    for rows in history(optimiser, lambda row: 0.5):
        np.testing.assert_allclose(rows, np.ones((3, GROUPS)), atol=1e-15)


# -- other searches ----------------------------------------------------------------------------------------------------

OTHERS = ("pso-standard", "random", "cma", "cma-positive")
every_other = pytest.mark.parametrize("name", OTHERS)


def other(name, shrinkage=0.5, groups=GROUPS, seed=1, state=None, **changes):
    changes = {"particles": 9, "iterations": 8, "patience": 100, **changes}
    s = SwarmSettings(optimiser=name, shrinkage=shrinkage, **changes)
    return make_optimiser(N, N, s, seed, state, groups)


def test_rows_of_groups_by_hand():
    found = rows_of_groups(np.array([[1.0, 2.0]]), np.array([[[1.0, 0.0], [0.0, -4.0], [0.0, 0.0]]]), 0.75)
    assert found.tolist() == [[1.25, 2.0, 1.0, 1.0, 1.0, 2.0]]
    numbers = np.array([[1.0, 2.0, 1.0, 0.0, 0.0, -4.0, 0.0, 0.0]])
    assert np.array_equal(Deviations(2, 3, 0.75).rows(numbers), found)
    assert Deviations(2, 3, 0.75).start(0.5) == [0.5, 0.5, *[0.0] * 6]
    assert np.array_equal(
        Deviations(2, 3, 0.75).rows(np.array([Deviations(2, 3, 0.75).start(0.5)])), np.full((1, 6), 0.5)
    )


@every_other
@pytest.mark.parametrize("groups", [1, 2, GROUPS])
def test_with_shrinkage_1_every_search_is_that_of_the_whole_model_bit_for_bit(name, groups):
    def utility(row):
        return -float(np.square(row[:N] - GOAL[:N]).sum())

    one, many = history(other(name, 0.3, 1), utility), history(other(name, 1.0, groups), utility)
    assert len(one) == len(many) == 9
    for here, there in zip(many, one, strict=True):
        assert np.array_equal(here, np.tile(there, (1, groups)))


@every_other
@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 1000), shrinkage=st.floats(0, 0.99))
def test_groups_begin_with_the_experts_and_go_ways_of_their_own(name, seed, shrinkage):
    first, *rows = history(other(name, shrinkage, seed=seed, iterations=4))
    assert np.array_equal(first, np.tile(np.eye(N), (1, GROUPS)))
    parts = rows[-1].reshape(-1, GROUPS, N)
    assert (parts != parts[:, :1]).any(axis=(1, 2)).all()
    if name != "cma":
        assert (np.concatenate(rows) >= 0).all()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), shrinkages)
def test_random_rows_have_the_totals_that_are_drawn(seed, shrinkage):
    totals = np.concatenate(history(other("random", shrinkage, seed=seed))[1:]).reshape(-1, GROUPS, N).sum(axis=2)
    assert (totals >= 0.5 - 1e-9).all() and (totals <= 2.0 + 1e-9).all()


@every_other
@pytest.mark.parametrize("after", [1, 4])
def test_other_searches_go_on_from_json(name, after):
    whole, first = history(other(name)), other(name)
    rows = []
    for _ in range(after):
        rows.append(first.ask())
        first.tell([value(row) for row in rows[-1]])
    rows += history(other(name, state=json.loads(json.dumps(first.state.to_dict()))))
    assert len(rows) == len(whole)
    assert all(np.array_equal(here, there) for here, there in zip(rows, whole, strict=True))


@every_other
def test_one_expert_has_a_strength_for_each_group(name):
    s = SwarmSettings(optimiser=name, particles=6, iterations=3, patience=100)
    rows = np.concatenate(history(make_optimiser(1, 1, s, 0, groups=GROUPS), lambda row: -float(row @ row))[1:])
    assert rows.shape == (18, GROUPS)
    assert np.isfinite(rows).all() and np.ptp(rows, axis=1).max() > 0


def test_cma_finds_what_each_group_should_be():
    found = other("cma", 0.0, particles=20, iterations=200, patience=1000)
    history(found)
    np.testing.assert_allclose(found.best[0], GOAL, atol=0.05)
    one = other("cma", 1.0, particles=20, iterations=60, patience=1000)
    history(one)
    np.testing.assert_allclose(one.best[0].reshape(GROUPS, N)[0], GOAL.reshape(GROUPS, N).mean(axis=0), atol=0.05)


@every_other
def test_a_search_with_groups_passes_what_one_row_for_all_can_reach(name):
    common = -float(np.square(GOAL.reshape(GROUPS, N) - GOAL.reshape(GROUPS, N).mean(axis=0)).sum())
    found = other(name, 0.0, particles=20, iterations=200, patience=1000)
    history(found)
    assert found.best[1] > common


@every_other
def test_a_budget_is_kept_with_groups_too(name):
    s = SwarmSettings(optimiser=name, particles=9)
    rows = np.concatenate(history(Budgeted(make_strategy(N, s, 2, GROUPS), 31)))
    assert rows.shape == (31, GROUPS * N)
