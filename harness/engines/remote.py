"""The remote engine: a server holds the base model and loads the particles' adapters at runtime.

A particle's mixture is written to a folder that the server can read, and loaded under a new unique name. It is used
only after the adapter check has passed: if an adapter matches no module, a server answers as the base model without an
error. Prompts are sent as token ids, many per request, so they are tokenised exactly as in every other engine.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from harness.engines.adapter_check import (
    AdapterCheck,
    base_tolerance,
    check_finite_logprobs,
    check_like_local,
    check_servable,
)
from harness.engines.adapter_folder import AdapterFolder, adapter_bytes
from harness.engines.adapter_slots import lora_rank
from harness.engines.base import Times, engines
from harness.engines.local_reference import first_expert_logprobs
from harness.engines.server_client import PROBE, LoraServer, Refused
from harness.engines.settings import EngineSettings
from harness.engines.tokenizer import Question, Tokens
from harness.experts.lora_pool import LoraPool
from harness.experts.pool import Pool
from utilities.core import ChoiceLogprobs, Model, Response, Unscored
from utilities.errors import UserError, first_line

__all__ = ["RemoteEngine"]

Row = NDArray[np.float64]
Ids = tuple[int, ...]
Pair = tuple[Ids, Ids]
"""Token ids of a prompt and of one of its options."""
T = TypeVar("T")

CHUNK = 32
"""Prompts per request: enough to make HTTP overhead negligible, few enough that a retry is cheap."""
SLOTS = 20
"""Default number of adapters loaded at the same time: the size of the paper's swarm."""
LOADS = 3
"""Maximum number of loads of an adapter per request, if the server loses it."""
MOST_ENDS = 20
"""Maximum number of tokens whose log-probabilities vLLM returns at one position by default."""
SCORED: dict[str, Any] = {"max_tokens": 1, "prompt_logprobs": 0}
"""Request options for the log-probabilities of the prompt's tokens only."""
ENDS: dict[str, Any] = {"max_tokens": 1, "logprobs": 1, "return_tokens_as_token_ids": True}
"""Request options, with `logprob_token_ids`, for the log-probabilities of given next tokens."""


@dataclass
class _Adapter:
    """A slot that holds a particle's adapter."""

    row: Row
    replaces: Path | None = None
    """Folder of the adapter to unload first."""
    folder: Path | None = None
    """Its files; the folder's name is the adapter's name on the server."""
    ready: bool = False
    logprobs: list[float] | None = None
    """Of the adapter check's text, when it was first loaded."""
    users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@engines.register("remote")
