"""The Ray pool on real clusters: the same answers as one engine, however many workers there are and whoever dies."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.engines import ray_engine as ray_pool
from harness.engines.adapter_folder import SHARED_MEMORY
from harness.engines.base import engines
from harness.engines.local import LocalEngine
from harness.engines.ray_engine import RayEngine
from harness.engines.ray_folder_copy import receive, send, size
from harness.engines.ray_worker import Question, Report
from harness.engines.settings import EngineSettings
from harness.experts.files import folder_hash
from harness.experts.pool import open_pool
from harness.run.adapt import adapt
from harness.run_folder.events import Bus, Evaluated
from harness.run_folder.store import Store
from harness.session.session import Session, open_session
from harness.session.settings import run_settings
from utilities.core import Chat, Reason, Unscored
from utilities.errors import UserError

ROOT = Path(__file__).parents[3]
CPU = {"device": "cpu", "dtype": "float32"}
ROWS = [np.random.default_rng(k).normal(size=3) for k in range(8)]
ROWS += [np.random.default_rng(8).normal(size=6)]  # other coefficients in each of the two layers
PROMPTS = ["Q: what is it?\nA:", "The heart pumps", "x", "A much longer prompt than the others, with more words in it:"]
OPTIONS = [[" yes", " no"], [" blood", " air", " a rather long answer", " b"], ["y", "zz"], [" 1", " 22", " 333"]]
MEMORY = 100 << 20

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


def slow(test):
    return pytest.mark.slow(pytest.mark.timeout(900)(needs_ray(test)))


def asked(engine, rows=ROWS, prompts=PROMPTS, options=OPTIONS):
    """Both kinds of answers of every row, and the base model's; all asked at the same time."""

    async def ask():
        models = [engine.particle(row) for row in (*rows, None)]
        choices = (model.choice_logprobs(prompts, options) for model in models)
        texts = (model.generate(prompts, max_tokens=6, stop=(";",)) for model in models)
        return await asyncio.gather(*choices, *texts)

    return asyncio.run(ask())


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[1])


def wait_until(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As many as each worker has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pool(adapters, base):
    return open_pool([str(folder) for folder in adapters], base).grouped("layer")


@pytest.fixture(scope="module")
def expected(base, pool):
    engine = LocalEngine(base, pool, EngineSettings(**CPU))
    yield asked(engine)
    engine.close()


@pytest.fixture(scope="module")
def machines():
    """A cluster of two machines that are one, with 3 cores and 1, which this process is part of."""
    given = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_health_check_period_ms": "1000",  # a machine that is gone is missed soon
        "RAY_health_check_timeout_ms": "60000",  # and one that is only slow is not
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        import ray
        from ray.cluster_utils import Cluster

        machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "object_store_memory": MEMORY})
        second(machines)
        ray.init(address=machines.address, logging_level=40, log_to_driver=False)
        yield machines
        ray.shutdown()
        machines.shutdown()


def second(machines):
    return machines.add_node(num_cpus=1, object_store_memory=MEMORY)


@pytest.fixture
def cluster(machines):
    """The cluster with both machines and all four cores free, whatever an earlier test did to it."""
    import ray

    if not machines.worker_nodes:
        second(machines)
    wait_until(lambda: sum(node["Alive"] for node in ray.nodes()) == 2)
    wait_until(lambda: ray.available_resources().get("CPU") == 4)
    return machines


@pytest.fixture
def make(base, pool):
    made = []

    def new(folder=base, experts=pool, state=None, **settings):
        made.append(RayEngine(folder, experts, EngineSettings(**{**CPU, "ray_address": "auto", **settings}), state))
        return made[-1]

    yield new
    for one in made:
        one.close()


# -- without a cluster -------------------------------------------------------------------------------------------------


