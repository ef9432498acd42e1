"""What a step of the swarm costs and how large a checkpoint is, beside the evaluations that they stand between."""

import asyncio
import time
from types import SimpleNamespace

import numpy as np
import pytest

from harness.run.adapt import SearchRun
from harness.run_folder.store import Store
from harness.swarm.loop import search
from harness.swarm.particle_swarm import ParticleSwarm
from harness.swarm.settings import SwarmSettings
from harness.swarm.state import SwarmState
from utilities.core import Evaluation

pytestmark = pytest.mark.benchmark

SIZES = [(20, 10), (50, 50)]
ITERATIONS = 50


def settings_of(particles):
    return SwarmSettings(optimiser="pso", particles=particles, iterations=ITERATIONS, patience=1000)


@pytest.mark.parametrize(("particles", "experts"), SIZES)
def test_a_step_of_the_swarm(particles, experts, capsys):
    swarm = ParticleSwarm(experts, settings_of(particles), seed=0)
    rng = np.random.default_rng(0)
    swarm.tell(rng.uniform(size=len(swarm.ask())).tolist())
    seconds = []
    while swarm.finished is None:
        values = rng.uniform(size=particles).tolist()
        start = time.perf_counter()
        rows = swarm.ask()
        swarm.tell(values)
        seconds.append(time.perf_counter() - start)
        assert rows.shape == (particles, experts)
        np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-9)
    assert len(seconds) == ITERATIONS
    median, slowest = 1000 * np.median(seconds), 1000 * max(seconds)
    with capsys.disabled():
        print(
            f"\nask + tell, {particles} particles, {experts} experts: median {median:.3f} ms, slowest {slowest:.3f} ms"
        )


@pytest.mark.parametrize(("particles", "experts"), SIZES)
def test_a_checkpoint(particles, experts, tmp_path, capsys):
    """The file that a whole search leaves, the values of all evaluated rows included; only the model is left out."""
    rng = np.random.default_rng(0)

    async def task(model, split):
        return Evaluation(float(rng.uniform()), 0.0123456789012345, 400, 0)

    task.name, task.judged, task.item_sets, task.combine = "none", False, {}, None
    names = [f"expert{j}" for j in range(experts)]
    session = SimpleNamespace(
        settings=SimpleNamespace(swarm=settings_of(particles), seed=0, objective="metric"),
        columns=names,
        groups=["all"],
        pool=SimpleNamespace(names=names),
        task=task,
        expert_row=lambda row: row,
        coefficients=lambda row: dict(zip(names, row.tolist(), strict=True)),
        judges=None,
        panel=None,
        monitor_set=None,
        validation_set=None,
        take_notes=list,
        answer_cache=lambda engine: None,
    )
    engine = SimpleNamespace(
        particle=lambda row: None,
        state=lambda: {"batch_tokens": 2048},
        times=SimpleNamespace(forward=0.0, mixing=0.0),
        notes=[],
    )
    store = Store.create(tmp_path / "run", {})
    run = SearchRun(session, store, lambda event: None, engine, None, time.perf_counter())
    asyncio.run(search(run.optimiser, run._evaluate, run._iteration_done))
    saved = store.checkpoint()
    store.close()
    assert saved["swarm"]["iteration"] == ITERATIONS
    assert SwarmState.from_dict(saved["swarm"]).to_dict() == run.optimiser.state.to_dict()
    state = len(str(saved["swarm"]))
    with capsys.disabled():
        size = (store.folder / "checkpoint" / "state.json").stat().st_size
        print(f"\ncheckpoint of {particles} particles, {experts} experts after {ITERATIONS} iterations:", end=" ")
        print(f"{size / 1000:.0f} kB, {len(saved['evaluated'])} evaluated rows; the swarm itself {state / 1000:.0f} kB")
