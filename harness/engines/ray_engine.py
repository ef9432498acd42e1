"""The Ray engine: distributes particles over worker actors on many GPUs or machines, each with its own engine.

Each actor opens the base model and the experts once: from its machine's disk if they are there with the same content,
otherwise from Ray's object store. After that a job is a row of coefficients and the key of a prompt set, which every
actor caches, and only answers are returned.

Scheduling. An engine that folds particles into its weights has one running job. It gets a second, queued job only while
more jobs wait than there are workers: it never waits for the network, and at the end of an iteration no job is queued
while a worker is idle. An engine that batches accepts all jobs at once, so each job goes to the worker that should
finish first, estimated from the items per second of its past jobs. A worker prefers jobs of the particle that it has
loaded, then the oldest job of a particle that no other worker has, then the oldest job.

Answers do not depend on the scheduling: every worker has the same files, settings and number of threads, and one worker
answers all prompts of a job. The number of workers, their order and their failures do not change a run's trajectory.

One thread owns all state; jobs, answers and failures reach it through one queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import pickle
import queue
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.engines.base import Times, engines
from harness.engines.ray_folder_copy import Files, send
from harness.engines.ray_worker import QUESTIONS_KEPT, Answer, Plan, Question, Report, Worker
from harness.engines.settings import EngineSettings
from harness.experts.files import folder_hash
from harness.experts.pool import Pool
from utilities.core import ChoiceLogprobs, Model, Response, Unscored
from utilities.errors import UserError, first_line

__all__ = ["RayEngine", "Sent"]

Row = NDArray[np.float64]

INSTALL = "pip install -e '.[ray]'"
AHEAD = 2
"""Maximum number of jobs of a folding worker: one running, one queued."""
ALONE, KILLS = 2, 3
"""Worker failures with a job in flight after which the job runs alone on a worker, and after which it fails."""
FAILED_STARTS = 3
"""Maximum number of consecutive failed worker starts."""
RETRY, AGAIN = 5.0, 300.0
"""Seconds until the next start after a failed one, and after `FAILED_STARTS` failed ones."""
PATIENCE = 300.0
"""Seconds without any worker after which the run fails: restarting or provisioning machines takes minutes."""
PLACING = 10.0
"""Seconds within which a cluster with free resources starts a worker process."""
REACH = 60.0
"""Timeout in seconds for importing Ray and connecting to a cluster."""
KNOCK = 5.0
"""Timeout in seconds for a TCP connection to the cluster's port."""
GRACE = 5.0
"""Seconds that workers have to remove their files when the engine is closed."""
TICK = 1.0
"""Polling interval in seconds for timeouts and for the cluster's machines."""
STORE = 256 << 20
"""Bytes of the object store of a cluster started by this engine; it holds only prompts and answers."""


@dataclass
class Sent:
    """Pickled bytes sent to the workers, without Ray's overhead (a few hundred bytes per message)."""

    jobs: int = 0
    """Rows of coefficients, keys of prompt sets, and generation arguments."""
    questions: int = 0
    """Prompt sets; each is put into the object store once."""
    files: int = 0
    """Files of the base model and of experts that a machine lacked; each is put into the object store once."""


@dataclass(order=True)
class _Job:
    number: int
    row: Row | None = field(compare=False)
    question: Question = field(compare=False)
    items: int = field(compare=False)
    future: asyncio.Future[list[Any]] = field(compare=False)
    loop: asyncio.AbstractEventLoop = field(compare=False)
    kills: int = field(default=0, compare=False)
    """Workers that failed with it in flight."""

    @property
    def key(self) -> bytes | None:
        """The particle."""
        return None if self.row is None else self.row.tobytes()

    def answer(self, name: Literal["set_result", "set_exception"], value: Any) -> None:
        """Sets the result or the error of the future, in the caller's event loop."""

        def deliver() -> None:
            if not self.future.done():
                getattr(self.future, name)(value)

        with contextlib.suppress(RuntimeError):  # the caller's loop is closed
            self.loop.call_soon_threadsafe(deliver)


