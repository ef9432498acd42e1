"""A causal language model on the CPU that answers chat requests in batches.

The rows of a batch are padded on the left, with an attention mask and with positions counted from their own first
token, so an answer does not depend on the other rows: not at all for a small model, which computes in float64, and only
in the last bits of float32 for a larger one.
"""

from __future__ import annotations

import hashlib
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
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

from harness.experts.files import resolve, weight_files
from utilities.errors import UserError, first_line

__all__ = ["ChatRequest", "Completion", "LocalModel", "Prompt", "PromptError", "Token", "split_batches"]

BATCH_TOKENS = 8192
"""Maximum number of prompt tokens in a batch, padding included; a longer prompt is a batch of its own."""

FLOAT64_PARAMETERS = 50_000_000
"""Models of at most this size compute in float64. Which requests share a batch depends on timing, and an interrupted
and resumed run must give the same numbers as an uninterrupted one."""

MIN_TEMPERATURE = 1e-5
"""Temperatures below it mean greedy decoding: float32 cannot divide by less."""

MIN_LOGPROB = -9999.0
"""Replaces minus infinity, which JSON cannot represent; OpenAI's API uses the same number."""


class PromptError(ValueError):
    """The model cannot be given these messages."""

    status_code = 400
    """The HTTP status of such an error, by which a judge's client recognises that a retry cannot succeed."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """Messages, and how the answer is generated."""

    messages: Sequence[tuple[str, str]]
    """Roles and contents."""
    max_tokens: int | None = None
    """None: up to the end of the context."""
    temperature: float = 0.0
    seed: int = 0
    """Of the sampling at a temperature above 0. Different messages are sampled with different random numbers."""
    top_logprobs: int | None = None
    """Number of most likely tokens reported at each position; None reports no log-probabilities."""


class Token(NamedTuple):
    """A generated token, its log-probability under the model (at temperature 1), and the most likely tokens."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """The model's answer."""

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    tokens: tuple[Token, ...] | None
    """None if no log-probabilities were requested."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request in tokens."""

    request: ChatRequest
    ids: list[int]
    max_tokens: int
    """At most what the context has room for."""


@dataclass(slots=True)
class _Row:
    """A prompt of a batch, and what has been generated for it."""

    prompt: Prompt
    generator: torch.Generator | None
    """None: greedy decoding."""
    new: list[int] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    completion: Completion | None = None


