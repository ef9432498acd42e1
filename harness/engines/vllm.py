"""The vLLM engine: one resident base model, and all particles in one continuous batch, one adapter per particle.

One thread owns the engine. It loads the adapters of particles that have jobs, passes their requests to vLLM's scheduler
and completes each job when its last request is done, so that one particle's answers can be judged while others are
still generated. Every load has a new name, number and path, because vLLM identifies adapters and prefix-cache blocks by
these alone. An adapter is used only after the adapter check has passed: if its tensors match no module, vLLM answers as
the base model without an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import itertools
import os
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from harness.engines.adapter_check import (
    AdapterCheck,
    check_finite_logprobs,
    check_like_local,
    check_servable,
    rounding_tolerance,
)
from harness.engines.adapter_folder import AdapterFolder, adapter_bytes
from harness.engines.adapter_slots import CPU_BATCH, lora_rank, slots_that_fit
from harness.engines.base import INSTALL_VLLM, Times, engines
from harness.engines.local_reference import first_expert_logprobs
from harness.engines.settings import EngineSettings
from harness.engines.tokenizer import Tokens
from harness.experts.files import weight_files
from harness.experts.lora_pool import LoraPool
from harness.experts.pool import Pool
from utilities.core import ChoiceLogprobs, Model, Response, Unscored
from utilities.errors import UserError, first_line

__all__ = ["VllmEngine"]

Row = NDArray[np.float64]
T = TypeVar("T")
SLOTS = 20
"""Default number of adapters loaded at the same time."""
LOADS = 2
"""Maximum number of loads of an adapter that fails the adapter check."""


@dataclass
class _Job:
    """Requests of one particle, and callbacks for their outputs."""

    key: bytes | None
    row: Row | None
    requests: Sequence[tuple[list[int], Any]]
    """Token ids and sampling parameters."""
    done: Callable[[list[Any]], None]
    failed: Callable[[BaseException], None]
    outputs: list[Any] = field(default_factory=list)
    missing: int = 0


@dataclass
class _Adapter:
    """A particle's adapter in vLLM."""

    request: Any
    folder: Path
    row: Row
    loads: int = 1
    applied: bool | None = None
    """Whether the adapter check passed; None while it runs. Answers wait for it."""
    running: int = 0
    held: list[_Job] = field(default_factory=list)


