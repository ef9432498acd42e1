"""The Ray pool: bytes that leave for the workers in an iteration; two workers beside one, each on its own core."""

import asyncio
import importlib.util
import os
import time
from pathlib import Path

import numpy as np
import pytest

from harness.embedded import BASE, expert_folders
from harness.engines.ray_engine import RayEngine
from harness.engines.settings import EngineSettings
from harness.experts.pool import open_pool
from utilities.tasks import load_task

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(900),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]

PARTICLES, REPEATS = 20, 3


def pin(engine):
    """One core a worker, with all its threads."""
    cores = sorted(os.sched_getaffinity(0))
    for k, member in enumerate(engine._members):
        for thread in Path(f"/proc/{member.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {cores[k % len(cores)]})


def wait_for(engine, workers):
    """The pool begins with those that are there when a slow machine lets others wait."""
    end = time.monotonic() + 240
    while sum(member.report is not None for member in engine._members) < workers:
        assert time.monotonic() < end, engine.device
        time.sleep(0.05)


def test_two_workers_beside_one(capsys):
    if not (BASE / "model.safetensors").is_file():
        pytest.skip("the embedded model has no weights here")
    pool = open_pool([str(folder) for folder in expert_folders()], BASE)
    task = load_task("medical", edition="mini", limit=100)
    rows = np.random.default_rng(0).dirichlet(np.ones(len(pool.names)), size=(REPEATS, PARTICLES))

    def values(engine, iteration):
        async def all_of_them():
            return await asyncio.gather(*(task(engine.particle(row), "dev") for row in rows[iteration]))

        return [evaluation.value for evaluation in asyncio.run(all_of_them())]

    seconds, found, sent = {}, {}, {}
    for workers in (1, 2):
        engine = RayEngine(BASE, pool, EngineSettings(device="cpu", workers=workers), {})
        try:
            wait_for(engine, workers)
            pin(engine)
            values(engine, 0)  # prompts travel, and batches are planned
            seconds[workers], found[workers] = [], []
            before = engine.sent.jobs, engine.sent.questions
            for iteration in range(REPEATS):
                start = time.perf_counter()
                found[workers].append(values(engine, iteration))
                seconds[workers].append(time.perf_counter() - start)
            sent[workers] = (engine.sent.jobs - before[0]) / REPEATS
            assert engine.sent.questions == before[1] and not engine.sent.files
        finally:
            engine.close()
    assert found[1] == found[2]
    assert max(sent.values()) < 100_000
    with capsys.disabled():
        print(f"\n{PARTICLES} particles of the embedded model, 100 items of each set, each worker on a core of its own")
        for workers, taken in seconds.items():
            print(f"  {workers} worker{'s' if workers > 1 else ' '}     {min(taken):6.2f} s an iteration")
        print(f"  ratio         {min(seconds[1]) / min(seconds[2]):6.2f}")
        print(f"  sent          {sent[2] / 1000:6.1f} kB an iteration, without responses")
