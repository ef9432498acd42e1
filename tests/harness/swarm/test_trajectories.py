"""Recorded trajectories: a change of the algorithm, however silent, fails here.

A change that is meant is recorded anew with

    python tests/harness/swarm/test_trajectories.py

and the commit says why the numbers moved.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from harness.swarm.particle_swarm import ParticleSwarm
from harness.swarm.settings import VARIANTS, SwarmSettings

RECORD = Path(__file__).with_name("trajectories.json")

EXPERTS = 3
SMALL = {"particles": 5, "iterations": 8, "restart_patience": 2}
CASES = {
    "paper": SMALL,
    "reference": {**VARIANTS["reference"], **SMALL},
    "paper, drops, towards the best": {
        **SMALL,
        "drop_iteration": 0.2,
        "drop_particle": 0.2,
        "initial_velocity": "best",
    },
}
SEEDS = (0, 1)


def utility(row):
    """In tenths, so that particles stagnate and restart; without a value where the first expert has the upper hand."""
    if row[0] > 1.2:
        return None
    return math.floor(10 * -sum((c - t) ** 2 for c, t in zip(row.tolist(), (0.2, 0.9, 0.3), strict=True))) / 10


def trajectory(case, seed):
    """The rows of every `ask`, and where the search stands at its end."""
    swarm = ParticleSwarm(EXPERTS, SwarmSettings(**CASES[case]), seed)
    asked = []
    while swarm.finished is None:
        rows = swarm.ask()
        asked.append(rows.round(12).tolist())
        swarm.tell([utility(row) for row in rows])
    row, score = swarm.best
    return {
        "asked": asked,
        "positions": swarm.state.positions.round(12).tolist(),
        "velocities": swarm.state.velocities.round(12).tolist(),
        "stagnation": swarm.state.stagnation.tolist(),
        "step_length": round(swarm.state.step_length, 12),
        "best": [row.round(12).tolist(), score],
        "finished": swarm.finished,
    }


def assert_close(here, there, where):
    """Texts and counts are equal, numbers to 1e-9: a linear algebra of another make rounds differently."""
    if isinstance(there, dict):
        assert here.keys() == there.keys(), where
        for key, value in there.items():
            assert_close(here[key], value, f"{where}, {key}")
    elif isinstance(there, list):
        assert len(here) == len(there), where
        for k, (one, other) in enumerate(zip(here, there, strict=True)):
            assert_close(one, other, f"{where}[{k}]")
    elif isinstance(there, float):
        np.testing.assert_allclose(here, there, rtol=0, atol=1e-9, err_msg=where)
    else:
        assert here == there, where


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", CASES)
def test_the_trajectory_is_the_recorded_one(case, seed):
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    assert_close(trajectory(case, seed), recorded[f"{case}, seed {seed}"], case)


def record():
    """Writes the trajectories as they are now; an `ask` a line, so that a difference can be read."""
    trajectories = {f"{case}, seed {seed}": trajectory(case, seed) for case in CASES for seed in SEEDS}
    parts = []
    for name, one in trajectories.items():
        asked = ",\n   ".join(json.dumps(rows) for rows in one.pop("asked"))
        rest = ",\n  ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in one.items())
        parts.append(f' {json.dumps(name)}: {{\n  "asked": [\n   {asked}\n  ],\n  {rest}\n }}')
    RECORD.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    record()