@engines.register("vllm")
class VllmEngine:
    """Answers with vLLM, on GPUs of this machine or, with its CPU build, on the CPU.

    Args:
        base: Folder of the base model and its tokenizer.
        pool: The experts, LoRA adapters; None for the base model alone.
        settings: Precision, memory, slots, GPUs.
        state: State of an earlier engine; unused.

    Raises:
        UserError: vLLM is not installed, cannot load the model, or cannot serve these adapters.
    """

    name = "vllm"
    _failed: BaseException | None = None
    """The error that ended the engine's thread."""

    def __init__(
        self, base: Path, pool: Pool | None, settings: EngineSettings, state: dict[str, Any] | None = None
    ) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise UserError(f"--engine vllm: vLLM is not installed; install it with {INSTALL_VLLM}")
        self.pool = check_servable(pool, self.name)
        self.times, self.notes = Times(), list[str]()
        self.loads = 0
        """Number of adapters loaded since the engine started."""
        self._base, self._settings = base, settings
        self._numbers = itertools.count(1)
        self._adapters: OrderedDict[bytes, _Adapter] = OrderedDict()
        self._jobs: list[_Job] = []
        self._requests: dict[str, tuple[_Job, int]] = {}
        self._open: dict[int, _Job] = {}
        self._controls: list[_Job] = []
        self._ready, self._closed, self._asleep = threading.Condition(), False, False
        self._sleepers = 0
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), name="vllm-engine", daemon=True)
        self._thread.start()
        started.wait()
        if self._failed is not None:
            self.close()
            raise self._failed

    @property
    def device(self) -> str:
        """Device description for display."""
        return self._device

    def state(self) -> dict[str, Any]:
        """Empty: vLLM needs no state to reproduce a run."""
        return {}

    def particle(self, row: Row | None) -> Model:
        """The model made of the experts with the coefficients `row` [experts]; None is the base model."""
        if row is not None and self.pool is None:
            raise ValueError("an engine without experts answers as the base model only")
        return _Particle(self, None if row is None else np.asarray(row, dtype=np.float64))

    def close(self) -> None:
        """Stops the thread, frees the model and removes the adapter files."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join()

    @contextlib.asynccontextmanager
    async def asleep(self, rest: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
        """Frees the GPU for other code: weights move to main memory (vLLM's sleep level 1), adapters are unloaded.

        It starts when all running jobs are done; new jobs wait. Overlapping uses share one sleep. Adapters may not
        survive it, so all are reloaded under new names and used only after the adapter check has passed.

        Args:
            rest: Called when the last use ends; must free the GPU again.
        """
        self._sleepers += 1
        if self._sleepers == 1:
            self._nap = asyncio.ensure_future(self._control(self._sleep))
        try:
            await asyncio.shield(self._nap)
            yield
        finally:
            self._sleepers -= 1
            if not self._sleepers:
                rest()
                await self._control(self._wake)

    # -- called from any event loop ----------------------------------------------------------------------------------

    async def submit(
        self, row: Row | None, requests: Sequence[tuple[list[int], Any]], read: Callable[[list[Any]], T]
    ) -> T:
        """Sends requests to the particle `row` and returns `read(outputs)`; None is the base model."""
        if row is None and self.pool is not None:
            # On a CPU, vLLM applies the last slot to requests without an adapter if others in the batch have one.
            row = np.zeros(len(self.pool.names))
        return await self._wait(lambda job: self._jobs.append(job), row, requests, read)

    async def _control(self, work: Callable[[], None]) -> None:
        """Runs `work` in the engine's thread when no request is running."""
        await self._wait(lambda job: self._controls.append(job), None, (), lambda _: work())

    async def _wait(
        self,
        put: Callable[[_Job], None],
        row: Row | None,
        requests: Sequence[tuple[list[int], Any]],
        read: Callable[[list[Any]], T],
    ) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def deliver(setter: Callable[[Any], None], value: Any) -> None:
            def set_it() -> None:
                if not future.done():
                    setter(value)

            with contextlib.suppress(RuntimeError):  # the caller's loop is closed
                loop.call_soon_threadsafe(set_it)

        def done(outputs: list[Any]) -> None:
            try:
                result = read(outputs)
            except BaseException as error:
                deliver(future.set_exception, error)
            else:
                deliver(future.set_result, result)

        job = _Job(
            None if row is None else row.tobytes(), row, requests, done, lambda e: deliver(future.set_exception, e)
        )
        with self._ready:
            if self._closed:
                raise self._failed or RuntimeError("the engine was closed")
            put(job)
            self._ready.notify()
        return await future

    # -- start and end, in the engine's thread -----------------------------------------------------------------------

    def _serve(self, started: threading.Event) -> None:
        try:
            try:
                self._start()
            finally:
                started.set()
            while True:
                with self._ready:
                    while not (self._closed or self._work_waits()):
                        self._ready.wait()
                    if self._closed:
                        raise RuntimeError("the engine was closed")
                    jobs, self._jobs = self._jobs, []
                    control = self._controls.pop(0) if self._controls and not self._requests else None
                if control is not None:
                    control.done([])
                self._admit(jobs)
                self._step()
        except BaseException as error:
            self._failed = self._in_words(error)
        finally:
            self._end()

    def _work_waits(self) -> bool:
        if self._controls and not self._requests:
            return True
        return bool(self._requests) or bool(self._jobs and not self._asleep)

    def _in_words(self, error: BaseException) -> BaseException:
        if not isinstance(error, torch.OutOfMemoryError):
            return error
        failure = UserError(
            f"out of memory on {self._device}; lower --adapter-slots, --max-model-len or --gpu-memory, or take more"
            " GPUs with --tensor-parallel"
        )
        failure.__cause__ = error
        return failure

    def _start(self) -> None:
        settings = self._settings
        _environment(settings)
        from vllm import LLM
        from vllm.platforms import current_platform

        on_cpu = current_platform.is_cpu()
        if settings.device != "auto" and (settings.device == "cpu") != on_cpu:
            raise UserError(f"--device {settings.device}: the vLLM that is installed was built for another device")
        self._device = "cpu" if on_cpu else str(current_platform.get_device_name())
        options = {} if self.pool is None else self._room_for_adapters(self.pool, on_cpu=on_cpu)
        try:
            self.tokens = Tokens(self._base, settings.max_model_len, trust_remote_code=settings.trust_remote_code)
            self._llm = LLM(
                model=str(self._base),
                dtype="float32" if on_cpu and settings.dtype == "auto" else settings.dtype,
                seed=0,
                max_model_len=self.tokens.context,
                tensor_parallel_size=settings.tensor_parallel,
                gpu_memory_utilization=settings.gpu_memory,
                quantization=settings.quantization,
                trust_remote_code=settings.trust_remote_code,
                enforce_eager=on_cpu,
                max_num_batched_tokens=CPU_BATCH if on_cpu else None,
                enable_prefix_caching=True,
                enable_sleep_mode=not on_cpu and current_platform.is_sleep_mode_available(),
                disable_log_stats=True,
                **options,
            )
        except torch.OutOfMemoryError:
            raise
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, AssertionError) as error:
            raise UserError(f"{self._base}: vLLM cannot serve this base model: {first_line(error)}") from error
        self._engine = self._llm.llm_engine
        self._dtype: torch.dtype = self._engine.model_config.dtype
        self._check = AdapterCheck(self.tokens)
        self._check.record_base(self._logprobs_of(*self._check.prompts))
        if self.pool is not None:
            self._try_an_adapter(self.pool)

    def _room_for_adapters(self, pool: LoraPool, *, on_cpu: bool) -> dict[str, Any]:
        settings, wanted = self._settings, self._settings.adapter_slots or SLOTS
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
        if not on_cpu:
            total = int(torch.cuda.mem_get_info()[1] * settings.gpu_memory) * settings.tensor_parallel
        weights = sum(path.stat().st_size for path in weight_files(self._base))
        self._slots = slots_that_fit(wanted, pool, total, weights, 4 if on_cpu else 2)
        if self._slots < wanted:
            self.notes.append(
                f"memory holds {self._slots} of {wanted} adapters beside the base model: the particles are answered in"
                " groups"
            )
        self._folder = AdapterFolder(None, adapter_bytes(pool, self._slots))
        return {
            "enable_lora": True,
            "max_loras": self._slots,
            "max_cpu_loras": self._slots,
            "max_lora_rank": lora_rank(pool.rank),
            # Required, not only to save memory: if the output layer has slots, vLLM computes the log-probabilities of
            # a prompt's tokens with another request's slot.
            "lora_target_modules": sorted({module.rsplit(".", 1)[-1] for module in pool.modules}),
        }

    def _try_an_adapter(self, pool: LoraPool) -> None:
        """Loads and checks the first expert, so that unsupported adapters fail before the search.

        Raises:
            UserError: It cannot be loaded, is not applied, yields NaN, or answers otherwise than in the local engine.
        """
        row = np.eye(len(pool.names))[0]
        adapter = self._load(row, self._write([row])[0])
        logprobs, long = self._logprobs_of(self._check.ids, self._check.long, request=adapter.request)
        check_finite_logprobs(long, "vllm")
        if not self._check.is_applied(logprobs, pool, adapter.row):
            raise UserError(
                "--engine vllm: vLLM loads the experts' adapters, but the model answers as without them; take --engine"
                " local"
            )
        try:
            _, expected = first_expert_logprobs(pool, self._check.long, self._settings, self._dtype)
        except UserError as reason:
            self.notes.append(f"adapters are not compared with the local engine's: {reason}")
        else:
            check_like_local(long, expected, rounding_tolerance(self._dtype), self.name, pool.names[0])
        self._unload(adapter)
        self.loads = 0

    def _end(self) -> None:
        reason = self._failed or RuntimeError("the engine was closed")
        with self._ready:
            self._closed = True
            waiting = [*self._jobs, *self._controls, *self._open.values()]
        for job in waiting:
            job.failed(reason)
        self._requests.clear()
        if self.__dict__.pop("_llm", None) is not None:
            self._engine.engine_core.shutdown()
            del self._engine
            gc.collect()
            with contextlib.suppress(Exception):  # the process group may be gone already
                from vllm.distributed import cleanup_dist_env_and_memory

                cleanup_dist_env_and_memory()
        if (folder := self.__dict__.get("_folder")) is not None:
            folder.close()

    def _sleep(self) -> None:
        for adapter in self._adapters.values():
            self._unload(adapter)
        self._adapters.clear()
        self._llm.sleep(level=1)
        self._asleep = True

    def _wake(self) -> None:
        self._llm.wake_up()
        self._asleep = False
        (logprobs,) = self._logprobs_of(self._check.ids)
        if not self._check.is_base(logprobs):
            raise UserError("vLLM does not answer as before its sleep; without sharing the GPU it does not sleep")

    # -- adapters ----------------------------------------------------------------------------------------------------

    def _write(self, rows: Sequence[Row]) -> list[Path]:
        """Mixes the rows [experts] or [groups * experts] and writes them as adapter folders.

        Raises:
            UserError: Not enough space for their files.
        """
        assert self.pool is not None  # noqa: S101 - rows require a pool
        start = time.perf_counter()
        full = np.stack([self.pool.grouping.for_every_group(row) for row in rows])  # equal widths
        folders = self._folder.write(self.pool, full, self._dtype)
        self.times.mixing += time.perf_counter() - start
        return folders

    def _load(self, row: Row, folder: Path, loads: int = 1) -> _Adapter:
        """Loads a written row.

        Raises:
            UserError: vLLM rejects the adapter.
        """
        from vllm.lora.request import LoRARequest

        start = time.perf_counter()
        request = LoRARequest(folder.name, next(self._numbers), str(folder))
        try:
            self._engine.add_lora(request)
        except Exception as error:  # many types: invalid config, tensor shapes, memory
            self._folder.remove(folder)
            raise UserError(f"vLLM cannot load a particle's adapter: {first_line(error)}") from error
        self.loads += 1
        self.times.mixing += time.perf_counter() - start
        return _Adapter(request, folder, row, loads)

    def _unload(self, adapter: _Adapter) -> None:
        self._engine.remove_lora(adapter.request.lora_int_id)
        self._folder.remove(adapter.folder)

    def _logprobs_of(self, *prompts: list[int], request: Any = None) -> list[list[float]]:
        """Log-probabilities of the prompts' tokens, in one batch; no other request may be running."""
        for k, ids in enumerate(prompts):
            self._engine.add_request(f"check-{k}", {"prompt_token_ids": ids}, _scored(), lora_request=request)
        done: dict[str, Any] = {}
        while len(done) < len(prompts):
            done |= {output.request_id: output for output in self._engine.step() if output.finished}
        return [_prompt_logprobs(done[f"check-{k}"]) for k in range(len(prompts))]

    def _use(self, adapter: _Adapter) -> None:
        """Registers an adapter, and checks it in the same batch as its particle's first answers."""
        key = adapter.row.tobytes()
        self._adapters[key] = adapter

        def check(outputs: list[Any]) -> None:
            assert self.pool is not None  # noqa: S101 - adapters require a pool
            adapter.applied = self._check.is_applied(_prompt_logprobs(outputs[0]), self.pool, adapter.row)

        self._submit(_Job(key, None, [(self._check.ids, _scored())], check, lambda _: None))

    # -- jobs --------------------------------------------------------------------------------------------------------

    def _admit(self, jobs: Sequence[_Job]) -> None:
        """Submits the jobs of loaded particles, and of as many new particles as there are free slots."""
        new: dict[bytes, Row] = {}
        wanted = {job.key for job in jobs}
        for job in jobs:
            if job.row is None or job.key is None or job.key in self._adapters or job.key in new:
                continue
            if len(self._adapters) + len(new) == self._slots:
                idle = (k for k, one in self._adapters.items() if not one.running and k not in wanted)
                if (oldest := next(idle, None)) is None:
                    continue
                self._unload(self._adapters.pop(oldest))
            new[job.key] = job.row
        refused = self._bring(new)
        for job in (job for job in jobs if job.key in refused):
            job.failed(refused[job.key])
        jobs = [job for job in jobs if job.key not in refused]
        later = [job for job in jobs if job.key is not None and job.key not in self._adapters]
        for job in jobs:
            if job not in later:
                self._submit(job)
        with self._ready:
            self._jobs = [*later, *self._jobs]

    def _bring(self, new: Mapping[bytes, Row]) -> dict[bytes | None, UserError]:
        """Writes and loads new particles; returns the error of each that failed, independent of the others."""
        refused: dict[bytes | None, UserError] = {}
        try:
            folders = self._write(list(new.values())) if new else []
        except UserError as error:
            return dict.fromkeys(new, error)
        for (key, row), folder in zip(new.items(), folders, strict=True):
            try:
                self._use(self._load(row, folder))
            except UserError as error:
                refused[key] = error
        return refused

    def _submit(self, job: _Job) -> None:
        request = None
        if job.key is not None:
            self._adapters.move_to_end(job.key)
            adapter = self._adapters[job.key]
            adapter.running += 1
            request = adapter.request
        self._open[id(job)] = job
        job.outputs, job.missing = [None] * len(job.requests), len(job.requests)
        for k, (ids, params) in enumerate(job.requests):
            name = str(next(self._numbers))
            self._requests[name] = (job, k)
            self._engine.add_request(name, {"prompt_token_ids": ids}, params, lora_request=request)
        if not job.requests:
            self._finished(job)

    def _step(self) -> None:
        if not self._requests:
            return
        start = time.perf_counter()
        outputs = self._engine.step()
        self.times.forward += time.perf_counter() - start
        for output in outputs:
            if output.finished and (entry := self._requests.pop(output.request_id, None)) is not None:
                job, k = entry
                job.outputs[k] = output
                job.missing -= 1
                if not job.missing:
                    self._finished(job)

    def _finished(self, job: _Job) -> None:
        """Completes a job, or holds it until the adapter check has passed; if the check failed, the job is repeated."""
        if job.key is None:
            self._answer(job)
            return
        adapter = self._adapters[job.key]
        adapter.running -= 1
        if job.row is None:
            self._answer(job)  # the adapter check's
        else:
            adapter.held.append(job)
        if adapter.applied:
            held, adapter.held = adapter.held, []
            for one in held:
                self._answer(one)
        elif adapter.applied is False and not adapter.running:
            self._load_again(job.key, adapter)

    def _load_again(self, key: bytes, adapter: _Adapter) -> None:
        self._unload(self._adapters.pop(key))
        if adapter.loads == LOADS:
            message = "vLLM answers as the base model although it has loaded a particle's adapter; take --engine local"
            for job in adapter.held:
                self._open.pop(id(job)).failed(UserError(message))
            return
        self._use(self._load(adapter.row, self._write([adapter.row])[0], adapter.loads + 1))
        for job in adapter.held:
            self._submit(job)

    def _answer(self, job: _Job) -> None:
        del self._open[id(job)]
        job.done(job.outputs)