class LocalModel:
    """A base model, with an adapter merged into it if one is given. It is only read, so several threads may use it.

    Args:
        model: Folder or hub id of the base model and its tokenizer; weights from safetensors only.
        adapter: Folder of a LoRA adapter for it.

    Raises:
        UserError: One of them cannot be loaded, or the adapter does not fit the model.
    """

    def __init__(self, model: str | Path, adapter: Path | None = None) -> None:
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
        if self.model.num_parameters() <= FLOAT64_PARAMETERS:
            self.model.double()
        if not all(torch.isfinite(weight).all() for weight in self.model.parameters()):
            raise UserError(f"{adapter or model}: the weights contain NaN or infinite values")
        positions = getattr(self.model.config, "max_position_embeddings", None) or 2048
        self.context = int(min(positions, self.tokenizer.model_max_length))
        """Tokens of a prompt and its answer together."""
        self._end_tokens = self._read_end_tokens()
        special = {*self.tokenizer.all_special_tokens}
        special |= {str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        longest_first = sorted((token for token in special if len(token) > 1), key=len, reverse=True)
        self._special = re.compile("|".join(re.escape(token) for token in longest_first) or "(?!)")
        self._tokenizing = threading.Lock()  # some tokenizers do not allow a second thread

    # -- from messages to tokens -------------------------------------------------------------------------------------

    def encode(self, request: ChatRequest) -> Prompt:
        """The request in tokens.

        Raises:
            PromptError: The messages are longer than the context, or the model's chat template rejects them.
        """
        ids = self._token_ids(request.messages)
        room = self.context - len(ids)
        if room < 1:
            raise PromptError(
                f"the context length is {self.context} tokens; the messages take {len(ids)}, and an answer needs one"
            )
        return Prompt(request, ids, min(request.max_tokens or room, room))

    def _token_ids(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """The filled chat template; without one, the system and user messages with blank lines between them."""
        plain = {"truncation": False, "padding": False}  # a tokenizer's own file may set them
        messages = [(role, self._split_special(content)) for role, content in messages]
        ids: list[int]
        with self._tokenizing:
            if self.tokenizer.chat_template:
                chat = [{"role": role, "content": content} for role, content in messages]
                options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, **plain}
                try:
                    ids = self.tokenizer.apply_chat_template(chat, **options)["input_ids"]
                except TemplateError as error:
                    raise PromptError(f"the model's chat template rejects the messages: {first_line(error)}") from error
            else:
                text = "\n\n".join(content for role, content in messages if role != "assistant")
                ids = self.tokenizer(text, **plain)["input_ids"]
        if not ids:
            raise PromptError("the messages are empty")
        return ids

    def _split_special(self, text: str) -> str:
        """The text with a space inside each special token, so that a judged text cannot end its own turn."""
        return self._special.sub(lambda token: f"{token[0][0]} {token[0][1:]}", text)

    # -- decoding ----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Prompt], cancelled: threading.Event | None = None) -> list[Completion]:
        """Decodes the prompts as one batch.

        Args:
            prompts: At least one.
            cancelled: Set by another thread to stop between two tokens.

        Raises:
            InterruptedError: `cancelled` was set.
        """
        every = [_Row(prompt, _generator(prompt.request)) for prompt in prompts]
        rows = every
        width = max(len(prompt.ids) for prompt in prompts)
        tokens = torch.tensor([[0] * (width - len(prompt.ids)) + prompt.ids for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in prompts])
        positions = (mask.cumsum(-1) - 1).clamp_(min=0)
        cache: Any = None
        while True:
            if cancelled is not None and cancelled.is_set():
                raise InterruptedError("the generation was cancelled")
            out = self.model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logprobs, cache = out.logits[:, -1].log_softmax(-1), out.past_key_values
            for k, row in enumerate(rows):
                row.completion = self._extend(row, logprobs[k])
            unfinished = [k for k, row in enumerate(rows) if row.completion is None]
            if not unfinished:
                return [row.completion for row in every if row.completion is not None]
            if len(unfinished) < len(rows):
                cache.batch_select_indices(torch.tensor(unfinished))
                rows, mask = [rows[k] for k in unfinished], mask[unfinished]
            tokens = torch.tensor([[row.new[-1]] for row in rows])
            mask = torch.cat([mask, torch.ones_like(tokens)], dim=1)
            positions = mask.sum(-1, keepdim=True) - 1

    def _extend(self, row: _Row, logprobs: torch.Tensor) -> Completion | None:
        """Adds the next token to a row; its completion if that was the last one."""
        token, request = _choose(row, logprobs), row.prompt.request
        ended = token in self._end_tokens
        if not ended:
            row.new.append(token)
            if request.top_logprobs is not None:
                row.tokens.append(self._token(token, logprobs, request.top_logprobs))
            if len(row.new) < row.prompt.max_tokens:
                return None
        text = str(self.tokenizer.decode(row.new, skip_special_tokens=True))
        tokens = None if request.top_logprobs is None else tuple(row.tokens)
        return Completion(text, "stop" if ended else "length", len(row.prompt.ids), len(row.new), tokens)

    def _token(self, token: int, logprobs: torch.Tensor, top: int) -> Token:
        best = logprobs.topk(min(top, len(logprobs)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        likeliest = tuple((self._token_text(k), max(logprob, MIN_LOGPROB)) for k, logprob in pairs)
        return Token(self._token_text(token), max(float(logprobs[token]), MIN_LOGPROB), likeliest)

    def _token_text(self, token: int) -> str:
        """A token as part of a text: some tokenizers drop the space before a word that is decoded alone."""
        text: str = self.tokenizer.decode([token])
        marked = str(self.tokenizer.convert_ids_to_tokens(token)).startswith("\u2581")
        return f" {text}" if marked and not text.startswith(" ") else text

    def _read_end_tokens(self) -> set[int]:
        """The tokens that end an answer, from the tokenizer and from the model's generation config."""
        configured = self.model.generation_config.eos_token_id
        configured = [configured] if isinstance(configured, int) else list(configured or [])
        return {token for token in (*configured, self.tokenizer.eos_token_id) if token is not None}


def split_batches(prompts: Sequence[Prompt]) -> Iterator[list[int]]:
    """Splits prompts into batches of similar lengths, which need little padding; yields their indices."""
    batch: list[int] = []
    for k in sorted(range(len(prompts)), key=lambda k: len(prompts[k].ids)):
        if batch and (len(batch) + 1) * len(prompts[k].ids) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(k)
    if batch:
        yield batch


def _generator(request: ChatRequest) -> torch.Generator | None:
    """The random numbers of one request, which do not depend on the rest of its batch."""
    if request.temperature < MIN_TEMPERATURE:
        return None
    digest = hashlib.sha256(repr((request.seed, list(request.messages))).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def _choose(row: _Row, logprobs: torch.Tensor) -> int:
    """The most likely token, or a sampled one."""
    if row.generator is None:
        return int(logprobs.argmax())
    weights = ((logprobs - logprobs.max()) / row.prompt.request.temperature).softmax(-1)
    return int(torch.multinomial(weights, 1, generator=row.generator))


def _merged(model: Any, adapter: Path) -> Any:
    """The model with W + s BA in place of W."""
    if not (adapter / "adapter_config.json").is_file():
        raise UserError(f"{adapter}: not a PEFT adapter: adapter_config.json is missing")
    weight_files(adapter)  # refuses pickle files
    head = model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.clone())  # a LoRA of an output layer does not change the tied embedding
    model.config.tie_word_embeddings = False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            return PeftModel.from_pretrained(model, adapter).merge_and_unload()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, UserWarning) as error:
        raise UserError(f"{adapter}: the adapter does not fit the model: {first_line(error)}") from error
