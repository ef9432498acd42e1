"""The state travels through JSON text bit for bit, and a swarm continued from it never notices."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.swarm.particle_swarm import ParticleSwarm
from harness.swarm.settings import VARIANTS, SwarmSettings
from harness.swarm.state import SwarmState

LIVELY = {"drop_iteration": 0.2, "drop_particle": 0.3, "restart_patience": 2, "patience": 1000}


def through_text(state):
    return SwarmState.from_dict(json.loads(json.dumps(state.to_dict(), allow_nan=False)))


def assert_same_bits(here, there):
    for name, value in vars(there).items():
        other = getattr(here, name)
        assert type(other) is type(value), name
        if isinstance(value, np.ndarray):
            assert (other.dtype, other.shape, other.tobytes()) == (value.dtype, value.shape, value.tobytes()), name
        else:
            assert other == value or (np.isnan(other) and np.isnan(value)), name


def utility(row):
    """With ties, and without a value here and there."""
    value = round(float(-((row - 0.4) ** 2).sum()), 1)
    return None if value == -0.3 else value


def advance(swarm, turns):
    rows = []
    for _ in range(turns):
        rows.append(swarm.ask())
        swarm.tell([utility(row) for row in rows[-1]])
    return rows


@pytest.mark.parametrize("turns", [0, 1, 2, 6, 12])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_state_travels_through_json_bit_for_bit(variant, turns):
    swarm = ParticleSwarm(4, SwarmSettings(**{**VARIANTS[variant], **LIVELY, "particles": 7}), seed=5)
    advance(swarm, turns)
    assert_same_bits(through_text(swarm.state), swarm.state)


@settings(deadline=None)
@given(
    arrays(np.float64, (3, 2), elements=st.floats(allow_nan=False, allow_infinity=False)),
    arrays(np.float64, 3, elements=st.floats(allow_nan=False, allow_infinity=False) | st.just(np.nan)),
)
def test_any_finite_number_and_any_missing_score_travels(positions, scores):
    state = ParticleSwarm(2, SwarmSettings(particles=3), seed=0).state
    state = replace(state, positions=positions, scores=scores, global_best=positions[0])
    assert_same_bits(through_text(state), state)


@pytest.mark.parametrize("asked", [False, True], ids=["between iterations", "in the middle of one"])
@pytest.mark.parametrize("cut", [0, 1, 4, 9])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_swarm_continued_from_json_gives_the_rows_of_one_never_interrupted(variant, cut, asked):
    s = SwarmSettings(**{**VARIANTS[variant], **LIVELY, "particles": 7})
    whole = ParticleSwarm(4, s, seed=5)
    expected = advance(whole, 12)
    interrupted = ParticleSwarm(4, s, seed=5)
    advance(interrupted, cut)
    if asked:
        interrupted.ask()  # evaluated in part and never told
    continued = ParticleSwarm(4, s, seed=999, state=through_text(interrupted.state))
    rows = advance(continued, 12 - cut)
    assert [one.tobytes() for one in rows] == [one.tobytes() for one in expected[cut:]]
    assert_same_bits(continued.state, whole.state)
    assert any(len(one) == 0 for one in expected)
    assert any(0 < len(one) < 7 for one in expected)


def test_the_checkpoint_of_50_particles_and_20_experts_is_under_1_mb():
    swarm = ParticleSwarm(20, SwarmSettings(particles=50), seed=0)
    advance(swarm, 5)
    assert len(json.dumps(swarm.state.to_dict(), allow_nan=False)) < 1_000_000


def test_an_earlier_state_is_not_changed_by_the_search_going_on():
    swarm = ParticleSwarm(4, SwarmSettings(**LIVELY, particles=7), seed=5)
    advance(swarm, 3)
    early, text = swarm.state, json.dumps(swarm.state.to_dict())
    advance(swarm, 8)
    assert json.dumps(early.to_dict()) == text
    assert swarm.state is not early