class RemoteEngine:
    """Answers through an OpenAI-compatible server that loads LoRA adapters while it runs.

    Jobs of many particles may wait at the same time, from any event loop; all requests are made in the event loop of
    one thread.

    Args:
        base: Folder of the base model that is served, for its tokenizer.
        pool: The experts, LoRA adapters; None for the base model alone.
        settings: Address, key, slots, shared folder, concurrency.
        state: State of an earlier engine; unused.

    Raises:
        UserError: The server is unreachable or cannot serve these experts; includes its message.
    """

    name = "remote"

    def __init__(
        self, base: Path, pool: Pool | None, settings: EngineSettings, state: dict[str, Any] | None = None
    ) -> None:
        self.pool = check_servable(pool, self.name)
        self.times, self.notes = Times(), list[str]()
        self._base, self._settings, self._reads_ends = base, settings, True
        self._slots = settings.adapter_slots or SLOTS
        self._adapters: OrderedDict[bytes, _Adapter] = OrderedDict()
        try:
            self._tokens = Tokens(base, settings.max_model_len, trust_remote_code=settings.trust_remote_code)
        except (OSError, ValueError, KeyError) as error:
            first = first_line(error)
            raise UserError(f"{base}: the base model's tokenizer cannot be loaded: {first}") from error
        self._server = LoraServer(settings, self.times)
        self._folder: AdapterFolder | None = None
        if pool is not None:
            self._folder = AdapterFolder(settings.adapter_folder, adapter_bytes(pool, self._slots))
        self._freed, self._mixing, self._closed = asyncio.Event(), asyncio.Lock(), False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="remote-engine", daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        except BaseException:
            self.close()
            raise

    @property
    def device(self) -> str:
        """Device description for display."""
        return f"{self._server.model} at {self._server.url}"

    def state(self) -> dict[str, Any]:
        """Empty: the server does not report what determines its rounding."""
        return {}

    def particle(self, row: Row | None) -> Model:
        """The model made of the experts with the coefficients `row` [experts]; None is the base model."""
        if row is not None and self.pool is None:
            raise ValueError("an engine without experts answers as the base model only")
        if row is None and self.pool is not None:
            # An adapter of zeros, not the bare base model: vLLM's CPU build applies the last slot to requests without
            # an adapter if others in the batch have one.
            row = np.zeros(len(self.pool.names))
        return _Particle(self, None if row is None else np.array(row, dtype=np.float64))

    def close(self) -> None:
        """Cancels running requests, unloads all adapters and removes their files; idempotent."""
        if self._closed:
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._folder is not None:
            self._folder.close()

    async def submit(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs `work` in the engine's event loop."""
        if self._closed:
            raise RuntimeError("the engine was closed")
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), self._loop))
        except asyncio.CancelledError:
            if self._closed:
                raise RuntimeError("the engine was closed") from None
            raise

    # -- start and end -----------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Connects, and tests scoring and adapters, so that a missing capability fails before the search.

        Raises:
            UserError: The server cannot serve this model and these experts.
        """
        await self._server.greet(self._tokens.ids([PROBE])[0])
        if (context := self._server.context or self._tokens.context) < self._tokens.context:
            self.notes.append(f"{self._server.url} takes {context} tokens; the base model, {self._tokens.context}")
            self._tokens.context = context
        self._check = AdapterCheck(self._tokens)
        try:
            logprobs = await self._logprobs_of(self._server.model, self._check.prompts)
        except UserError as error:  # vLLM's CPU build fails here if the output layer has adapter slots
            raise UserError(f"{error}. vLLM is started as: {self._how_to_start()}") from error
        self._check.record_base(logprobs)
        try:
            await self._end_logprobs(None, [(self._check.ids, [[self._check.ids[-1]]])])
        except UserError:  # an older server version
            self._reads_ends = False
        try:
            if self.pool is not None:
                async with self._held(np.eye(len(self.pool.names))[0]) as adapter:
                    await self._name_of(adapter)
        except Refused as refused:
            raise UserError(self._no_adapters(refused)) from refused
        except UserError as error:
            raise UserError(f"{error}. vLLM is started as: {self._how_to_start()}") from error
        if self.pool is not None:
            await self._compare_with_local(self.pool)
        self.times.forward = self.times.mixing = 0.0  # startup time does not count

    async def _compare_with_local(self, pool: LoraPool) -> None:
        """Compares a long prompt's log-probabilities with the first expert with the local engine's.

        Raises:
            UserError: They differ although the base model's agree, or are not finite.
        """
        ids = self._check.long
        async with self._held(np.eye(len(pool.names))[0]) as adapter:
            (adapted,) = await self._logprobs_of(await self._name_of(adapter), [ids])
        check_finite_logprobs(adapted, self.name)
        (plain,) = await self._logprobs_of(self._server.model, [ids])
        dtype = getattr(pool.base.config, "dtype", None) or torch.float32
        try:
            own_plain, expected = await asyncio.to_thread(first_expert_logprobs, pool, ids, self._settings, dtype)
        except UserError as reason:
            self.notes.append(f"adapters are not compared with the local engine's: {reason}")
            return
        if (tolerance := base_tolerance(plain, own_plain)) is None:
            self.notes.append(
                f"adapters are not compared with the local engine's: the base model at {self._server.url} answers"
                f" otherwise than {self._base} (a quantised copy, or other weights)"
            )
            return
        check_like_local(adapted, expected, tolerance, self.name, pool.names[0])

    def _no_adapters(self, refused: Refused) -> str:
        folder = str(self._folder.path if self._folder else "")
        missing = refused.trouble.status in {404, 405} and folder not in str(refused)
        reason = f"there is no {self._server.url}/load_lora_adapter" if missing else str(refused)
        return (
            f"--engine remote: the server does not load LoRA adapters while it runs: {reason}. It must see the folder"
            f" {folder} (--adapter-folder names another) and be started as: {self._how_to_start()}"
        )

    def _how_to_start(self) -> str:
        serve = f"VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve {self._base}"
        if not isinstance(self.pool, LoraPool):
            return serve
        modules = " ".join(sorted({module.rsplit(".", 1)[-1] for module in self.pool.modules}))
        rank = lora_rank(self.pool.rank)
        return f"{serve} --enable-lora --max-loras {self._slots} --max-lora-rank {rank} --lora-target-modules {modules}"

    async def _end(self) -> None:
        jobs = asyncio.all_tasks() - {asyncio.current_task()}
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_default_executor()  # pending adapter writes
        folders = [one.folder for one in self._adapters.values()] + [one.replaces for one in self._adapters.values()]
        await asyncio.gather(*(self._server.unload(folder.name) for folder in folders if folder is not None))
        await self._server.close()

    # -- adapters ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _held(self, row: Row) -> AsyncIterator[_Adapter]:
        """Reserves a slot for a particle's adapter; waits if all are in use."""
        key, replaced = row.tobytes(), None
        while key not in self._adapters and len(self._adapters) >= self._slots:
            idle = next((k for k, one in self._adapters.items() if not one.users), None)
            if idle is not None:
                left = self._adapters.pop(idle)
                replaced = left.folder or left.replaces
                break
            self._freed.clear()
            await self._freed.wait()
        adapter = self._adapters.setdefault(key, _Adapter(row, replaced))
        self._adapters.move_to_end(key)
        adapter.users += 1
        try:
            yield adapter
        finally:
            adapter.users -= 1
            self._freed.set()

    async def _name_of(self, adapter: _Adapter) -> str:
        """The name of a particle's adapter on the server; loads it if necessary."""
        async with adapter.lock:
            if adapter.replaces is not None:
                await self._unload(adapter.replaces)
                adapter.replaces = None
            if not adapter.ready:
                await self._load(adapter)
            assert adapter.folder is not None  # noqa: S101 - set by `_load`
            return adapter.folder.name

    async def _load(self, adapter: _Adapter) -> None:
        """Writes, loads and checks an adapter, under a new name and from a new path each time."""
        assert isinstance(self.pool, LoraPool) and self._folder is not None  # noqa: S101 - rows require a pool
        async with self._mixing:
            start, busy = time.perf_counter(), self._server.busy
            adapter.folder = (await asyncio.to_thread(self._folder.write, self.pool, adapter.row[None]))[0]
            # Mixing counts only while the server is idle.
            self.times.mixing += max(0.0, time.perf_counter() - start - (self._server.busy - busy))
        try:
            await self._server.load(adapter.folder.name, adapter.folder)
            try:
                logprobs = (await self._logprobs_of(adapter.folder.name, [self._check.ids]))[0]
            except Refused as refused:
                raise self._forgetful() if refused.trouble.status == 404 else refused from None
            if not self._check.is_applied(logprobs, self.pool, adapter.row):
                raise UserError(
                    f"{self._server.url} loaded a particle's adapter and answers as the base model all the same: what"
                    " the adapter changes is not what the server's model has"
                )
            await self._server.check_base()
            if adapter.logprobs is not None and not self._check.is_same(logprobs, adapter.logprobs):
                raise self._server.other_base("an adapter that it loaded again answers otherwise than before")
            adapter.logprobs = logprobs
        except UserError:
            folder, adapter.folder = adapter.folder, None
            await self._unload(folder)
            raise
        adapter.ready = True

    async def _unload(self, folder: Path) -> None:
        await self._server.unload(folder.name)
        if self._folder is not None:
            self._folder.remove(folder)

    async def _logprobs_of(self, model: str, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probabilities of each prompt's tokens, starting at the second."""
        choices = await self._server.complete(model, prompts, **SCORED, return_token_ids=True)
        if not all(choice.get("token_ids") for choice in choices):
            raise UserError(f"{self._server.url} does not give the tokens of its answers; vLLM's server does")
        pairs = zip(prompts, choices, strict=True)
        return [self._logprobs(ids, choice)[1:] for ids, choice in pairs]

    # -- answers -----------------------------------------------------------------------------------------------------

    async def generate(
        self, row: Row | None, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]
    ) -> list[Response | Unscored]:
        """Greedy continuations, one per prompt."""
        encoded = self._tokens.prompts(prompts, max_tokens)
        options = {
            "max_tokens": max_tokens,
            "stop": list(stop),
            "stop_token_ids": self._tokens.ends,
            "return_token_ids": True,
        }
        choices = await self._ask(row, _chunks([one for one in encoded if not isinstance(one, Unscored)], options))
        answers = iter([self._tokens.answer(choice["token_ids"], max_tokens, stop) for choice in choices])
        return [one if isinstance(one, Unscored) else next(answers) for one in encoded]

    async def choice_logprobs(
        self, row: Row | None, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[ChoiceLogprobs | Unscored]:
        """Log-probabilities of all options; equal questions are sent once."""
        questions = self._tokens.questions(prompts, options)
        scorable = [one for one in questions if not isinstance(one, Unscored)]
        short = [(ids, choices) for ids, choices in scorable if self._reads_ends and _is_short(choices)]
        long = [(ids, choices) for ids, choices in scorable if not (self._reads_ends and _is_short(choices))]
        logprobs = {**await self._end_logprobs(row, short), **await self._sums(row, long)}
        return [
            one
            if isinstance(one, Unscored)
            else ChoiceLogprobs(
                tuple(logprobs[tuple(one[0]), tuple(choice)] for choice in one[1]),
                tuple(len(choice) for choice in one[1]),
            )
            for one in questions
        ]

    async def _end_logprobs(self, row: Row | None, questions: Sequence[Question]) -> dict[Pair, float]:
        """Log-probabilities of one-token options, read at the end of the prompt, which uses the prefix cache."""
        packs: list[tuple[list[Ids], set[int]]] = []
        distinct = dict.fromkeys((tuple(ids), frozenset(choice[0] for choice in choices)) for ids, choices in questions)
        for ids, tokens in distinct:
            if not packs or len(packs[-1][0]) == CHUNK or len(packs[-1][1] | tokens) > MOST_ENDS:
                packs.append(([], set()))
            packs[-1][0].append(ids)
            packs[-1][1].update(tokens)
        requests = [(prompts, {**ENDS, "logprob_token_ids": sorted(tokens)}) for prompts, tokens in packs]
        choices = await self._ask(row, requests)
        ends = [(ids, chosen) for prompts, chosen in packs for ids in prompts]
        results: dict[Pair, float] = {}
        for (ids, chosen), choice in zip(ends, choices, strict=True):
            with self._telling("the log-probabilities of chosen tokens"):
                logprobs = choice["logprobs"]["top_logprobs"][0]
                results |= {(ids, (token,)): float(logprobs[f"token_id:{token}"]) for token in chosen}
        return results

    async def _sums(self, row: Row | None, questions: Sequence[Question]) -> dict[Pair, float]:
        """Log-probabilities of options of any length, sent as part of the prompt."""
        pairs = dict.fromkeys((tuple(ids), tuple(choice)) for ids, choices in questions for choice in choices)
        texts = list(dict.fromkeys((*ids, *choice) for ids, choice in pairs))
        choices = await self._ask(row, _chunks(texts, SCORED))
        logprobs = {ids: self._logprobs(ids, choice) for ids, choice in zip(texts, choices, strict=True)}
        return {(ids, choice): sum(logprobs[*ids, *choice][len(ids) :]) for ids, choice in pairs}

    def _logprobs(self, ids: Sequence[int], choice: dict[str, Any]) -> list[float]:
        """Log-probability of each token of a prompt; 0 for the first, which has no prefix."""
        with self._telling("the log-probabilities of a prompt's tokens"):
            logprobs = choice["prompt_logprobs"]
            return [0.0] + [float(logprobs[k][str(ids[k])]["logprob"]) for k in range(1, len(ids))]

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, IndexError, ValueError):
            raise UserError(f"{self._server.url} does not give {what}; vLLM's server does") from None

    async def _ask(
        self, row: Row | None, requests: Sequence[tuple[Sequence[Sequence[int]], dict[str, Any]]]
    ) -> list[dict[str, Any]]:
        """The choices of all prompts of all requests, which run concurrently."""
        if row is None:
            return await _in_order([self._server.complete(self._server.model, p, **o) for p, o in requests])
        async with self._held(row) as adapter:
            return await _in_order([self._chunk(adapter, p, o) for p, o in requests])

    async def _chunk(
        self, adapter: _Adapter, prompts: Sequence[Sequence[int]], options: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """A chunk's choices; an adapter lost by a server restart is reloaded under a new name."""
        for _ in range(LOADS):
            name = await self._name_of(adapter)
            try:
                return await self._server.complete(name, prompts, **options)
            except Refused as refused:
                if refused.trouble.status != 404:
                    raise
            if adapter.folder is not None and adapter.folder.name == name:  # else another chunk has reloaded it
                forgotten, adapter.ready, adapter.folder = adapter.folder, False, None
                self.notes.append(f"{self._server.url} forgot a particle's adapter (a restart?); it is loaded again")
                await self._unload(forgotten)
        raise self._forgetful()

    def _forgetful(self) -> UserError:
        return UserError(
            f"{self._server.url} forgets adapters as soon as it has loaded them; where several API servers answer,"
            " start it with one"
        )


def _is_short(choices: Sequence[Sequence[int]]) -> bool:
    return all(len(choice) == 1 for choice in choices) and len({choice[0] for choice in choices}) <= MOST_ENDS


def _chunks(
    prompts: Sequence[Sequence[int]], options: dict[str, Any]
) -> list[tuple[Sequence[Sequence[int]], dict[str, Any]]]:
    return [(prompts[at : at + CHUNK], options) for at in range(0, len(prompts), CHUNK)]


async def _in_order(work: Sequence[Awaitable[list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Concatenated results of all work; if one fails, the others are cancelled."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return [choice for choices in await asyncio.gather(*tasks) for choice in choices]
    finally:
        for task in tasks:
            task.cancel()


class _Particle:
    """A handle: the engine and a row of coefficients."""

    def __init__(self, engine: RemoteEngine, row: Row | None) -> None:
        self._engine, self._row = engine, row

    async def generate(
        self, prompts: Sequence[str], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> list[Response | Unscored]:
        """Greedy continuations, one per prompt."""
        work = self._engine
        return await work.submit(lambda: work.generate(self._row, prompts, max_tokens, stop))

    async def choice_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[ChoiceLogprobs | Unscored]:
        """Log-probabilities of each prompt's options."""
        work = self._engine
        return await work.submit(lambda: work.choice_logprobs(self._row, prompts, options))