class _Particle:
    """A handle: the engine and a row of coefficients."""

    def __init__(self, engine: VllmEngine, row: Row | None) -> None:
        self._engine, self._row = engine, row

    async def generate(
        self, prompts: Sequence[str], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> list[Response | Unscored]:
        """Greedy continuations, one per prompt."""
        from vllm import SamplingParams

        encoded = self._engine.tokens.prompts(prompts, max_tokens)
        params = SamplingParams(temperature=0.0, max_tokens=max_tokens, stop=list(stop) or None)
        requests = [(ids, params) for ids in encoded if not isinstance(ids, Unscored)]
        read = self._engine.tokens.answer

        def texts(outputs: list[Any]) -> list[Response]:
            return [read(list(output.outputs[0].token_ids), max_tokens, stop) for output in outputs]

        answers = iter(await self._engine.submit(self._row, requests, texts))
        return [ids if isinstance(ids, Unscored) else next(answers) for ids in encoded]

    async def choice_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[ChoiceLogprobs | Unscored]:
        """Log-probabilities of each prompt's options."""
        questions = self._engine.tokens.questions(prompts, options)
        scorable = [question for question in questions if not isinstance(question, Unscored)]
        requests = [request for ids, choices in scorable for request in _requests(ids, choices)]

        def read(outputs: list[Any]) -> list[ChoiceLogprobs]:
            remaining = iter(outputs)
            return [_choice(ids, choices, remaining) for ids, choices in scorable]

        answers = iter(await self._engine.submit(self._row, requests, read))
        return [question if isinstance(question, Unscored) else next(answers) for question in questions]


def _requests(ids: list[int], choices: list[list[int]]) -> list[tuple[list[int], Any]]:
    """Requests of one question: a single one if every option is one token, else one per option."""
    from vllm import SamplingParams

    if all(len(choice) == 1 for choice in choices):
        tokens = sorted({choice[0] for choice in choices})
        return [(ids, SamplingParams(temperature=0.0, max_tokens=1, logprob_token_ids=tokens, detokenize=False))]
    return [(ids + choice, _scored()) for choice in choices]


def _choice(ids: list[int], choices: list[list[int]], outputs: Iterator[Any]) -> ChoiceLogprobs:
    counts = tuple(len(choice) for choice in choices)
    if all(count == 1 for count in counts):
        logprobs = next(outputs).outputs[0].logprobs[0]
        return ChoiceLogprobs(tuple(logprobs[choice[0]].logprob for choice in choices), counts)
    sums = (sum(_prompt_logprobs(next(outputs))[len(ids) - 1 :]) for _ in choices)
    return ChoiceLogprobs(tuple(sums), counts)


def _scored() -> Any:
    """Sampling parameters for the log-probabilities of a prompt's tokens."""
    from vllm import SamplingParams

    return SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)


def _prompt_logprobs(output: Any) -> list[float]:
    """Log-probabilities of a prompt's tokens, starting at the second."""
    pairs = zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:], strict=True)
    return [logprobs[token].logprob for token, logprobs in pairs]


def _environment(settings: EngineSettings) -> None:
    """Sets vLLM's environment variables before its import; values set by the user are not changed."""
    variables = {
        # In this process: no orphan processes, and deterministic scheduling.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GB
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # otherwise vLLM uses cores assigned to other processes
        **({"VLLM_BATCH_INVARIANT": "1"} if settings.batch_invariant else {}),
    }
    for name, value in variables.items():
        os.environ.setdefault(name, value)
