"""A causal language model on this machine that answers many chat requests at once; what `judge_server` serves.

Requests that wait at the same time are decoded as one batch. A batch is only a way to be faster: rows are padded on the
left under an attention mask, with positions counted from their own first token, so an answer does not depend on its
neighbours: not at all where a small model computes in float64, and beyond the last bits of float32 in a larger one.
"""

from __future__ import annotations

import queue
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jinja2 import TemplateError
from peft import PeftModel
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from harness.experts.pool import resolve, weight_files
from utilities.errors import UserError, first_line

__all__ = ["Completion", "LocalJudge", "PromptError", "Question", "Row", "Token"]

BATCH_TOKENS = 8192
"""Tokens of the prompts of one batch, padding included; a longer prompt is a batch of its own."""

GATHER = 0.003
"""Seconds without a further request after which a batch begins: clients that ask at once do not arrive at once."""

EXACT = 50_000_000
"""Parameters up to which a model computes in float64: which questions meet in a batch is chance, and a run that was
interrupted is to end with the very numbers of one that was not."""

GREEDY = 1e-5
"""Temperatures below it are 0: float32 cannot divide by less."""

LEAST_LOGPROB = -9999.0
"""What stands for minus infinity, which JSON cannot hold; the hosted protocol's own number."""


class PromptError(ValueError):
    """Messages that this model cannot be asked; `code` is the hosted protocol's name for it, where it has one."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the model."""

    messages: Sequence[tuple[str, str]]
    """Roles and contents."""
    max_tokens: int | None = None
    """None: up to the end of the context."""
    temperature: float = 0.0
    seed: int | None = None
    """Of the sampling at a temperature above 0; None is another one each time."""
    stop: Sequence[str] = ()
    top: int | None = None
    """How many most likely tokens are reported at each position; None reports nothing."""


class Token(NamedTuple):
    """A generated token, its log-probability under the model itself (at temperature 1), and the likeliest tokens."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model answered."""

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    tokens: tuple[Token, ...] | None
    """Where log-probabilities were asked for."""


@dataclass(slots=True)
class Row:
    """A question on its way through a batch."""

    question: Question
    ids: list[int]
    limit: int
    answer: Future[Completion] = field(default_factory=Future)
    random: torch.Generator | None = None
    new: list[int] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)