@dataclass(eq=False)
class _Member:
    """The driver's state of one worker."""

    actor: Any
    pid: int = 0
    machine: str = ""
    report: Report | None = None
    """None until its engine is loaded."""
    jobs: list[_Job] = field(default_factory=list)
    """In flight, oldest first."""
    last: bytes | None = None
    """Particle of the last job sent; None is the base model, with which every engine starts."""
    items: int = 0
    busy: float = 0.0
    since: float = 0.0

    @property
    def folding(self) -> bool:
        return self.report is not None and self.report.folding

    @property
    def particles(self) -> set[bytes | None]:
        """Particles that are folded or loaded."""
        return {self.last} if self.folding else {job.key for job in self.jobs}

    def has_room(self, ahead: bool) -> bool:
        """Whether it can accept a job; `ahead` allows a second one in a folding worker."""
        if self.report is None or any(job.kills >= ALONE for job in self.jobs):
            return False
        return not self.folding or len(self.jobs) < (AHEAD if ahead else 1)

    def speed(self, usual: float) -> float:
        """Items per second of its past jobs; `usual` if it has none."""
        return self.items / self.busy if self.items and self.busy else usual

    def count(self, items: int) -> None:
        """Adds the items, and the seconds since the last answer or since it became busy."""
        now = time.perf_counter()
        self.busy, self.since, self.items = self.busy + now - self.since, now, self.items + items


