"""The local engine: one resident base model through transformers, particles folded in and out of its weights.

For a particle its mixture is folded into the weights, W + s BA from a pristine copy, everything that was asked of it is
answered in length-bucketed batches, and the next one is folded. Nothing is read from disk again but the memory-mapped
experts, and no adapter module slows the forward pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils.logging import disable_progress_bar

from harness.engines.base import Times, engines
from harness.engines.batching import Batch, pack
from harness.engines.settings import EngineSettings
from harness.engines.tokenizer import Tokens
from harness.experts.pool import LoraPool, Pool
from utilities.core import ChoiceLogprobs, Model, Response, Unscored
from utilities.errors import UserError, first_line

__all__ = ["LocalEngine"]

Row = NDArray[np.float64]
T = TypeVar("T")
PLANS_KEPT = 64
"""Prepared prompt sets that are remembered: every particle is asked the same ones."""

HALF_FOLDED = b""
"""Key of no particle: what is folded after an error in the middle of folding."""


@dataclass
class _Job:
    key: bytes | None
    row: Row | None
    work: Callable[[], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


@engines.register("local")
class LocalEngine:
    """Answers with transformers on the CPU or a GPU of this machine.

    Jobs of many particles may wait at the same time; one thread does them, those of the folded particle first.

    Args:
        base: Folder of the base model and its tokenizer.
        pool: The experts; None for the base model alone.
        settings: Device, precision, batch size.
        state: `state()` of an earlier engine, to repeat its batches exactly.

    Raises:
        UserError: The base model cannot be loaded.
    """

    name = "local"

    def __init__(
        self, base: Path, pool: Pool | None, settings: EngineSettings, state: dict[str, Any] | None = None
    ) -> None:
        self.pool, self.times, self.notes = pool, Times(), list[str]()
        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device cuda: this machine has no GPU that torch can use; --device cpu works everywhere")
        self._device = torch.device(device)
        dtype = {"auto": torch.bfloat16 if device == "cuda" else torch.float32}.get(settings.dtype)
        dtype = dtype or getattr(torch, settings.dtype)
        disable_progress_bar()  # of reading weights from disk; downloads show their own
        try:
            self.tokens = Tokens(base, settings.max_model_len, trust_remote_code=settings.trust_remote_code)
            self.model = AutoModelForCausalLM.from_pretrained(
                base,
                dtype=dtype,
                use_safetensors=True,
                attn_implementation="sdpa",
                trust_remote_code=settings.trust_remote_code,
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            first = first_line(error)
            raise UserError(f"{base}: the base model cannot be loaded: {first}") from error
        self.model.to(self._device).eval().requires_grad_(False)
        # Greedy decoding is greedy: `generate` takes what it is not told (a penalty on repetition, say) from here.
        told = self.model.generation_config
        self.model.generation_config = GenerationConfig(eos_token_id=told.eos_token_id, pad_token_id=told.pad_token_id)
        self.tokenizer = self.tokens.tokenizer
        self._untie()
        self._parameters = dict(self.model.named_parameters(remove_duplicate=False))
        self._pristine: dict[str, torch.Tensor] = {}
        self._folded: bytes | None = None
        self._batch_tokens = int((state or {}).get("batch_tokens") or settings.batch_tokens or self._fitting_batch())
        self._packs, self._direct = self._can_pack(), self._has_plain_head()
        self._plans: OrderedDict[tuple[int, int], tuple[Any, Any, list[Batch], list[Unscored | None]]] = OrderedDict()
        self._jobs: list[_Job] = []
        self._ready = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="local-engine", daemon=True)
        self._thread.start()

    @property
    def device(self) -> str:
        """Where it computes, for people."""
        return str(self._device)

    def state(self) -> dict[str, Any]:
        """The batch size that was found: other batches round differently in the last bit."""
        return {"batch_tokens": self._batch_tokens}

    def particle(self, row: Row | None) -> Model:
        """The model made of the experts with the coefficients `row` [experts]; None is the base model."""
        if row is not None and self.pool is None:
            raise ValueError("an engine without experts answers as the base model only")
        return _Particle(self, None if row is None else np.asarray(row, dtype=np.float64))

    def close(self) -> None:
        """Ends the thread and frees the model."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join()
        self._parameters, self._pristine, self.model = {}, {}, None
        self._plans.clear()
        gc.collect()

    # -- one thread does all jobs ------------------------------------------------------------------------------------

    async def submit(self, row: Row | None, work: Callable[[], T]) -> T:
        """Runs `work` in the engine's thread while the particle `row` is folded in."""
        loop = asyncio.get_running_loop()
        job = _Job(None if row is None else row.tobytes(), row, work, loop.create_future(), loop)
        with self._ready:
            self._stop_if_closed()
            self._jobs.append(job)
            self._ready.notify()
        result: T = await job.future
        return result

    def _serve(self) -> None:
        while True:
            with self._ready:
                while not self._jobs and not self._closed:
                    self._ready.wait()
                if self._closed:
                    for job in self._jobs:
                        self._answer(job, job.future.set_exception, RuntimeError("the engine was closed"))
                    return
                at = next((k for k, job in enumerate(self._jobs) if job.key == self._folded), 0)
                job = self._jobs.pop(at)
            if job.future.cancelled():
                continue
            try:
                with torch.inference_mode():
                    self._fold(job.key, job.row)
                    result = job.work()
            except BaseException as error:
                self._answer(job, job.future.set_exception, self._in_words(error))
            else:
                self._answer(job, job.future.set_result, result)

    def _in_words(self, error: BaseException) -> BaseException:
        """Out of memory comes this far only when there is no smaller batch to try: the user's to mend."""
        if not _out_of_memory(error):
            return error
        smaller = "" if self.model.dtype.itemsize < 4 else " --dtype bfloat16,"
        told = UserError(
            f"out of memory on {self.device}, even with a single question at a time;"
            f" try a smaller model,{smaller} or shorter prompts"
        )
        told.__cause__ = error
        return told

    def _stop_if_closed(self) -> None:
        """Between two batches: nobody waits for the rest of a job when the engine is being closed (Ctrl-C)."""
        if self._closed:
            raise RuntimeError("the engine was closed")

    @staticmethod
    def _answer(job: _Job, setter: Callable[[Any], None], value: Any) -> None:
        def deliver() -> None:
            if not job.future.done():
                setter(value)

        with contextlib.suppress(RuntimeError):  # the loop that asked is closed: nobody waits
            job.loop.call_soon_threadsafe(deliver)

    def _untie(self) -> None:
        """Gives adapted modules weights of their own: a LoRA of an output layer does not change the tied embedding."""
        if not isinstance(self.pool, LoraPool):
            return
        count = Counter(id(p) for _, p in self.model.named_parameters(remove_duplicate=False))
        for path in self.pool.scaling:
            module = self.model.get_submodule(path)
            if count[id(module.weight)] > 1:
                module.weight = nn.Parameter(module.weight.clone(), requires_grad=False)

    # -- particles in and out ----------------------------------------------------------------------------------------

    def _fold(self, key: bytes | None, row: Row | None) -> None:
        """Makes the resident model the particle `row`; the weights it replaces come from a pristine copy."""
        if key == self._folded:
            return
        start = time.perf_counter()
        self._folded = HALF_FOLDED
        if row is None or self.pool is None:
            for name, weight in self._pristine.items():
                self._parameters[name].copy_(weight)
        elif isinstance(self.pool, LoraPool):
            self._fold_lora(self.pool, torch.from_numpy(row).to(torch.float32))
        else:
            for name, tensor in self.pool.mix(torch.from_numpy(row).to(torch.float32)[None]):
                parameter = self._parameters[name]
                self._pristine.setdefault(name, parameter.clone())
                parameter.copy_(tensor[0])
        self._folded = key
        self.times.mixing += time.perf_counter() - start

    def _fold_lora(self, pool: LoraPool, row: torch.Tensor) -> None:
        halves: dict[str, torch.Tensor] = {}
        for name, tensor in pool.mix(row[None]):
            module, letter = name.rsplit(".", 1)
            if module not in halves:
                halves[module] = tensor[0].to(self._device)
                continue
            other = halves.pop(module)
            A, B = (tensor[0].to(self._device), other) if letter == "A" else (other, tensor[0].to(self._device))
            parameter = self._parameters[f"{module}.weight"]
            weight = self._pristine.setdefault(f"{module}.weight", parameter.clone())
            parameter.copy_(torch.addmm(weight.float(), B, A, alpha=pool.scaling[module]))

    # -- option log-likelihoods --------------------------------------------------------------------------------------

    def choice_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[ChoiceLogprobs | Unscored]:
        """Log-probabilities of all options in the folded model; runs in the engine's thread."""
        batches, unscored = self._plan(prompts, options)
        answers: list[ChoiceLogprobs | Unscored | None] = list(unscored)
        queue = list(batches)
        while queue:
            self._stop_if_closed()
            batch = queue.pop(0)
            try:
                start = time.perf_counter()
                logprobs = batch.logprobs(self.model, self._device, direct=self._direct)
                self.times.forward += time.perf_counter() - start
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error) or len(batch.items) == 1:
                    raise
                self._shrink(batch.tokens)
                queue = [*batch.halves(), *queue]
                continue
            for at, answer in zip(batch.items, logprobs, strict=True):
                answers[at] = answer
        return [answer for answer in answers if answer is not None]

    def _plan(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> tuple[list[Batch], list[Unscored | None]]:
        """Tokenized, bucketed batches; made once for a prompt set that is asked of every particle."""
        key = (id(prompts), id(options))
        known = self._plans.get(key)
        if known is not None and known[0] is prompts and known[1] is options:
            self._plans.move_to_end(key)
            return known[2], known[3]
        questions = self.tokens.questions(prompts, options)
        unscored = [question if isinstance(question, Unscored) else None for question in questions]
        usable = [k for k, problem in enumerate(unscored) if problem is None]
        prompt_ids = [[] if isinstance(question, Unscored) else question[0] for question in questions]
        option_ids = [[] if isinstance(question, Unscored) else question[1] for question in questions]
        batches = pack(prompt_ids, option_ids, usable, self._batch_tokens, shared_prefix=self._packs)
        self._plans[key] = (prompts, options, batches, unscored)
        while len(self._plans) > PLANS_KEPT:
            self._plans.popitem(last=False)
        return batches, unscored

    def _can_pack(self) -> bool:
        """Whether the model takes an attention mask of its own, so that all options of a question share one sequence.

        Models that ignore it (state-space layers, for example) would answer, silently, something else; so it is tried.
        """
        config = self.model.config
        if (getattr(config, "sliding_window", None) or self.tokens.context) < self.tokens.context:
            return False  # a mask of one's own replaces the window, which a short test would not show
        ids = self.tokenizer("A quick test of the mask.")["input_ids"]
        texts = (" one and a half", " two hundred and three")
        options = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        with torch.inference_mode():
            try:
                packed, plain = (
                    pack([ids], [options], [0], self._batch_tokens, shared_prefix=way)[0].logprobs(
                        self.model, self._device
                    )
                    for way in (True, False)
                )
            except Exception:  # whatever a model says to a mask that it does not know
                return False
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.1
        return bool(np.allclose(packed[0].logprobs, plain[0].logprobs, atol=tolerance, rtol=0.0))

    def _has_plain_head(self) -> bool:
        """Whether logits are the output layer on the last hidden states and nothing else (no scaling, no soft cap)."""
        ids = torch.tensor([self.tokenizer("A quick test of the head.")["input_ids"]], device=self._device)
        with torch.inference_mode():
            try:
                hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
                return torch.equal(self.model.get_output_embeddings()(hidden), self.model(ids, use_cache=False).logits)
            except Exception:  # no such layer, or a base model that answers in its own way
                return False

    # -- generation --------------------------------------------------------------------------------------------------

    def generate(
        self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str], chat: bool = False
    ) -> list[Response | Unscored]:
        """Greedy continuations in the folded model; runs in the engine's thread."""
        asked = self.tokens.prompts(prompts, max_tokens, chat)
        answers: list[Response | Unscored | None] = [one if isinstance(one, Unscored) else None for one in asked]
        ids = {k: one for k, one in enumerate(asked) if not isinstance(one, Unscored)}
        fitting = list(ids)
        fitting.sort(key=lambda k: len(ids[k]))
        while fitting:
            self._stop_if_closed()
            longest = len(ids[fitting[-1]]) + max_tokens
            size = max(1, self._batch_tokens // longest)
            batch, fitting = fitting[-size:], fitting[:-size]
            try:
                for k, answer in zip(
                    batch, self._generate_batch([ids[k] for k in batch], max_tokens, stop), strict=True
                ):
                    answers[k] = answer
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error) or len(batch) == 1:
                    raise
                self._shrink(len(batch) * longest)
                fitting += batch
        return [answer for answer in answers if answer is not None]

    def _generate_batch(self, ids: Sequence[list[int]], max_tokens: int, stop: Sequence[str]) -> list[Response]:
        width = max(len(one) for one in ids)
        pad = self.tokenizer.pad_token_id
        tokens = torch.tensor([[pad] * (width - len(one)) + one for one in ids], device=self._device)
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in ids], device=self._device)
        start = time.perf_counter()
        out = self.model.generate(
            input_ids=tokens,
            attention_mask=mask,
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=self.tokens.ends or None,
            pad_token_id=pad,
            stop_strings=list(stop) or None,
            tokenizer=self.tokenizer,
        )[:, width:].tolist()
        self.times.forward += time.perf_counter() - start
        return [self.tokens.answer(new, max_tokens, stop) for new in out]

    # -- batch size --------------------------------------------------------------------------------------------------

    def _fitting_batch(self) -> int:
        """Tokens of a batch: as many as keep a CPU's caches or a GPU's free memory busy but not full.

        A fixed rule rather than a timing: a batch size that depends on the moment would change rounding between runs.
        """
        config = self.model.config
        hidden, vocabulary = int(config.hidden_size), int(config.vocab_size)
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._device)
            per_token = 40 * hidden + 6 * vocabulary // 4  # activations of one layer, and logits of the answer tokens
            return max(1024, min(131072, int(0.5 * free / per_token) // 1024 * 1024))
        return max(512, min(8192, (3 << 17) // hidden))

    def _shrink(self, tokens: int) -> None:
        """A batch of so many tokens was too large; of several of one plan only the first halves the limit."""
        self._batch_tokens = max(1, min(self._batch_tokens, tokens // 2))
        self._plans.clear()
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


class _Particle:
    """A handle: the engine and a row of coefficients."""

    def __init__(self, engine: LocalEngine, row: Row | None) -> None:
        self._engine, self._row = engine, row

    async def generate(
        self, prompts: Sequence[str], *, max_tokens: int, stop: Sequence[str] = (), chat: bool = False
    ) -> list[Response | Unscored]:
        """Greedy continuations, one a prompt."""
        work = self._engine
        return await work.submit(self._row, lambda: work.generate(prompts, max_tokens, stop, chat))

    async def choice_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[ChoiceLogprobs | Unscored]:
        """Log-probabilities of each prompt's options."""
        work = self._engine
        return await work.submit(self._row, lambda: work.choice_logprobs(prompts, options))