class LocalJudge:
    """A model, with an adapter merged into it where one is given, and the thread that runs it, on the CPU.

    Args:
        model: Folder or hub id of the base model and its tokenizer; weights from safetensors only.
        adapter: Folder of a LoRA adapter of it.
        threads: Threads of torch; None leaves it to torch.

    Raises:
        UserError: One of them cannot be loaded, or they do not fit each other.
    """

    def __init__(self, model: str | Path, adapter: Path | None = None, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        disable_progress_bar()
        folder = resolve(str(model))
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            self.model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, attn_implementation="sdpa"
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            raise UserError(f"{model}: the model cannot be loaded: {first_line(error)}") from error
        if adapter is not None:
            self.model = _merged(self.model, adapter)
        self.model.eval().requires_grad_(False)
        if self.model.num_parameters() <= EXACT:
            self.model.double()
        if not all(torch.isfinite(weight).all() for weight in self.model.parameters()):
            raise UserError(f"{adapter or model}: the weights hold NaN or infinite values")
        positions = getattr(self.model.config, "max_position_embeddings", None) or 2048
        self.context = int(min(positions, self.tokenizer.model_max_length))
        self._ends = self._end_tokens()
        marks = {*self.tokenizer.all_special_tokens}
        marks |= {str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        longest_first = sorted((mark for mark in marks if len(mark) > 1), key=len, reverse=True)
        self._marks = re.compile("|".join(re.escape(mark) for mark in longest_first) or "(?!)")
        self._tokenizing = threading.Lock()  # some tokenizers refuse a second thread
        self._door = threading.Lock()
        self._waiting: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self.closed = False
        """Whether `close` was called."""
        self._thread = threading.Thread(target=self._work, name="local-judge", daemon=True)
        self._thread.start()

    def submit(self, question: Question) -> Future[Completion]:
        """Puts a question into the next batch; any thread may.

        Raises:
            PromptError: The messages are longer than the context, or the model's chat template does not take them.
            RuntimeError: The judge was closed.
        """
        row = self.row(question)
        with self._door:
            if self.closed:
                raise RuntimeError("the judge was closed")
            self._waiting.put(row)
        return row.answer

    @property
    def waiting(self) -> int:
        """Questions that no batch has taken yet."""
        return self._waiting.qsize()

    def close(self) -> None:
        """Ends the thread; questions that wait get a RuntimeError."""
        with self._door:  # behind which nobody comes any more
            self.closed = True
            self._waiting.put(None)
        self._thread.join()

    # -- from messages to tokens -------------------------------------------------------------------------------------

    def row(self, question: Question) -> Row:
        """The question in tokens, with as much room for an answer as it asks for and the context has.

        Raises:
            PromptError: As in `submit`.
        """
        ids = self._token_ids(question.messages)
        room = self.context - len(ids)
        if room < 1:
            raise PromptError(
                f"the context has {self.context} tokens; the messages take {len(ids)}, and an answer needs one",
                "context_length_exceeded",
            )
        row = Row(question, ids, min(question.max_tokens or room, room))
        if question.temperature >= GREEDY:
            row.random = torch.Generator()
            if question.seed is None:
                row.random.seed()
            else:
                row.random.manual_seed(question.seed % 2**63)
        return row

    def _token_ids(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """The prompt: the chat template's, or else what system and user say, with blank lines between."""
        plain = {"truncation": False, "padding": False}  # a tokenizer's own file may ask to cut or to pad
        told = [(role, self._as_data(content)) for role, content in messages]
        ids: list[int]
        with self._tokenizing:
            if self.tokenizer.chat_template:
                chat = [{"role": role, "content": content} for role, content in told]
                options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, **plain}
                try:
                    ids = self.tokenizer.apply_chat_template(chat, **options)["input_ids"]
                except TemplateError as error:
                    raise PromptError(f"the model's chat template says: {first_line(error)}") from error
            else:
                prompt = "\n\n".join(content for role, content in told if role != "assistant")
                ids = self.tokenizer(prompt, **plain)["input_ids"]
        if not ids:
            raise PromptError("the messages are empty")
        return ids

    def _as_data(self, text: str) -> str:
        """The text with the model's special tokens taken apart: a text under judgement must not end its turn."""
        return self._marks.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", text)

    # -- one thread answers all --------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self.closed:
            rows = self._gather()
            for batch in _batches(rows):
                try:
                    self.answer(batch)
                except Exception as error:  # whatever a model says: it is told to those who wait for this batch
                    for row in batch:
                        if not row.answer.done():
                            row.answer.set_exception(error)
        while not self._waiting.empty():
            if left := self._waiting.get():
                left.answer.set_exception(RuntimeError("the judge was closed"))

    def _gather(self) -> list[Row]:
        """All that wait, once nothing more has come for a moment."""
        rows = []
        row = self._waiting.get()
        while row is not None:
            rows.append(row)
            try:
                row = self._waiting.get(timeout=GATHER)
            except queue.Empty:
                break
        return rows

    @torch.inference_mode()
    def answer(self, rows: Sequence[Row]) -> None:
        """Decodes the rows as one batch; each row's `answer` is there as soon as the row has ended."""
        width = max(len(row.ids) for row in rows)
        tokens = torch.tensor([[0] * (width - len(row.ids)) + row.ids for row in rows])
        mask = torch.tensor([[0] * (width - len(row.ids)) + [1] * len(row.ids) for row in rows])
        positions = (mask.cumsum(-1) - 1).clamp_(min=0)
        past: Any = None
        while True:
            if self.closed:
                raise RuntimeError("the judge was closed")
            out = self.model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=past,
                use_cache=True,
                logits_to_keep=1,
            )
            logprobs, past = out.logits[:, -1].log_softmax(-1), out.past_key_values
            going = [k for k, row in enumerate(rows) if not self._ended(row, logprobs[k])]
            if not going:
                return
            if len(going) < len(rows):  # what has ended costs nothing more
                past.batch_select_indices(torch.tensor(going))
                rows, mask = [rows[k] for k in going], mask[going]
            tokens = torch.tensor([[row.new[-1]] for row in rows])
            mask = torch.cat([mask, torch.ones_like(tokens)], dim=1)
            positions = mask.sum(-1, keepdim=True) - 1

    def _ended(self, row: Row, logprobs: torch.Tensor) -> bool:
        """Gives a row its next token, and its answer where that was the last one."""
        token, question = _pick(row, logprobs), row.question
        if token in self._ends:
            return self._deliver(row, self._text(row.new), "stop")
        row.new.append(token)
        if question.top is not None:
            row.tokens.append(self._told(token, logprobs, question.top))
        if question.stop:
            text = self._text(row.new)
            if cuts := [at for mark in question.stop if (at := text.find(mark)) >= 0]:
                return self._deliver(row, text[: min(cuts)], "stop")
        if len(row.new) == row.limit:
            return self._deliver(row, self._text(row.new), "length")
        return False

    def _deliver(self, row: Row, text: str, reason: Literal["stop", "length"]) -> bool:
        tokens = None
        if row.question.top is not None:
            kept = len(row.tokens)
            if row.question.stop:  # those of the text itself, without the stop string's
                kept = next(k for k in range(kept + 1) if len(self._text(row.new[:k])) >= len(text))
            tokens = tuple(row.tokens[:kept])
        row.answer.set_result(Completion(text, reason, len(row.ids), len(row.new), tokens))
        return True

    # -- from tokens to text -----------------------------------------------------------------------------------------

    def _text(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _told(self, token: int, logprobs: torch.Tensor, top: int) -> Token:
        best = logprobs.topk(min(top, len(logprobs)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        likeliest = tuple((self._token_text(k), max(logprob, LEAST_LOGPROB)) for k, logprob in pairs)
        return Token(self._token_text(token), max(float(logprobs[token]), LEAST_LOGPROB), likeliest)

    def _token_text(self, token: int) -> str:
        """A token as it stands inside a text: where words begin with a mark, decoding one alone drops its space."""
        text: str = self.tokenizer.decode([token])
        marked = str(self.tokenizer.convert_ids_to_tokens(token)).startswith("\u2581")
        return f" {text}" if marked and not text.startswith(" ") else text

    def _end_tokens(self) -> set[int]:
        """Tokens that end an answer: the tokenizer's, and those that the model's own generation config adds."""
        told = self.model.generation_config.eos_token_id
        told = [told] if isinstance(told, int) else list(told or [])
        return {token for token in (*told, self.tokenizer.eos_token_id) if token is not None}


def _pick(row: Row, logprobs: torch.Tensor) -> int:
    """The likeliest token, or one drawn by the row's own random numbers, whatever else is in the batch."""
    if row.random is None:
        return int(logprobs.argmax())
    heated = ((logprobs - logprobs.max()) / row.question.temperature).softmax(-1)
    return int(torch.multinomial(heated, 1, generator=row.random))


def _batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows of like length together, so that little of a batch is padding."""
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.ids)):
        if batch and (len(batch) + 1) * len(row.ids) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _merged(model: Any, adapter: Path) -> Any:
    """The model with W + s BA in place of W."""
    if not (adapter / "adapter_config.json").is_file():
        raise UserError(f"{adapter}: holds no adapter_config.json; it is no PEFT adapter")
    weight_files(adapter)  # which refuses pickle files
    head = model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.clone())  # a LoRA of an output layer does not change the tied embedding
    model.config.tie_word_embeddings = False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            return PeftModel.from_pretrained(model, adapter).merge_and_unload()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, UserWarning) as error:
        raise UserError(f"{adapter}: the adapter does not fit the model: {first_line(error)}") from error