@engines.register("ray")
class RayEngine:
    """Answers with local or vLLM engines in Ray actors, on this machine or in a cluster.

    `notes` reports workers that were lost or added.

    Args:
        base: Folder of the base model.
        pool: The experts; None for the base model alone.
        settings: Workers, their engine and cores, the cluster's address; the rest is passed to the workers' engines.
        state: `state()` of an earlier engine.

    Raises:
        UserError: Ray is not installed, the cluster cannot be reached or has no free resources, or a worker cannot
            load its engine (that engine's message).
    """

    name = "ray"

    def __init__(
        self, base: Path, pool: Pool | None, settings: EngineSettings, state: dict[str, Any] | None = None
    ) -> None:
        self.times, self.notes, self.sent = Times(), list[str](), Sent()
        self._pool, self._settings, self._state = pool, settings, dict(state or {})
        self._plan = _plan(base, pool, settings)
        self._files: dict[str, Files] = {}
        self._questions: OrderedDict[tuple[int, int], tuple[Any, Any, str, Any]] = OrderedDict()
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._gate, self._closed, self._numbers = threading.Lock(), False, count()
        self._members: list[_Member] = []
        self._waiting: list[_Job] = []
        self._failed_starts, self._not_before, self._failure = 0, 0.0, ""
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._serve, name="ray-engine", daemon=True)
        self._thread.start()
        try:
            self._ready.result()
        except BaseException:
            self.close()
            raise

    @property
    def device(self) -> str:
        """Device description for display."""
        reports = [member.report for member in self._members if member.report is not None]
        devices = ", ".join(sorted({report.device for report in reports})) or "starting"
        return f"{len(reports)} Ray worker{'s' if len(reports) != 1 else ''} ({devices})"

    def state(self) -> dict[str, Any]:
        """State of the workers' engines, which is the same in all of them."""
        return dict(self._state)

    def particle(self, row: Row | None) -> Model:
        """The model made of the experts with the coefficients `row` [experts]; None is the base model."""
        if row is not None and self._pool is None:
            raise ValueError("an engine without experts answers as the base model only")
        return _Particle(self, None if row is None else np.array(row, dtype=np.float64))

    def close(self) -> None:
        """Stops the workers, and the cluster if this engine started it; idempotent."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._inbox.put(lambda: None)
        self._thread.join()

    # -- called from any event loop ----------------------------------------------------------------------------------

    async def ask(
        self,
        row: Row | None,
        prompts: Sequence[str],
        options: Sequence[Sequence[str]] | None,
        how: dict[str, Any] | None,
    ) -> list[Any]:
        """Answers of the particle `row` [experts] to a prompt set; `how` as in `Question`."""
        loop = asyncio.get_running_loop()
        with self._gate:
            if self._closed:
                raise RuntimeError("the engine was closed")
            key, texts = self._put(prompts, options)
            question = Question(key, [texts], how)
            job = _Job(next(self._numbers), row, question, len(prompts), loop.create_future(), loop)
            self._inbox.put(lambda: insort(self._waiting, job))
        return await job.future

    def _put(self, prompts: Sequence[str], options: Sequence[Sequence[str]] | None) -> tuple[str, Any]:
        """Key and reference of a prompt set, put into the object store once: looked up by identity, then by content."""
        cached = self._questions.get(at := (id(prompts), id(options)))
        if cached is None or cached[0] is not prompts or cached[1] is not options:
            data = pickle.dumps((list(prompts), None if options is None else [list(o) for o in options]))
            key = sha256(data).hexdigest()
            texts = next((entry[3] for entry in self._questions.values() if entry[2] == key), None)
            if texts is None:
                texts = self._ray.put(pickle.loads(data))  # noqa: S301 - pickled above
                self.sent.questions += len(data)
            cached = self._questions[at] = (prompts, options, key, texts)
        self._questions.move_to_end(at)
        while len(self._questions) > QUESTIONS_KEPT:
            self._questions.popitem(last=False)
        return cached[2], cached[3]

    # -- the one thread ----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        failed: BaseException | None = None
        connected = False
        try:
            # In this thread, not in __init__: Ray's processes end with the thread that started them.
            self._ray, self._own, connected = _connect(self._settings.ray_address)
            self._gpu = self._settings.device == "cuda" or (self._settings.device == "auto" and self._total("GPU") > 0)
            self._wanted = self._count_wanted()
            self._elastic = not self._own and self._settings.workers is None
            self._began = self._hope = self._looked = time.monotonic()
            while not self._closed:
                self._recruit()
                self._deal()
                self._lose_patience()
                with contextlib.suppress(queue.Empty):
                    self._inbox.get(timeout=TICK)()
        except BaseException as error:
            failed = error
        with self._gate:
            self._closed = True
        while not self._inbox.empty():  # jobs submitted before closing, and pending answers
            with contextlib.suppress(UserError):
                self._inbox.get()()
        self._end(failed or RuntimeError("the engine was closed"))
        if connected:
            self._ray.shutdown()

    def _end(self, reason: BaseException) -> None:
        for job in [*self._waiting, *(job for member in self._members for job in member.jobs)]:
            job.answer("set_exception", reason)
        if not self._ready.done():
            self._ready.set_exception(reason)
        with contextlib.suppress(Exception):  # the cluster has ended
            if goodbyes := [member.actor.close.remote() for member in self._members if member.pid]:
                self._ray.wait(goodbyes, num_returns=len(goodbyes), timeout=GRACE)
        for member in self._members:
            self._kill(member)
        self._waiting, self._members = [], []

    def _when_done(self, member: _Member, reference: Any, then: Callable[[_Member, Any], None]) -> None:
        """Calls `then` in the engine's thread with the value of `reference`, or `_lost` once if the worker failed."""

        def arrived(done: Future[Any]) -> None:
            if member not in self._members:
                return
            try:
                value = done.result()
            except self._ray.exceptions.RayError as error:
                self._lost(member, _reason(error))
            else:
                then(member, value)

        reference.future().add_done_callback(lambda done: self._inbox.put(partial(arrived, done)))

    # -- starting and losing workers ---------------------------------------------------------------------------------

    def _recruit(self) -> None:
        """Requests missing workers; Ray starts each as soon as a machine has free resources."""
        now = time.monotonic()
        if self._elastic and now - self._looked > TICK:
            self._wanted, self._looked = max(1, self._room()), now
        if now < self._not_before:
            return
        for member in [m for m in self._members if not m.pid][: max(0, len(self._members) - self._wanted)]:
            self._members.remove(member)  # its machine left before it started
            self._kill(member)
        while len(self._members) < self._wanted:
            resources: dict[str, Any] = {"num_cpus": self._settings.worker_cpus}
            if self._gpu:
                resources["num_gpus"] = self._settings.tensor_parallel
            actor = self._ray.remote(Worker).options(
                scheduling_strategy="SPREAD", max_restarts=0, max_task_retries=0, **resources
            )
            member = _Member(actor.remote(self._settings.worker_cpus, self._gpu))
            self._members.append(member)
            self._when_done(member, member.actor.hello.remote(), self._met)
            self._when_done(member, member.actor.live.remote(), lambda member, nothing: None)

    def _met(self, member: _Member, process: tuple[int, str]) -> None:
        member.pid, member.machine = process
        self._when_done(member, member.actor.missing.remote(self._plan.hashes), self._load)

    def _load(self, member: _Member, missing: list[str]) -> None:
        for folder in missing:
            if folder not in self._files:
                code = self._settings.trust_remote_code
                self._files[folder] = send(Path(folder), self._ray.put, code=code)
                self.sent.files += sum(size for _, size, _ in self._files[folder])
        files = {folder: self._files[folder] for folder in missing}
        self._when_done(member, member.actor.load.remote(self._plan, files, self._state), self._loaded)

    def _loaded(self, member: _Member, report: Report | BaseException) -> None:
        if isinstance(report, BaseException):
            if isinstance(report, UserError) and not self._ready.done():
                raise report
            self._lost(member, str(report) or type(report).__name__)
            return
        self._state = self._state or report.state
        if report.state != self._state:  # its batch size differs from the first worker's
            self._met(member, (member.pid, member.machine))
            return
        member.report, self._failed_starts = report, 0
        if self._ready.done():
            self.notes.append(f"a Ray worker on {member.machine} ({report.device}) takes part")

    def _lost(self, member: _Member, reason: str) -> None:
        """Removes a failed worker: its jobs return to the front of the queue, and a replacement is requested."""
        self._members.remove(member)
        self._kill(member)
        for job in member.jobs:
            job.kills += 1
            if job.kills < KILLS:
                insort(self._waiting, job)
                continue
            message = f"{KILLS} Ray workers in a row ended while they answered the same {job.items} prompts ({reason})"
            job.answer("set_exception", UserError(f"{message}; lower --batch-tokens or give workers more memory"))
        if member.report is None:
            self._failure, self._failed_starts = reason, self._failed_starts + 1
            self._not_before = max(self._not_before, time.monotonic() + RETRY)
            if self._failed_starts >= FAILED_STARTS:
                self._go_on_with_fewer()
        elif not self._closed:
            self._not_before = 0.0  # a worker that was ready is replaced immediately
            again = f"; its {len(member.jobs)} jobs are done again" if member.jobs else ""
            self.notes.append(f"a Ray worker on {member.machine} was lost ({reason}){again}")

    def _go_on_with_fewer(self) -> None:
        message = f"{FAILED_STARTS} Ray workers in a row could not start: {self._failure}"
        if not self._members:
            raise UserError(message)
        self.notes.append(
            f"{message}; the run goes on with {len(self._members)}, and others are asked for in {AGAIN:.0f} s"
        )
        self._not_before, self._failed_starts = time.monotonic() + AGAIN, 0

    def _kill(self, member: _Member) -> None:
        with contextlib.suppress(Exception):  # it has ended, or the cluster has
            self._ray.kill(member.actor)

    def _lose_patience(self) -> None:
        """Marks the engine as ready, and fails if there has been no worker for `PATIENCE` seconds.

        Raises:
            UserError: No worker.
        """
        now, ready = time.monotonic(), [member for member in self._members if member.report is not None]
        if any(member.pid for member in self._members):
            self._hope = now
        elif now - self._hope > PATIENCE and (self._waiting or not self._ready.done()):
            needs = "a GPU" if self._gpu else f"{self._settings.worker_cpus} CPU cores"
            last = f" (the last one to start: {self._failure})" if self._failure else ""
            raise UserError(f"no Ray worker for {PATIENCE:.0f} s{last}: no machine of the cluster has {needs} free")
        if self._ready.done():
            return
        loading = any(member.pid and member.report is None for member in self._members)
        if len(ready) == self._wanted or (ready and not loading and now - self._began > PLACING):
            self._ready.set_result(None)

    def _adopt(self, member: _Member, state: dict[str, Any]) -> None:
        """Applies the smaller batch size of a worker that ran out of memory to all workers: the others are replaced,
        because the batch size changes rounding."""
        if state == self._state:
            return
        others = [m for m in self._members if m is not member and m.report is not None]
        self._state = state
        for other in others:
            for job in other.jobs:
                job.kills -= 1  # not caused by the job
            self._lost(other, "it begins again with smaller batches")

    # -- resources ---------------------------------------------------------------------------------------------------

    def _total(self, resource: str, share: int = 1) -> int:
        """Number of shares of a resource on the cluster's machines, busy or not."""
        nodes = (node for node in self._ray.nodes() if node["Alive"])
        return sum(int(node["Resources"].get(resource, 0)) // share for node in nodes)

    def _room(self) -> int:
        """Number of workers that fit on the cluster's machines."""
        if self._gpu:
            return self._total("GPU", self._settings.tensor_parallel)
        return self._total("CPU", self._settings.worker_cpus)

    def _count_wanted(self) -> int:
        """Number of workers: as requested, or as many as fit.

        Raises:
            UserError: Fewer fit on this machine, or none in the cluster.
        """
        workers, room = self._settings.workers, self._room()
        what = "a GPU each" if self._gpu else f"--worker-cpus {self._settings.worker_cpus} each"
        where = "this machine" if self._own else "the cluster"
        if self._own and workers is not None and workers > room:
            raise UserError(f"--workers {workers}: {room} fit on {where}, with {what}")
        if workers is None and not room:
            raise UserError(f"--engine ray: {where} has no room for a single worker, with {what}")
        return workers or room

    # -- jobs --------------------------------------------------------------------------------------------------------

    def _deal(self) -> None:
        """Assigns waiting jobs, each to the available worker with the earliest expected finish."""
        self._waiting = [job for job in self._waiting if not job.future.done()]  # cancelled or failed
        ready = [member for member in self._members if member.report is not None]
        speeds = [speed for member in ready if (speed := member.speed(0.0))]
        usual = sum(speeds) / len(speeds) if speeds else 1.0

        def expected(member: _Member) -> tuple[float, float]:
            speed = member.speed(usual)
            return sum(job.items for job in member.jobs) / speed, -speed

        while self._waiting:
            ahead = len(self._waiting) > len(ready)
            for member in sorted((m for m in ready if m.has_room(ahead)), key=expected):
                if (job := self._choose(member, ready)) is not None:
                    self._waiting.remove(job)
                    self._give(member, job)
                    break
            else:
                return

    def _choose(self, member: _Member, ready: Sequence[_Member]) -> _Job | None:
        """A job of a loaded particle, else the oldest of a particle that no other worker has, else the oldest."""
        jobs = [job for job in self._waiting if job.kills < ALONE or not member.jobs]
        own = member.particles
        others = {key for other in ready if other is not member for key in other.particles}
        return (
            next((job for job in jobs if job.key in own), None)
            or next((job for job in jobs if job.key not in others), None)
            or next(iter(jobs), None)
        )

    def _give(self, member: _Member, job: _Job) -> None:
        if not member.jobs:
            member.since = time.perf_counter()
        member.jobs.append(job)
        member.last = job.key
        question = job.question
        self.sent.jobs += len(pickle.dumps((job.row, question.key, question.how))) + len(question.texts[0].binary())
        self._when_done(member, member.actor.answer.remote(job.row, question), partial(self._answered, job))

    def _answered(self, job: _Job, member: _Member, answer: Answer) -> None:
        member.jobs.remove(job)
        member.count(job.items)
        share = max(1, sum(m.report is not None for m in self._members))
        self.times.forward += answer.forward / share  # workers compute in parallel
        self.times.mixing += answer.mixing / share
        if answer.error is None:
            job.answer("set_result", answer.found)
        else:
            job.answer("set_exception", answer.error)
        self._adopt(member, answer.state)


class _Particle:
    """A handle: the engine and a row of coefficients."""

    def __init__(self, engine: RayEngine, row: Row | None) -> None:
        self._engine, self._row = engine, row

    async def generate(
        self, prompts: Sequence[str], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> list[Response | Unscored]:
        """Greedy continuations, one per prompt."""
        how = {"max_tokens": max_tokens, "stop": tuple(stop)}
        return await self._engine.ask(self._row, prompts, None, how)

    async def choice_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[ChoiceLogprobs | Unscored]:
        """Log-probabilities of each prompt's options."""
        return await self._engine.ask(self._row, prompts, options, None)


def _plan(base: Path, pool: Pool | None, settings: EngineSettings) -> Plan:
    folders = [base, *(expert.folder for expert in pool.experts)] if pool else [base]
    try:
        hashes = {str(folder.absolute()): folder_hash(folder) for folder in folders}
    except OSError as error:
        raise UserError(f"{error.filename}: the files cannot be read: {error.strerror}") from error
    experts = None if pool is None else tuple((one.name, str(one.folder.absolute())) for one in pool.experts)
    granularity = "model" if pool is None else pool.grouping.granularity
    return Plan(settings.worker_engine, settings, str(base.absolute()), experts, granularity, hashes)


def _connect(address: str | None) -> tuple[Any, bool, bool]:
    """Connects to Ray: the module, whether this call started the cluster, and whether it connected this process.

    Raises:
        UserError: Ray is not installed, cannot be started, or no cluster answers at `address`.
    """
    # Read when Ray is imported. A local cluster listens on all interfaces, so it requires a token.
    environment = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a worker without a GPU hides GPUs itself
        "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # or it reports lost workers on stdout, which is for results
        "RAY_worker_niceness": "0",  # Ray would lower the priority of workers
    }
    if address is None and "ray" not in sys.modules and not os.environ.get("RAY_AUTH_MODE"):
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise UserError(f"--engine ray: Ray is not installed; install it with {INSTALL}") from error
    if ray.is_initialized():
        return ray, False, False
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        options |= {"address": "local", "include_dashboard": False, "object_store_memory": STORE}
    else:
        _try_to_reach(address)
        options["address"] = address
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        with _own_sigterm():
            ray.init(**options)
    except Exception as error:  # many types: port in use, version mismatch, ...
        where = "on this machine" if address is None else f"at {address}"
        raise UserError(f"--engine ray: no cluster can be had {where}: {_reason(error)}") from error
    return ray, address is None, True


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Restores the SIGTERM handler: Ray's would end the program immediately, without a checkpoint.

    Ray installs its handler outside Python's `signal` module, which sets handlers only in the main thread.
    """
    get, put = ctypes.pythonapi.PyOS_getsig, ctypes.pythonapi.PyOS_setsig
    get.argtypes, get.restype = [ctypes.c_int], ctypes.c_void_p
    put.argtypes, put.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    handler = get(signal.SIGTERM)
    try:
        yield
    finally:
        put(signal.SIGTERM, handler)


def _try_to_reach(address: str) -> None:
    """Tests the port, then connects in a subprocess: Ray waits minutes for a missing cluster.

    Raises:
        UserError: No cluster answers.
    """
    message = f"--ray-address {address}: no Ray cluster can be reached there from this machine"
    expected = "; expected is HOST:PORT of a cluster that this machine is part of (`ray start`), or auto"
    code = "import sys, ray; ray.init(sys.argv[1], logging_level=50, log_to_driver=False)"
    if "://" in address:
        raise UserError(message + expected)
    host, _, port = address.rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), KNOCK).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"{message} ({first_line(error)}){expected}") from None
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            [sys.executable, "-c", code, address], capture_output=True, text=True, timeout=REACH
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{message} within {REACH:.0f} s{expected}") from None
    if done.returncode:
        last = next(reversed(done.stderr.strip().splitlines()), "")
        raise UserError(f"{message} ({last.strip()[:200]}){expected}")


def _reason(error: BaseException) -> str:
    """Ray's message about a failure, in one line."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    dead = [line for line in lines if line.startswith("The actor is dead because")]
    return (dead or lines or [type(error).__name__])[0].split(". ")[0]