def test_without_ray_the_command_that_installs_it_is_told(base, pool, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[ray\]'"):
        engines.get("ray")(base, pool, EngineSettings(**CPU), {})


def test_an_address_of_another_kind_is_refused_at_once(base, pool):
    pytest.importorskip("ray")
    with pytest.raises(UserError, match=r"ray://there:10001: no Ray cluster can be reached .* HOST:PORT"):
        RayEngine(base, pool, EngineSettings(**CPU, ray_address="ray://there:10001"), {})


def test_a_folder_arrives_as_it_was(base, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.engines.ray_folder_copy.PIECE", 1000)
    (base / "notes.bin").write_bytes(b"no part of a model")
    stored = []
    files = send(base, lambda piece: stored.append(piece) or len(stored) - 1)
    (base / "notes.bin").unlink()
    receive(files, tmp_path / "there" / base.name, stored.__getitem__)
    assert folder_hash(tmp_path / "there" / base.name) == folder_hash(base)
    assert not (tmp_path / "there" / base.name / "notes.bin").exists()
    assert size([files]) == sum(piece.nbytes for piece in stored) and len(stored) > 10


class Dealt(RayEngine):
    """Deals jobs to workers without processes, and notes who got which."""

    def __init__(self, *members):
        self._members, self._waiting, self.given = list(members), [], []

    def _give(self, member, job):
        member.jobs.append(job)
        member.last = job.key
        self.given.append((self._members.index(member), job.number))

    def deal(self, *particles):
        loop = asyncio.new_event_loop()
        for particle in particles:
            row = np.array([float(particle)])
            number = len(self.given) + len(self._waiting)
            self._waiting.append(ray_pool._Job(number, row, Question("", [], None), 10, loop.create_future(), loop))
        self._deal()
        loop.close()
        return self.given


def member(folding, items=0, busy=0.0):
    return ray_pool._Member(None, pid=1, report=Report("cpu", folding, {}), items=items, busy=busy)


def test_a_folding_worker_has_one_job_on_the_way_and_none_at_the_end_of_an_iteration():
    dealt = Dealt(member(True), member(True))
    assert dealt.deal(1, 2, 3, 4, 5, 6) == [(0, 0), (1, 1), (0, 2), (1, 3)]
    for one in dealt._members:
        del one.jobs[0]
    assert dealt.deal() == [(0, 0), (1, 1), (0, 2), (1, 3)]  # two wait for two workers: whoever is done first takes one
    del dealt._members[1].jobs[0]
    assert dealt.deal()[4:] == [(1, 4)]


def test_a_worker_goes_on_with_the_particle_that_it_has_folded():
    dealt = Dealt(member(True), member(True))
    assert dealt.deal(1, 1, 1, 2, 2, 2)[:2] == [(0, 0), (1, 3)]
    assert sorted(dealt.given) == [(0, 0), (0, 1), (1, 3), (1, 4)]


def test_batching_workers_share_the_particles_by_their_speed():
    dealt = Dealt(member(False, items=300, busy=1.0), member(False, items=100, busy=1.0))
    dealt.deal(*range(20))
    assert [sum(worker == k for worker, _ in dealt.given) for k in (0, 1)] == [15, 5]


def test_a_job_that_was_there_when_two_workers_died_is_tried_alone():
    dealt = Dealt(member(True))
    dealt.deal(1, 2, 3, 4)
    dealt._members[0].jobs[0].kills = ray_pool.ALONE
    del dealt._members[0].jobs[1]
    assert len(dealt.deal()) == 2


def test_after_three_failed_starts_the_others_go_on_and_more_are_asked_for_later():
    dealt = Dealt(member(True))
    dealt._waiting, dealt.notes, dealt._closed = [], [], False
    dealt._failed_starts, dealt._not_before, dealt._kill = 0, 0.0, lambda member: None
    for _ in range(3):
        dealt._members.append(ray_pool._Member(None))
        dealt._lost(dealt._members[-1], "no disk")
    assert dealt.notes == [
        "3 Ray workers in a row could not start: no disk; the run goes on with 1, and others are asked for in 300 s"
    ]
    assert ray_pool.AGAIN - 1 < dealt._not_before - time.monotonic() <= ray_pool.AGAIN
    dealt._members.clear()
    with pytest.raises(UserError, match="3 Ray workers in a row could not start: no disk"):
        for _ in range(3):
            dealt._members.append(ray_pool._Member(None))
            dealt._lost(dealt._members[-1], "no disk")


# -- on a cluster ------------------------------------------------------------------------------------------------------


@slow
def test_the_answers_are_those_of_one_engine_and_prompts_are_sent_once(cluster, make, expected):
    engine = make(workers=2)
    assert asked(engine) == expected
    assert engine.device == "2 Ray workers (cpu)" and set(engine.state()) == {"batch_tokens", "padding"}
    assert engine.times.forward > 0 and engine.times.mixing > 0
    sent = engine.sent.questions
    assert 0 < sent < 4 * len(str((PROMPTS, OPTIONS)))
    assert asked(engine) == expected
    assert asked(engine, prompts=list(PROMPTS), options=[list(o) for o in OPTIONS]) == expected
    assert engine.sent.questions == sent and engine.sent.files == 0


@slow
def test_errors_of_a_job_come_back_as_themselves_and_the_worker_lives(cluster, make, pool, expected):
    engine = make(workers=1)
    pids = [one.pid for one in engine._members]
    with pytest.raises(UserError, match="chat template"):
        asyncio.run(engine.particle(ROWS[0]).generate([Chat.of([("user", "hello")])], max_tokens=4))
    with pytest.raises((ValueError, RuntimeError)):
        asyncio.run(engine.particle(np.ones(7)).choice_logprobs(PROMPTS, OPTIONS))
    found = asyncio.run(engine.particle(ROWS[0]).generate(["a" * 600], max_tokens=4))
    assert isinstance(found[0], Unscored) and found[0].reason is Reason.TRUNCATED
    assert asked(engine) == expected
    assert [one.pid for one in engine._members] == pids and not engine.notes


@slow
def test_a_worker_that_cannot_load_ends_the_start_in_its_own_words(cluster, make, base, tmp_path):
    broken = shutil.copytree(base, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        make(broken, None, workers=1)


@slow
def test_what_a_machine_lacks_travels_once_and_is_gone_afterwards(cluster, make, expected, base, monkeypatch):
    before = set(SHARED_MEMORY.glob("model-swarms-*"))
    monkeypatch.setattr(ray_pool, "folder_hash", lambda folder: "of no folder on any disk")
    engine = make(workers=2)
    assert asked(engine) == expected
    assert size([send(base, len)]) < engine.sent.files < 2 * size([send(base, len)]) + (1 << 20)
    assert len(set(SHARED_MEMORY.glob("model-swarms-*")) - before) == 2
    engine.close()
    assert set(SHARED_MEMORY.glob("model-swarms-*")) <= before


@slow
def test_a_job_that_kills_three_workers_in_a_row_ends_the_run(cluster, make, monkeypatch):
    engine = make(workers=1, batch_tokens=64)
    killed = set()

    def kill():
        while len(killed) < ray_pool.KILLS and not engine._closed:
            for one in list(engine._members):
                if one.jobs and one.pid not in killed:
                    killed.add(one.pid)
                    os.kill(one.pid, signal.SIGKILL)
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(UserError, match="3 Ray workers in a row ended while they answered the same 4000 prompts"):
        asyncio.run(engine.particle(ROWS[0]).choice_logprobs(PROMPTS * 1000, OPTIONS * 1000))
    killer.join()
    assert len(killed) == 3


@slow
def test_a_machine_may_leave_and_another_one_is_used(cluster, make, expected, monkeypatch):
    monkeypatch.setattr(ray_pool, "TICK", 0.2)
    engine = make(workers=4)
    wait_until(lambda: engine.device == "4 Ray workers (cpu)")
    (machine,) = cluster.worker_nodes
    raylet = machine.all_processes["raylet"][0].process.pid
    (there,) = (one for one in engine._members if parent(one.pid) == raylet)
    prompts, options = PROMPTS * 40, OPTIONS * 40
    whole = asked(engine, prompts=prompts, options=options)

    def leave():
        """In the middle of a job, and without a word, as when the plug is pulled."""
        wait_until(lambda: there.jobs)
        cluster.remove_node(machine, allow_graceful=False)

    os.kill(there.pid, signal.SIGSTOP)  # it takes a job and cannot end it
    gone = threading.Thread(target=leave)
    gone.start()
    try:
        assert asked(engine, prompts=prompts, options=options) == whole
    finally:
        gone.join()
        with contextlib.suppress(ProcessLookupError):  # a stopped process outlives its machine's others, or does not
            os.kill(there.pid, signal.SIGKILL)
    wait_until(lambda: engine.device == "3 Ray workers (cpu)")
    assert asked(engine) == expected  # the fourth has no room yet
    assert any("was lost" in note and "jobs are done again" in note for note in engine.notes)
    known = {one.pid for one in engine._members if one.pid}
    second(cluster)
    wait_until(lambda: engine.device == "4 Ray workers (cpu)")
    assert "takes part" in engine.notes[-1]
    assert asked(engine) == expected
    new = [one for one in engine._members if one.pid not in known]
    assert len(new) == 1 and new[0].items > 0


@slow
def test_a_worker_that_dies_while_nothing_is_asked_is_replaced(cluster, make, expected):
    engine = make(workers=1)
    os.kill(engine._members[0].pid, signal.SIGKILL)
    wait_until(lambda: "takes part" in (engine.notes or [""])[-1])
    assert [word in note for word, note in zip(("was lost", "takes part"), engine.notes, strict=True)] == [True, True]
    assert asked(engine) == expected


@slow
def test_when_nobody_is_left_and_nobody_comes_the_run_ends_in_words(cluster, make, monkeypatch):
    monkeypatch.setattr(ray_pool, "PATIENCE", 3.0)
    with pytest.raises(UserError, match="no Ray worker for 3 s: no machine of the cluster has 64 CPU cores free"):
        make(workers=1, worker_cpus=64)
    with pytest.raises(UserError, match="the cluster has no room for a single worker, with --worker-cpus 64"):
        make(worker_cpus=64)


@slow
def test_closing_ends_the_workers_and_leaves_a_cluster_that_was_there(cluster, make):
    import ray

    engine = make()
    wait_until(lambda: engine.device == "4 Ray workers (cpu)")  # as many as there are cores
    pids = [one.pid for one in engine._members]

    async def interrupted():
        waiting = asyncio.create_task(engine.particle(None).choice_logprobs(PROMPTS * 1000, OPTIONS * 1000))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(engine.close)
        with pytest.raises(RuntimeError, match="closed"):
            await waiting

    asyncio.run(interrupted())
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(engine.particle(None).choice_logprobs(PROMPTS, OPTIONS))
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert ray.is_initialized() and len([n for n in ray.nodes() if n["Alive"]]) == 2


# -- a search ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def search(base, adapters, tmp_path, monkeypatch):
    """Runs a short search, and returns all of it that must not depend on who computed it."""
    made = []
    engine = Session.engine
    monkeypatch.setattr(Session, "engine", lambda *given: made.append(engine(*given)) or made[-1])

    def run(name, *subscribers, **settings):
        flat = {"task": "medical", "edition": "mini", "limit": 8, "base_model": str(base), "particles": 5}
        flat |= {"iterations": 3, "experts": [str(folder) for folder in adapters], "device": "cpu"}
        session = open_session(run_settings({**flat, **settings}))
        store, bus = Store.create(tmp_path / name, {}), Bus()
        bus.subscribe(store.log)
        for subscriber in subscribers:
            bus.subscribe(lambda event, call=subscriber: call(event, made[-1]))
        try:
            result = json.loads(adapt(session, store, bus).model_dump_json())
        finally:
            store.close()
        for lasting in ("seconds", "time_share", "run", "engine", "cached_answers"):
            del result[lasting]
        del result["winner"]["adapter"]
        checkpoint = json.loads((tmp_path / name / "checkpoint" / "state.json").read_text())
        for lasting in ("seconds", "times", "settings_sha256", "sha256", "cached_answers"):
            del checkpoint[lasting]
        return result, checkpoint, (tmp_path / name / "best" / "adapter_model.safetensors").read_bytes()

    return run


@slow
def test_one_two_and_four_workers_find_the_same_and_a_killed_one_changes_nothing(cluster, search):
    whole = search("local", engine="local")
    for workers in (1, 2, 4):
        assert search(f"ray{workers}", engine="ray", workers=workers, ray_address="auto") == whole
    killed = []

    def kill(event, engine):
        if isinstance(event, Evaluated) and event.iteration >= 1 and not killed:
            for one in [one for one in engine._members if one.jobs][:1]:  # all may be done already
                killed.append(one.pid)
                os.kill(one.pid, signal.SIGKILL)

    assert search("killed", kill, engine="ray", workers=2, ray_address="auto") == whole
    assert killed


# -- a cluster of its own, or none -------------------------------------------------------------------------------------


def started(*arguments):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever starts the tests in the background has made them ignore Ctrl-C, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def descendants(pid):
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            found += [int(child), *descendants(child)]
    return found


@slow
def test_a_run_joins_a_cluster_and_leaves_it_as_it_was(cluster, search, base, adapters, tmp_path):
    import ray

    experts = [part for folder in adapters for part in ("--experts", folder)]
    job = ["search", "--task", "medical", "--edition", "mini", "--limit", 8, "--particles", 5, "--iterations", 3]
    job += ["--base-model", base, *experts, "--device", "cpu", "--out", tmp_path, "--name", "joined"]
    run = started(*job, "--engine", "ray", "--workers", 2, "--ray-address", cluster.address, "--display", "plain")
    met = set()
    while run.poll() is None:
        met.add(ray.available_resources().get("CPU"))
        time.sleep(0.05)
    _, err = run.communicate()
    assert run.returncode == 0, err
    assert 2 in met  # two cores of this cluster were taken
    rows = json.loads((tmp_path / "joined" / "result.json").read_text())["rows"]
    assert rows == search("local", engine="local")[0]["rows"]
    wait_until(lambda: ray.available_resources().get("CPU") == 4)


@slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_process_and_is_resumed(base, adapters, tmp_path, stop):
    experts = [part for folder in adapters for part in ("--experts", folder)]
    job = ["search", "--task", "medical", "--edition", "mini", "--limit", 30, "--particles", 6, "--iterations", 8]
    job += ["--base-model", base, *experts, "--device", "cpu", "--out", tmp_path, "--patience", 40, "--preset", "paper"]
    run = started(*job, "--name", "ray", "--engine", "ray", "--workers", 1, "--display", "plain")
    state = tmp_path / "ray" / "checkpoint" / "state.json"
    wait_until(lambda: run.poll() is not None or (state.exists() and '"iteration": 2' in state.read_text()))
    assert run.poll() is None, run.communicate()
    children = descendants(run.pid)
    assert children
    run.send_signal(stop)
    out, err = run.communicate(timeout=240)
    assert run.returncode == 130 and "Interrupted; continue with" in out + err and "Traceback" not in out + err
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    if stop == signal.SIGTERM:
        return  # resumed once is enough
    resumed = started("resume", tmp_path / "ray", "--display", "plain")
    out, err = resumed.communicate(timeout=400)
    assert resumed.returncode == 0, err
    local = started(*job, "--name", "local", "--engine", "local", "--display", "plain")
    assert local.wait(timeout=400) == 0
    names = ("rows", "winner", "evaluations", "iterations")
    told = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("ray", "local")]
    for one in told:
        del one["winner"]["adapter"]
    assert [told[0][name] for name in names] == [told[1][name] for name in names]


@slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", 999], "--workers 999: .* fit on this machine"),
        (["--worker-cpus", 999], "this machine has no room for a single worker"),
        (["--ray-address", "127.0.0.1:1"], "--ray-address 127.0.0.1:1: no Ray cluster can be reached"),
    ],
)
def test_what_cannot_be_had_is_told_before_anything_is_loaded(base, adapters, tmp_path, arguments, words):
    given = ["search", "--task", "medical", "--edition", "mini", "--limit", 8, "--base-model", base]
    given += ["--experts", adapters[0], "--device", "cpu", "--out", tmp_path, "--engine", "ray"]
    run = started(*given, *arguments)
    _, err = run.communicate(timeout=200)
    assert run.returncode == 2 and re.search(words, err), err
    assert "Traceback" not in err
