"""The order of the formulas: what `ask` moves, what `tell` remembers, and when it ends."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.swarm import update
from harness.swarm.particle_swarm import ParticleSwarm
from harness.swarm.settings import VARIANTS, SwarmSettings
from harness.swarm.update import Weights


def make(experts=3, seed=0, variant="paper", **changes):
    return ParticleSwarm(experts, SwarmSettings(**{**VARIANTS[variant], "particles": 4, **changes}), seed)


def turn(swarm, values):
    """One iteration; `values` a list, or one value for every row asked for. Returns the rows."""
    rows = swarm.ask()
    swarm.tell(values if isinstance(values, list) else [values] * len(rows))
    return rows


def hill(row):
    return float(-((row - 0.4) ** 2).sum())


# -- ask and tell ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [0, 1, 5])
def test_asking_twice_without_telling_gives_the_same_rows(turns):
    swarm = make(drop_particle=0.3)
    for k in range(turns):
        turn(swarm, float(k))
    state = swarm.state
    first = swarm.ask()
    assert np.array_equal(swarm.ask(), first)
    assert swarm.state is state


@pytest.mark.parametrize("turns", [0, 1])
def test_rows_belong_to_whoever_asked(turns):
    swarm, untouched = make(), make()
    for one in (swarm, untouched):
        for _ in range(turns):
            turn(one, 1.0)
    swarm.ask()[:] = 99.0
    assert np.array_equal(swarm.ask(), untouched.ask())


@pytest.mark.parametrize("turns", [0, 2])
@pytest.mark.parametrize("count", [0, 3, 5])
def test_a_wrong_number_of_values_raises_and_the_right_one_is_still_taken(count, turns):
    swarm = make()
    for _ in range(turns):
        turn(swarm, 1.0)
    swarm.ask()
    with pytest.raises(ValueError, match=f"4 values expected, got {count}"):
        swarm.tell([1.0] * count)
    assert swarm.state.iteration == turns - 1
    swarm.tell([1.0] * 4)
    assert swarm.state.iteration == turns


def test_tell_needs_an_ask_before_it_every_time():
    swarm = make()
    with pytest.raises(ValueError, match="tell without ask"):
        swarm.tell([1.0] * 4)
    turn(swarm, 1.0)
    with pytest.raises(ValueError, match="tell without ask"):
        swarm.tell([1.0] * 4)


def test_the_seed_decides_everything():
    def rows(seed):
        swarm = make(seed=seed)
        return np.concatenate([turn(swarm, [hill(row) for row in swarm.ask()]) for _ in range(5)])

    assert np.array_equal(rows(1), rows(1))
    assert not np.array_equal(rows(1), rows(2))


def test_the_first_iteration_evaluates_the_initial_population_where_it_stands():
    swarm = make(drop_particle=0.9, drop_iteration=0.9)
    x, v, step = swarm.state.positions, swarm.state.velocities, swarm.state.step_length
    assert np.array_equal(turn(swarm, 1.0), x)
    assert not swarm.state.skipped.any()
    assert np.array_equal(swarm.state.velocities, v)
    assert (swarm.state.iteration, swarm.state.step_length) == (0, step)


def test_a_move_uses_this_iterations_step_length_and_then_shortens_it():
    swarm = make(step_length=0.8, step_decay=0.5, step_floor=0.15, restart_patience=100)
    turn(swarm, [0.0, 1.0, 2.0, 3.0])
    for step, after in [(0.8, 0.4), (0.4, 0.2), (0.2, 0.15), (0.15, 0.15)]:
        before = swarm.state.positions
        rows = turn(swarm, 0.0)
        np.testing.assert_allclose(rows, before + step * swarm.state.velocities, rtol=0, atol=1e-15)
        assert swarm.state.step_length == pytest.approx(after)


def test_a_velocity_follows_from_the_bests_the_worst_and_four_random_factors_a_particle():
    swarm = make()
    turn(swarm, [0.3, 0.9, 0.1, 0.5])
    old = swarm.state
    turn(swarm, 0.0)
    rng = np.random.default_rng()
    rng.bit_generator.state = old.random_state
    r = rng.uniform(size=(4, 4))
    expected = update.velocity(
        old.positions,
        old.velocities,
        old.positions,
        old.positions[1],
        old.positions[2],
        Weights(0.2, 0.3, 0.4, 0.05),
        r,
    )
    assert np.array_equal(swarm.state.velocities, expected)


# -- bests and counters ------------------------------------------------------------------------------------------------


def test_bests_and_worst_come_from_the_whole_history():
    swarm = make(restart_patience=100)
    first = turn(swarm, [0.3, 0.9, 0.1, 0.5])
    second = turn(swarm, [0.4, 0.2, 0.05, 0.5])
    state = swarm.state
    assert state.personal_best_scores.tolist() == [0.4, 0.9, 0.1, 0.5]
    assert np.array_equal(state.personal_best, [second[0], first[1], first[2], first[3]])
    assert (state.global_best_score, state.global_worst_score) == (0.9, 0.05)
    assert np.array_equal(state.global_best, first[1])
    assert np.array_equal(state.global_worst, second[2])
    assert state.scores.tolist() == [0.4, 0.2, 0.05, 0.5]
    assert state.stagnation.tolist() == [0, 1, 1, 1]
    assert state.unchanged == 1
    row, score = swarm.best
    assert score == 0.9
    assert np.array_equal(row, first[1])


def test_an_equal_score_replaces_no_best_and_no_worst():
    swarm = make(restart_patience=100)
    first = turn(swarm, 0.5)
    assert np.array_equal(swarm.state.global_best, first[0])
    assert np.array_equal(swarm.state.global_worst, first[0])
    turn(swarm, 0.5)
    state = swarm.state
    assert np.array_equal(state.personal_best, first)
    assert np.array_equal(state.global_best, first[0])
    assert np.array_equal(state.global_worst, first[0])
    assert state.stagnation.tolist() == [1, 1, 1, 1]
    assert state.unchanged == 1


def test_a_better_score_resets_the_counters():
    swarm = make(restart_patience=100)
    for value in ([0.5] * 4, [0.5] * 4, [0.4] * 4):
        turn(swarm, value)
    assert (swarm.state.unchanged, swarm.state.stagnation.tolist()) == (2, [2, 2, 2, 2])
    turn(swarm, [0.4, 0.6, 0.5, 0.5])
    assert (swarm.state.unchanged, swarm.state.stagnation.tolist()) == (0, [3, 0, 3, 3])


def test_a_missing_value_changes_no_best_and_no_counter_of_its_particle():
    swarm = make(restart_patience=2)
    turn(swarm, [0.5, 0.6, 0.7, 0.8])
    turn(swarm, 0.1)
    before = swarm.state
    turn(swarm, [None, 0.2, None, 0.9])
    after = swarm.state
    missing, known = [0, 2], [1, 3]
    for name in ("scores", "personal_best", "personal_best_scores", "stagnation"):
        assert np.array_equal(getattr(after, name)[missing], getattr(before, name)[missing]), name
    assert after.restarted.tolist() == [False, True, False, False]
    assert after.personal_best_scores[known].tolist() == [0.6, 0.9]
    assert (after.global_best_score, after.global_worst_score) == (0.9, 0.1)


def test_when_every_value_is_missing_no_best_and_no_counter_changes():
    swarm = make(patience=2, restart_patience=2)
    turn(swarm, [0.5, 0.6, 0.7, 0.8])
    turn(swarm, 0.1)
    before = swarm.state
    for _ in range(3):
        turn(swarm, None)
    after = swarm.state
    unmoved = ("scores", "personal_best", "personal_best_scores", "stagnation", "unchanged")
    for name in (*unmoved, "global_best", "global_best_score", "global_worst", "global_worst_score"):
        assert np.array_equal(getattr(after, name), getattr(before, name)), name
    assert not after.restarted.any()
    assert after.iteration == before.iteration + 3
    assert swarm.finished is None


def test_a_zero_is_a_score_and_not_a_missing_value():
    swarm = make()
    turn(swarm, [0.0, 0.0, None, -1.0])
    assert swarm.best[1] == 0.0
    assert swarm.state.global_worst_score == -1.0
    np.testing.assert_array_equal(swarm.state.personal_best_scores, [0.0, 0.0, np.nan, -1.0])


def test_before_anything_is_scored_there_is_no_best_and_particles_drift():
    swarm = make(step_length=0.5)
    assert swarm.best[1] is None
    turn(swarm, None)
    assert swarm.best[1] is None
    x, v = swarm.state.positions, swarm.state.velocities
    rows = turn(swarm, [None, None, -3.0, None])
    np.testing.assert_array_equal(rows, x + 0.5 * v)
    assert swarm.best[1] == -3.0
    assert np.array_equal(swarm.best[0], rows[2])
    assert np.isfinite(turn(swarm, -4.0)).all()


# -- restart -----------------------------------------------------------------------------------------------------------


def test_a_restart_leads_back_to_the_personal_best_at_rest_and_leaves_the_others():
    swarm = make(restart_patience=2)
    first = turn(swarm, 0.5)
    turn(swarm, [0.1, 0.1, 0.9, 0.1])
    rows = turn(swarm, [0.1, 0.1, 0.1, 0.6])
    state = swarm.state
    assert state.restarted.tolist() == [True, True, False, False]
    assert np.array_equal(state.positions[:2], first[:2])
    assert not state.velocities[:2].any()
    assert np.array_equal(state.positions[2:], rows[2:])
    assert state.velocities[2:].any(axis=1).all()


@pytest.mark.parametrize(
    ("variant", "counters", "restarts"),
    [("paper", [0, 1, 2, 0, 1, 2, 0], "...x..x"), ("reference", [0, 1, 2, 3, 4, 5, 6], "...xxxx")],
)
def test_a_restart_resets_the_counter_in_paper_and_not_in_reference(variant, counters, restarts):
    swarm = make(variant=variant, restart_patience=3)
    seen, happened = [], ""
    for _ in counters:
        turn(swarm, 0.5)
        seen.append(swarm.state.stagnation.tolist())
        happened += "x" if swarm.state.restarted.all() else "."
        assert swarm.state.restarted.any() == swarm.state.restarted.all()
    assert seen == [[count] * 4 for count in counters]
    assert happened == restarts


# -- the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("iterations", [0, 1, 7])
def test_iterations_are_moves_after_the_evaluation_of_the_initial_population(iterations):
    swarm = make(iterations=iterations)
    turns = 0
    while swarm.finished is None:
        turn(swarm, float(turns))
        turns += 1
    assert turns == iterations + 1
    assert swarm.finished == f"{iterations} iterations done"


def test_without_iterations_the_best_is_the_best_of_the_initial_population():
    swarm = make(iterations=0)
    rows = turn(swarm, [0.1, 0.3, 0.2, 0.0])
    assert swarm.finished
    assert np.array_equal(swarm.best[0], rows[1])
    assert np.array_equal(swarm.state.positions, rows)


def test_patience_ends_the_search_after_so_many_iterations_without_a_better_particle():
    swarm = make(patience=3, iterations=100)
    values = [0.5, 0.5, 0.4, 0.6, 0.6, 0.6]
    for value in values:
        turn(swarm, value)
        assert swarm.finished is None
    turn(swarm, 0.6)
    assert swarm.finished == "no better particle for 3 iterations"


def test_a_better_personal_best_alone_does_not_keep_the_search_alive():
    swarm = make(patience=2)
    turn(swarm, [0.9, 0.1, 0.1, 0.1])
    turn(swarm, [0.8, 0.2, 0.2, 0.2])
    turn(swarm, [0.8, 0.3, 0.3, 0.3])
    assert swarm.state.stagnation.tolist() == [2, 0, 0, 0]
    assert swarm.finished == "no better particle for 2 iterations"


# -- shapes at the edge ------------------------------------------------------------------------------------------------


def test_one_expert_stays_what_it_is():
    swarm = make(experts=1)
    for k in range(4):
        np.testing.assert_allclose(turn(swarm, float(k)), np.ones((4, 1)), rtol=0, atol=1e-15)


@pytest.mark.parametrize("particles", [1, 2])
def test_with_fewer_particles_than_experts_the_first_experts_start(particles):
    swarm = make(experts=5, particles=particles)
    assert np.array_equal(turn(swarm, 0.5), np.eye(5)[:particles])
    for _ in range(4):
        rows = turn(swarm, 0.5)
        assert rows.shape == (particles, 5)
        assert np.isfinite(rows).all()
        assert not rows[:, particles:].any()  # nothing leads out of the span of those that started


@settings(deadline=None, max_examples=30)
@given(
    experts=st.integers(1, 6),
    particles=st.integers(1, 8),
    seed=st.integers(0, 2**32),
    variant=st.sampled_from(sorted(VARIANTS)),
    initial=st.sampled_from(["random", "zero", "best"]),
    drop=st.sampled_from([0.0, 0.3]),
)
def test_rows_sum_to_1_and_velocities_to_0_for_ever(experts, particles, seed, variant, initial, drop):
    swarm = make(
        experts,
        seed,
        variant,
        particles=particles,
        initial_velocity=initial,
        drop_particle=drop,
        drop_iteration=drop,
        restart_patience=2,
    )
    for _ in range(15):
        rows = swarm.ask()
        np.testing.assert_allclose(rows.sum(axis=1), 1.0, rtol=0, atol=1e-9)
        swarm.tell([round(hill(row), 1) for row in rows])
        np.testing.assert_allclose(swarm.state.velocities.sum(axis=1), 0.0, rtol=0, atol=1e-9)


# -- initial velocity --------------------------------------------------------------------------------------------------


def test_initial_velocity_random_leads_to_other_particles():
    state = make(experts=4, initial_velocity="random").state
    targets = state.positions + state.velocities
    assert np.array_equal(np.sort(np.unique(targets)), [0.0, 1.0])
    assert (targets.argmax(axis=1) != np.arange(4)).all()


def test_initial_velocity_zero_is_none():
    swarm = make(initial_velocity="zero")
    turn(swarm, [0.1, 0.3, 0.2, 0.0])
    assert not swarm.state.velocities.any()


def test_initial_velocity_best_leads_to_the_global_best_once_it_is_known():
    swarm = make(initial_velocity="best")
    assert not swarm.state.velocities.any()
    rows = turn(swarm, [0.1, 0.3, 0.2, 0.0])
    np.testing.assert_array_equal(swarm.state.velocities, rows[1] - rows)


def test_initial_velocity_best_is_none_where_nothing_was_scored():
    swarm = make(initial_velocity="best")
    turn(swarm, None)
    assert not swarm.state.velocities.any()


# -- drop-K and drop-N -------------------------------------------------------------------------------------------------


def skips(**drops):
    """[400, 10]: who was skipped in each of 400 moves."""
    swarm = make(particles=10, iterations=1000, patience=1000, **drops)
    turn(swarm, 0.5)
    seen = []
    for _ in range(400):
        rows = turn(swarm, 0.5)
        seen.append(swarm.state.skipped)
        assert len(rows) == (~swarm.state.skipped).sum()
    return np.array(seen)


def test_without_drops_nobody_is_skipped():
    assert not skips().any()


def test_drop_iteration_skips_whole_iterations_with_its_probability():
    skipped = skips(drop_iteration=0.3)
    assert (skipped.all(axis=1) == skipped.any(axis=1)).all()
    assert skipped.mean() == pytest.approx(0.3, abs=0.07)  # 3 standard errors of 400 draws


def test_drop_particle_skips_single_particles_with_its_probability():
    skipped = skips(drop_particle=0.3)
    assert skipped.mean() == pytest.approx(0.3, abs=0.025)  # 3 standard errors of 4000 draws
    np.testing.assert_allclose(skipped.mean(axis=0), 0.3, atol=0.08)
    # Ten independent particles: their number has the variance of a binomial, not of one coin for all.
    assert skipped.sum(axis=1).var() == pytest.approx(10 * 0.3 * 0.7, rel=0.25)


def test_skipped_particles_move_and_carry_on_their_last_score():
    swarm = make(particles=6, drop_particle=0.5, restart_patience=2, patience=1000)
    turn(swarm, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    skipped_ones = 0
    for k in range(10):
        before = swarm.state
        turn(swarm, -float(k))
        after, out = swarm.state, swarm.state.skipped
        for name in ("scores", "personal_best", "personal_best_scores", "stagnation"):
            assert np.array_equal(getattr(after, name)[out], getattr(before, name)[out]), name
        assert not after.restarted[out].any()
        assert (after.positions[out] != before.positions[out]).any(axis=1).all()
        assert (after.scores[~out] == -float(k)).all()
        skipped_ones += out.sum()
    assert skipped_ones > 10


def test_values_go_to_the_particles_whose_rows_were_asked_for():
    swarm = make(particles=6, drop_particle=0.5)
    turn(swarm, 0.0)
    rows = swarm.ask()
    assert 0 < len(rows) < 6
    swarm.tell([float(k + 1) for k in range(len(rows))])
    state = swarm.state
    evaluated = np.flatnonzero(~state.skipped)
    assert state.scores[evaluated].tolist() == [float(k + 1) for k in range(len(rows))]
    assert np.array_equal(state.personal_best[evaluated], rows)
    assert np.array_equal(state.global_best, rows[-1])


def test_a_dropped_iteration_asks_for_no_row_and_counts_towards_patience():
    swarm = make(drop_iteration=0.99, patience=3)
    turn(swarm, 0.5)
    for k in range(3):
        assert swarm.finished is None
        assert turn(swarm, []).shape == (0, 3)
        assert swarm.state.unchanged == k + 1
    assert swarm.finished == "no better particle for 3 iterations"
