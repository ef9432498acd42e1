"""The local engine: one resident transformers base model; particles are folded into its weights one after another.

A particle's mixture is folded into the weights (W + s BA, from a pristine copy), all its jobs are answered in
length-bucketed batches, and the next particle is folded. Only the memory-mapped experts are read from disk again, and
no adapter module slows the forward pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import GenerationConfig

from harness.engines.base import Times, engines
from harness.engines.batching import Batch, pack
from harness.engines.model_config import local_window, scaled_logits, switch_length
from harness.engines.model_loading import load_base
from harness.engines.settings import EngineSettings
from harness.engines.tokenizer import Tokens
from harness.experts.lora_pool import LoraPool
from harness.experts.pool import Pool
from utilities.core import ChoiceLogprobs, Model, Response, Unscored
from utilities.errors import UserError

__all__ = ["LocalEngine"]

Row = NDArray[np.float64]
T = TypeVar("T")
PLANS_KEPT = 64
"""Prompt sets whose batches are cached: every particle is evaluated on the same ones."""

MIXED_TEST = 120
"""Difference in tokens between the two prompts of the test for batches of mixed lengths."""

LIKELY = 5
"""Tokens whose log-probabilities are compared by the test of positions."""

HALF_FOLDED = b""
"""Key of no particle: the state of the weights while folding, and after an error in it."""


@dataclass
class _Job:
    key: bytes | None
    row: Row | None
    work: Callable[[], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


@dataclass(frozen=True)
class _Plan:
    """Batches of a prompt set."""

    batches: list[Batch]
    unscored: dict[int, Unscored]
    """Questions that cannot be scored, by position."""
    split: dict[int, list[int]]
    """Questions whose options are computed separately: position to the numbers of the options in the batches."""


@engines.register("local")
class LocalEngine:
    """Answers with transformers on the CPU or a GPU of this machine.

    Jobs of many particles may wait at the same time; one thread runs them, those of the folded particle first.

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
        self.pool, self.times = pool, Times()
        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device cuda: this machine has no GPU that torch can use; --device cpu works everywhere")
        self._device = torch.device(device)
        dtype = {"auto": torch.bfloat16 if device == "cuda" else torch.float32}.get(settings.dtype)
        dtype = dtype or getattr(torch, settings.dtype)
        self.model, self.notes = load_base(base, pool, dtype, settings)
        self.tokens = Tokens(base, settings.max_model_len, trust_remote_code=settings.trust_remote_code)
        self.model.to(self._device).eval().requires_grad_(False)
        # Removes defaults of `generate` that would change greedy decoding, such as a repetition penalty.
        defaults = self.model.generation_config
        self.model.generation_config = GenerationConfig(
            eos_token_id=defaults.eos_token_id, pad_token_id=defaults.pad_token_id
        )
        self.tokenizer = self.tokens.tokenizer
        self._untie()
        self._parameters = dict(self.model.named_parameters(remove_duplicate=False)) | dict(self.model.named_buffers())
        self._pristine: dict[str, torch.Tensor] = {}
        self._folded: bytes | None = None
        self._batch_tokens = int((state or {}).get("batch_tokens") or settings.batch_tokens or self._fitting_batch())
        self._aligned = bool(state) and "padding" not in (state or {})
        """Whether batches are those of versions that padded prompts on the left, whose run is continued."""
        self._positions = self._takes_positions()
        self._packs, self._direct = self._positions and self._can_pack(), self._has_plain_head()
        self._window = local_window(self.model.config) or self.tokens.context
        self._mixes_to = self._mixed_lengths() if self._positions else 0
        self._plans: OrderedDict[tuple[int, int], tuple[Any, Any, _Plan]] = OrderedDict()
        self._jobs: list[_Job] = []
        self._ready = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="local-engine", daemon=True)
        self._thread.start()

    @property
    def device(self) -> str:
        """Device description for display."""
        return str(self._device)

    def state(self) -> dict[str, Any]:
        """Size and padding of the batches, which change rounding in the last bit."""
        return {"batch_tokens": self._batch_tokens, **({} if self._aligned else {"padding": "right"})}

    def particle(self, row: Row | None) -> Model:
        """The model made of the experts with the coefficients `row` [experts]; None is the base model."""
        if row is not None and self.pool is None:
            raise ValueError("an engine without experts answers as the base model only")
        return _Particle(self, None if row is None else np.asarray(row, dtype=np.float64))

    def close(self) -> None:
        """Stops the thread and frees the model."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join()
        self._parameters, self._pristine, self.model = {}, {}, None
        self._plans.clear()
        gc.collect()

    # -- one thread runs all jobs ------------------------------------------------------------------------------------

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
        """The error; out of memory, which is raised only at the smallest batch size, as a UserError."""
        if not _out_of_memory(error):
            return error
        smaller = "" if self.model.dtype.itemsize < 4 else " --dtype bfloat16,"
        failure = UserError(
            f"out of memory on {self.device}, even with a single question at a time;"
            f" try a smaller model,{smaller} or shorter prompts"
        )
        failure.__cause__ = error
        return failure

    def _stop_if_closed(self) -> None:
        """Called between batches, so that closing the engine (Ctrl-C) aborts a running job."""
        if self._closed:
            raise RuntimeError("the engine was closed")

    @staticmethod
    def _answer(job: _Job, setter: Callable[[Any], None], value: Any) -> None:
        def deliver() -> None:
            if not job.future.done():
                setter(value)

        with contextlib.suppress(RuntimeError):  # the caller's loop is closed
            job.loop.call_soon_threadsafe(deliver)

    def _untie(self) -> None:
        """Unties the weights of adapted modules: a LoRA of the output layer must not change the tied embedding."""
        if not isinstance(self.pool, LoraPool):
            return
        count = Counter(id(p) for _, p in self.model.named_parameters(remove_duplicate=False))
        for path in self.pool.scaling:
            module = self.model.get_submodule(path)
            if count[id(module.weight)] > 1:
                module.weight = nn.Parameter(module.weight.clone(), requires_grad=False)

    # -- folding -----------------------------------------------------------------------------------------------------

    def _fold(self, key: bytes | None, row: Row | None) -> None:
        """Folds the particle `row` into the resident model, starting from a pristine copy of the weights."""
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
            if module in pool.transposed:
                A, B = B.T, A.T
            parameter.copy_(torch.addmm(weight.float(), B, A, alpha=pool.scaling[module]))

    def folded_copy(self) -> Any:
        """A copy of the folded model that shares all weights that folding leaves alone; runs in the engine's thread."""
        folded = self.pool.modules if isinstance(self.pool, LoraPool) else []
        changing = {f"{module}.weight" for module in folded}
        shared = {id(weight): weight for name, weight in self._parameters.items() if name not in changing}
        return deepcopy(self.model, shared)

    @property
    def counts_from_zero(self) -> bool:
        """Whether the model may be passed positions that are counted from 0."""
        return self._positions

    def mixes(self, length: int) -> bool:
        """Whether sequences of up to `length` tokens may be answered beside shorter ones."""
        return length <= self._mixes_to

    @property
    def batch_tokens(self) -> int:
        """Tokens of one batch."""
        return self._batch_tokens

    # -- option log-likelihoods --------------------------------------------------------------------------------------

    def choice_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[ChoiceLogprobs | Unscored]:
        """Log-probabilities of all options in the folded model; runs in the engine's thread."""
        plan = self._plan(prompts, options)
        answers: dict[int, ChoiceLogprobs | Unscored] = dict(plan.unscored)
        queue = list(plan.batches)
        while queue:
            self._stop_if_closed()
            batch = queue.pop(0)
            try:
                start = time.perf_counter()
                logprobs = batch.logprobs(self.model, self._device, direct=self._direct, positions=self._positions)
                self.times.forward += time.perf_counter() - start
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error) or len(batch.items) == 1:
                    raise
                self._shrink(batch.tokens)
                queue = [*batch.halves(), *queue]
                continue
            answers.update(zip(batch.items, logprobs, strict=True))
        for at, parts in plan.split.items():
            each = [one for part in parts if isinstance(one := answers.pop(part), ChoiceLogprobs)]
            answers[at] = ChoiceLogprobs(tuple(one.logprobs[0] for one in each), tuple(one.tokens[0] for one in each))
        return [answers[at] for at in range(len(prompts))]

    def _plan(self, prompts: Sequence[str], options: Sequence[Sequence[str]]) -> _Plan:
        """Tokenised, length-bucketed batches, cached per prompt set."""
        key = (id(prompts), id(options))
        cached = self._plans.get(key)
        if cached is not None and cached[0] is prompts and cached[1] is options:
            self._plans.move_to_end(key)
            return cached[2]
        questions = self.tokens.questions(prompts, options)
        unscored = {k: one for k, one in enumerate(questions) if isinstance(one, Unscored)}
        prompt_ids = [[] if isinstance(one, Unscored) else one[0] for one in questions]
        option_ids = [[] if isinstance(one, Unscored) else one[1] for one in questions]
        shared, separate = list[int](), list[int]()
        alone: dict[tuple[int, int], list[int]] = {}
        split: dict[int, list[int]] = {}
        for k in range(len(questions)):
            if k in unscored:
                continue
            length = len(prompt_ids[k]) + max(map(len, option_ids[k]))
            if length <= self._mixes_to:
                (shared if self._packs and length <= self._window else separate).append(k)
                continue
            split[k] = []  # each option becomes a separate question, batched with others of equal length
            for option in option_ids[k]:
                alone.setdefault((len(prompt_ids[k]), len(option)), []).append(len(prompt_ids))
                split[k].append(len(prompt_ids))
                prompt_ids.append(prompt_ids[k])
                option_ids.append([option])
        groups = [(shared, True), (separate, False), *((group, True) for group in alone.values())]
        batches = [
            batch
            for items, way in groups
            for batch in pack(
                prompt_ids, option_ids, items, self._batch_tokens, shared_prefix=way, aligned=self._aligned
            )
        ]
        plan = _Plan(batches, unscored, split)
        self._plans[key] = (prompts, options, plan)
        while len(self._plans) > PLANS_KEPT:
            self._plans.popitem(last=False)
        return plan

    def _takes_positions(self) -> bool:
        """Whether the model counts positions from 0, so that it may be passed a batch's positions.

        Tested with the most likely tokens in place of a text's last one. RoBERTa, for example, counts otherwise.

        Raises:
            UserError: Their probabilities depend on the last token.
        """
        ids = self.tokens.ids(["A quick test of the positions."])[0]
        with torch.inference_mode():
            logits = self.model(torch.tensor([ids], device=self._device)).logits[0, -2].float()
        expected, likely = logits.log_softmax(dim=-1).topk(LIKELY)
        (batch,) = pack([ids[:-1]], [[[token] for token in likely.tolist()]], [0], 1 << 40, shared_prefix=True)

        def difference(positions: bool) -> float:
            try:
                with torch.inference_mode():
                    (answer,) = batch.logprobs(self.model, self._device, positions=positions)
            except Exception:  # any error of a model that does not accept these positions
                return math.inf
            return float(np.abs(np.array(answer.logprobs) - expected.cpu().numpy()).max())

        own, counted = difference(False), difference(True)
        if min(own, counted) > 5 * self._rounding:
            raise UserError(
                f"--engine local: {type(self.model).__name__} gives a text's next token another probability if more"
                " tokens follow it: it is no causal language model"
            )
        if counted <= max(self._rounding, 2 * own):
            return True
        self.notes.append("this model counts positions in its own way; lengths are not mixed")
        return False

    def _can_pack(self) -> bool:
        """Whether the model supports a custom attention mask, so that all options of a question share one sequence.

        Tested, because models that ignore the mask (state-space layers, for example) would compute wrong values.
        """
        ids = self.tokens.ids(["A quick test of the mask."])[0]
        options = self.tokens.ids([" one and a half", " two hundred and three"], add_special_tokens=False)
        try:
            packed, plain = (self._try([ids], [options], shared_prefix=way) for way in (True, False))
        except Exception:  # any error of a model that does not support the mask
            return False
        return self._same(packed[0], plain[0])

    def _mixed_lengths(self) -> int:
        """Maximum tokens of sequences in batches of mixed lengths; longer sequences are batched by equal length.

        Tested with a short prompt alone and next to a long one, padded on the left as generation needs it; recurrent
        states, for example, may include padding.
        """
        switch = switch_length(self.model.config)
        limit = self.tokens.context if switch is None else min(switch, self.tokens.context)
        ids = self.tokens.ids(["A quick test of the batch."])[0]
        option = self.tokens.ids([" one and a half"], add_special_tokens=False)
        room = max(1, min(MIXED_TEST, limit - len(ids) - len(option[0])))
        long = (ids * (1 + room // len(ids)))[: len(ids) + room]
        alone, beside = (
            self._try(prompts, [option] * len(prompts), shared_prefix=True, aligned=True)[0]
            for prompts in ([ids], [ids, long])
        )
        if not self._same(alone, beside):
            self.notes.append("an answer of this model depends on the lengths in its batch; lengths are not mixed")
            return 0
        if switch is None or limit == self.tokens.context:
            return limit
        self.notes.append(
            f"this model's rope changes beyond {switch} tokens; longer sequences are not mixed with others"
        )
        return limit

    def _try(
        self,
        prompts: Sequence[list[int]],
        options: Sequence[list[list[int]]],
        *,
        shared_prefix: bool,
        aligned: bool = False,
    ) -> list[ChoiceLogprobs]:
        """Log-probabilities of all questions in one batch."""
        (batch,) = pack(prompts, options, range(len(prompts)), 1 << 40, shared_prefix=shared_prefix, aligned=aligned)
        with torch.inference_mode():
            answers = batch.logprobs(self.model, self._device)
        return [answer for _, answer in sorted(zip(batch.items, answers, strict=True))]

    def _same(self, one: ChoiceLogprobs, other: ChoiceLogprobs) -> bool:
        """Whether log-probabilities differ by rounding at most."""
        return bool(np.allclose(one.logprobs, other.logprobs, atol=self._rounding, rtol=0.0))

    @property
    def _rounding(self) -> float:
        """Difference of a token's log-probabilities in two batches that rounding can cause."""
        return 1e-3 if self.model.dtype == torch.float32 else 0.1

    def _has_plain_head(self) -> bool:
        """Whether logits are the output layer on the last hidden states and nothing else (no scaling, no soft cap)."""
        if scaled_logits(self.model.config):
            return False  # the test below would miss it with small logits
        ids = torch.tensor(self.tokens.ids(["A quick test of the head."]), device=self._device)
        with torch.inference_mode():
            try:
                hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
                return torch.equal(self.model.get_output_embeddings()(hidden), self.model(ids, use_cache=False).logits)
            except Exception:  # no such layer, or another output format
                return False

    def prompt_logprobs(self, ids: Sequence[int]) -> list[float]:
        """Log-probabilities of a prompt's tokens, starting at the second; runs in the engine's thread."""
        tokens = torch.tensor([ids], device=self._device)
        logprobs = self.model(tokens).logits[0, :-1].float().log_softmax(dim=-1)
        result: list[float] = logprobs.gather(1, tokens[0, 1:, None])[:, 0].tolist()
        return result

    # -- generation --------------------------------------------------------------------------------------------------

    def generate(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[Response | Unscored]:
        """Greedy continuations in the folded model; runs in the engine's thread."""
        encoded = self.tokens.prompts(prompts, max_tokens)
        answers: list[Response | Unscored | None] = [one if isinstance(one, Unscored) else None for one in encoded]
        ids = {k: one for k, one in enumerate(encoded) if not isinstance(one, Unscored)}
        fitting = list(ids)
        fitting.sort(key=lambda k: len(ids[k]))
        while fitting:
            self._stop_if_closed()
            longest = len(ids[fitting[-1]]) + max_tokens
            size = max(1, self._batch_tokens // longest)
            if longest > self._mixes_to:
                size = min(size, sum(len(ids[k]) == len(ids[fitting[-1]]) for k in fitting))
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
        pad = self.tokens.pad
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
        """Tokens per batch, sized to a CPU's caches or a GPU's free memory.

        A fixed rule, not a timing: a batch size that varies between runs would change rounding.
        """
        config = self.model.config.get_text_config()
        hidden, vocabulary = int(config.hidden_size), int(config.vocab_size)
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._device)
            per_token = 40 * hidden + 6 * vocabulary // 4  # activations of one layer, and logits of the answer tokens
            return max(1024, min(131072, int(0.5 * free / per_token) // 1024 * 1024))
        return max(512, min(8192, (3 << 17) // hidden))

    def _shrink(self, tokens: int) -> None:
        """Halves the limit after a batch of `tokens` ran out of memory; repeated failures of one plan halve it once."""
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
        self, prompts: Sequence[str], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> list[Response | Unscored]:
        """Greedy continuations, one per prompt."""
        work = self._engine
        return await work.submit(self._row, lambda: work.generate(prompts, max_tokens, stop))

    async def choice_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[ChoiceLogprobs | Unscored]:
        """Log-probabilities of each prompt's options."""
        work = self._engine
        return await work.submit(self._row, lambda: work.choice_logprobs(prompts, options))
