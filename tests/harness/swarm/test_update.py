"""The formulas: one velocity by hand, and properties that hold for all inputs."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.swarm import update
from harness.swarm.update import Weights

PAPER = Weights(0.2, 0.3, 0.4, 0.05)
PARTICLES, EXPERTS = 5, 4

numbers = st.floats(-10, 10, allow_subnormal=False)
phis = st.floats(0.01, 2)
steps = st.floats(0, 2)


@st.composite
def swarms(draw, affine=False):
    """Arguments of `velocity` but the weights; affine: rows sum to 1, and velocities to 0."""

    def rows(count, total):
        free = draw(arrays(np.float64, (count, EXPERTS - 1 if affine else EXPERTS), elements=numbers))
        return np.column_stack([free, total - free.sum(axis=1)]) if affine else free

    x, p, v = rows(PARTICLES, 1.0), rows(PARTICLES, 1.0), rows(PARTICLES, 0.0)
    g, w = rows(2, 1.0)
    r = draw(arrays(np.float64, (PARTICLES, 4), elements=st.floats(0.001, 0.999)))
    return {"x": x, "v": v, "personal_best": p, "global_best": g, "global_worst": w, "r": r}


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


# -- velocity ----------------------------------------------------------------------------------------------------------


def test_velocity_and_move_computed_by_hand():
    x, v = np.array([[1.0, 0.0, 0.0]]), np.array([[-1.0, 1.0, 0.0]])
    p, g, w = np.array([[0.5, 0.0, 0.5]]), np.array([0.0, 1.0, 0.0]), np.array([2.0, 0.0, -1.0])
    phi, r = Weights(inertia=0.2, cognitive=0.3, social=0.4, repel=0.1), np.array([[0.5, 0.2, 0.25, 0.4]])
    # r phi:  0.5*0.2 = 0.10   0.2*0.3 = 0.06   0.25*0.4 = 0.10   0.4*0.1 = 0.04      C = 0.30
    # v:  (-1, 1, 0)   p - x:  (-0.5, 0, 0.5)   g - x:  (-1, 1, 0)   w - x:  (1, 0, -1)
    # 1st expert:  0.10*(-1) + 0.06*(-0.5) + 0.10*(-1) - 0.04*1    = -0.27    -0.27 / 0.30 = -0.9
    # 2nd expert:  0.10*1    + 0.06*0      + 0.10*1    - 0.04*0    =  0.20     0.20 / 0.30 =  2/3
    # 3rd expert:  0.10*0    + 0.06*0.5    + 0.10*0    - 0.04*(-1) =  0.07     0.07 / 0.30 =  7/30
    new = update.velocity(x, v, p, g, w, phi, r)
    np.testing.assert_allclose(new, [[-0.9, 2 / 3, 7 / 30]], rtol=1e-15)
    # x + 0.5 v:  1 - 0.45,  0 + 1/3,  0 + 7/60
    np.testing.assert_allclose(update.move(x, new, 0.5), [[0.55, 1 / 3, 7 / 60]], rtol=1e-15)


@settings(deadline=None)
@given(swarms(), st.permutations(range(PARTICLES)))
def test_permuting_particles_permutes_velocities(swarm, order):
    permuted = {name: rows[order] if rows.ndim == 2 else rows for name, rows in swarm.items()}
    whole = update.velocity(**swarm, weights=PAPER)
    assert np.array_equal(update.velocity(**permuted, weights=PAPER), whole[order])


@settings(deadline=None)
@given(swarms(), arrays(np.float64, (EXPERTS, 7), elements=numbers))
def test_materialising_the_velocity_is_the_velocity_of_the_materialised(swarm, experts):
    in_weights = {name: value if name == "r" else value @ experts for name, value in swarm.items()}
    mixed = update.velocity(**swarm, weights=PAPER) @ experts
    np.testing.assert_allclose(update.velocity(**in_weights, weights=PAPER), mixed, rtol=1e-9, atol=1e-8)


TERMS = {
    "inertia": lambda s: s["v"],
    "cognitive": lambda s: s["personal_best"] - s["x"],
    "social": lambda s: s["global_best"] - s["x"],
    "repel": lambda s: s["x"] - s["global_worst"],
}


@pytest.mark.parametrize("term", TERMS)
@settings(deadline=None)
@given(swarm=swarms(), phi=phis)
def test_a_term_alone_points_where_it_must_at_full_length(term, swarm, phi):
    """C takes out its random factor and its weight, so that alone it is exactly its difference."""
    alone = Weights(0, 0, 0, 0)._replace(**{term: phi})
    close(update.velocity(**swarm, weights=alone), TERMS[term](swarm))


@settings(deadline=None)
@given(swarms(), st.tuples(phis, phis, phis, phis))
def test_a_velocity_is_a_weighted_mean_of_its_four_terms(swarm, phi):
    terms = np.stack([term(swarm) for term in TERMS.values()])
    new = update.velocity(**swarm, weights=Weights(*phi))
    assert (new <= terms.max(axis=0) + 1e-9).all()
    assert (new >= terms.min(axis=0) - 1e-9).all()


@settings(deadline=None)
@given(swarms(), st.tuples(phis, phis, phis, phis), st.floats(0.1, 10))
def test_only_the_ratio_of_the_weights_matters(swarm, phi, scale):
    close(
        update.velocity(**swarm, weights=Weights(*phi)),
        update.velocity(**swarm, weights=Weights(*(scale * one for one in phi))),
    )


@settings(deadline=None)
@given(swarms(affine=True), st.tuples(phis, phis, phis, phis), steps)
def test_rows_keep_sum_1_and_velocities_sum_0(swarm, phi, step):
    v = update.velocity(**swarm, weights=Weights(*phi))
    close(v.sum(axis=1), np.zeros(PARTICLES))
    close(update.move(swarm["x"], v, step).sum(axis=1), np.ones(PARTICLES))


@pytest.mark.parametrize("zero", ["weights", "random factors"])
@settings(deadline=None, max_examples=20)
@given(swarm=swarms())
def test_without_any_pull_the_velocity_is_zero_and_not_nan(zero, swarm):
    weights = PAPER if zero == "random factors" else Weights(0, 0, 0, 0)
    if zero == "random factors":
        swarm["r"] = np.zeros_like(swarm["r"])
    assert np.array_equal(update.velocity(**swarm, weights=weights), np.zeros_like(swarm["x"]))


@settings(deadline=None)
@given(swarms())
def test_the_arguments_are_left_as_they_are(swarm):
    before = {name: value.copy() for name, value in swarm.items()}
    v = update.velocity(**swarm, weights=PAPER)
    update.move(swarm["x"], v, 0.5)
    update.restart(swarm["x"], swarm["v"], swarm["personal_best"], np.ones(PARTICLES, dtype=bool))
    assert all(np.array_equal(swarm[name], value) for name, value in before.items())


# -- step length -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.floats(0.001, 10), st.floats(0.01, 1), st.floats(0, 5))
def test_decay_never_falls_under_the_floor_nor_rises_above_both(step, factor, floor):
    lengths = [step]
    for _ in range(30):
        lengths.append(update.decay(lengths[-1], factor, floor))
    assert min(lengths[1:]) >= floor
    assert max(lengths) <= max(step, floor)
    assert all(new in (old * factor, floor) for old, new in pairwise(lengths))


# -- restart -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(swarms(), arrays(np.bool_, PARTICLES))
def test_restart_puts_those_chosen_at_rest_on_their_personal_best_and_nobody_else(swarm, who):
    x, v = update.restart(swarm["x"], swarm["v"], swarm["personal_best"], who)
    assert np.array_equal(x[who], swarm["personal_best"][who])
    assert not v[who].any()
    assert np.array_equal(x[~who], swarm["x"][~who])
    assert np.array_equal(v[~who], swarm["v"][~who])


# -- the initial population --------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(1, 30), st.floats(0.1, 3), st.integers(0, 2**32))
def test_the_experts_come_first_and_crossovers_sum_to_1_and_touch_two_experts(experts, particles, most, seed):
    rows = update.populate(experts, particles, most, np.random.default_rng(seed))
    alone = min(experts, particles)
    assert rows.shape == (particles, experts)
    assert np.array_equal(rows[:alone], np.eye(experts)[:alone])
    for row in rows[alone:]:
        assert np.count_nonzero(row) == 2
        first, second = row[row != 0]
        assert first + second == pytest.approx(1, abs=1e-12)
        assert max(first, second) <= max(most, 1)  # t itself, or 1 - t


@pytest.mark.parametrize("most", [1.0, 2.0])
def test_crossover_weights_fill_the_range_from_0_to_its_maximum(most):
    rows = update.populate(2, 4000, most, np.random.default_rng(0))[2:]
    larger = rows.max(axis=1)
    assert 0.5 <= larger.min() < 0.51
    assert most - 0.01 < larger.max() <= most
    assert rows.min() == pytest.approx(1 - most, abs=0.01)


def test_every_pair_of_experts_gets_its_crossovers_in_both_orders():
    rng = np.random.default_rng(0)
    rows = update.populate(3, 3000, 2.0, rng)[3:]
    above = rows > 1  # only t is drawn from beyond 1, so it shows which of the two came first
    pairs = {(int(np.argmax(a)), int(np.argmin(row))) for row, a in zip(rows, above, strict=True) if a.any()}
    assert pairs == {(a, b) for a in range(3) for b in range(3) if a != b}


def test_a_single_expert_is_repeated():
    assert np.array_equal(update.populate(1, 4, 1.0, np.random.default_rng(0)), np.ones((4, 1)))


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**32))
def test_an_initial_velocity_leads_to_another_particle(particles, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(particles, EXPERTS))
    for i, target in enumerate(x + update.velocities_to_others(x, rng)):
        distance = np.abs(x - target).max(axis=1)
        assert distance.min() < 1e-12
        assert distance.argmin() != i


def test_an_initial_velocity_may_lead_to_any_other_particle():
    x = np.eye(4)
    rng = np.random.default_rng(0)
    targets = np.array([(x + update.velocities_to_others(x, rng)).argmax(axis=1) for _ in range(300)])
    assert [set(column) for column in targets.T.tolist()] == [{0, 1, 2, 3} - {i} for i in range(4)]


def test_a_particle_alone_has_no_initial_velocity():
    assert np.array_equal(update.velocities_to_others(np.ones((1, 3)), np.random.default_rng(0)), np.zeros((1, 3)))
