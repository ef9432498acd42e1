"""A reward model: a sequence classifier with one output, which scores an answer to a prompt.

The score of an answer is the stored model's output for that answer alone. Batching must not change a score; this module
handles padding, the padding token and truncation accordingly.
"""

from __future__ import annotations

import asyncio
import math
import re
import threading
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

from utilities.core import Reason, Unscored
from utilities.errors import UserError, first_line
from utilities.registry import unknown_name
from utilities.rewards.loading import EMBEDDED, read_reward_model, source_of

__all__ = ["EMBEDDED", "RewardModel", "reward_model"]

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16"]

BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Default tokens per batch; fixed, because other batch sizes change rounding in the last bit."""


class _Row(NamedTuple):
    """An encoded answer with its prompt."""

    ids: list[int]
    types: list[int] | None
    """Which of the two texts a token belongs to, for encoders that take a pair of texts."""


class RewardModel:
    """A loaded reward model, made by `RewardModel.load`; several threads may use it at the same time."""

    def __init__(self, name: str, model: Any, tokenizer: Any, *, batch_tokens: int, own_scoring: bool = False) -> None:
        self.name, self.model, self.tokenizer = name, model, tokenizer
        self.batch_tokens, self.own_scoring = batch_tokens, own_scoring
        config = model.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None) or 0
        # Without a limit, a tokenizer has 10^30, and a model has no value or -1.
        self.context = int(min(positions if positions > 0 else 1e30, tokenizer.model_max_length))
        # Without a padding token in the stored config (or -1, in old ones), a single text is scored at its last token.
        pad = getattr(config, "pad_token_id", None)
        self._pad = pad if pad is not None and pad >= 0 else None
        marks = {*tokenizer.all_special_tokens}
        marks |= {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        longest_first = sorted((mark for mark in marks if len(mark) > 1), key=len, reverse=True)
        self._marks = re.compile("|".join(re.escape(mark) for mark in longest_first) or "(?!)")
        separator = getattr(tokenizer, "sep_token_id", None)
        self.pairs = not tokenizer.chat_template and separator in tokenizer("a", "b")["input_ids"][1:-1]
        """Whether prompt and answer are encoded as a pair of texts, as encoders with a separator token were trained."""
        self._device = model.device
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        name: str,
        *,
        device: Device = "auto",
        dtype: Dtype = "auto",
        batch_tokens: int | None = None,
        trust_remote_code: bool = False,
        own_scoring: bool = False,
        base: str | None = None,
    ) -> RewardModel:
        """Reads a reward model from a folder or the hub; weights from safetensors only.

        Args:
            name: Folder or hub id (owner/name) of a sequence classifier with one output, of a language model with a
                value head, or of a LoRA adapter of one of them; or `embedded`.
            device: Device of the model; auto uses a GPU if available.
            dtype: Precision of the weights; auto is float32, also on a GPU: bfloat16 needs half the memory, but scores
                then depend on the other answers of the batch (by 0.016 for scores between -3 and 2).
            batch_tokens: Tokens of one batch, including padding; reduced after out-of-memory errors.
            trust_remote_code: Allow execution of Python code from the model's repository.
            own_scoring: Score with the model's method `get_score(tokenizer, messages)`, one answer at a time; needs
                `trust_remote_code`. The context limit is then checked with this project's formatting of an answer.
            base: Base model of an adapter, if the one that the adapter names is not here.

        Raises:
            UserError: The model does not exist, or it does not have a single output.
        """
        if own_scoring and not trust_remote_code:
            raise UserError(f"{name}: own_scoring runs code that the model brings; it needs trust_remote_code")
        source = source_of(name)
        device, dtype = _placement(device, dtype)
        model, tokenizer = read_reward_model(name, source, dtype, trust_remote_code, own_scoring, base)
        try:
            model.to(device).eval().requires_grad_(False)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            smaller = "; dtype bfloat16 needs half of it" if dtype == "float32" else ""
            raise UserError(f"{name}: the model does not fit into the memory of {device}{smaller}") from error
        model.config.use_cache = False  # no generation, so a key-value cache would only use memory
        limit = batch_tokens or BATCH_TOKENS[device]
        loaded = cls(name, model, tokenizer, batch_tokens=limit, own_scoring=own_scoring)
        try:
            loaded._encoded([("a question", "an answer")])
        except Exception as error:  # a chat template may raise anything
            raise UserError(f"{name}: its tokenizer cannot format an answer: {first_line(error)}") from error
        return loaded

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float | Unscored]:
        """Raw scores of (prompt, answer) pairs, in their order; higher is better.

        With a chat template, the input is a user message and an assistant message; without one, encoders with a
        separator token get the pair, other models the prompt, a line break and the answer. Nothing is truncated: a pair
        longer than the model's context is unscored, and so is one with a non-finite score.

        Raises:
            UserError: A single answer does not fit into memory.
        """
        import torch

        with self._lock, torch.inference_mode():
            self.model.to(self._device)  # it may be on the CPU after `rest`
            rows = self._encoded(pairs)
            results: list[float | Unscored | None] = [self._problem(row.ids) for row in rows]
            pending = [k for k, problem in enumerate(results) if problem is None]
            pending.sort(key=lambda k: len(rows[k].ids))
            while pending:
                longest = len(rows[pending[-1]].ids)
                size = 1 if self.own_scoring else max(1, self.batch_tokens // longest)
                batch, pending = pending[-size:], pending[:-size]
                try:
                    raws = (
                        [self._own_score(*pairs[k]) for k in batch]
                        if self.own_scoring
                        else self._forward([rows[k] for k in batch])
                    )
                except RuntimeError as error:
                    self._smaller_batches(error, len(batch), longest)
                    pending += batch
                    continue
                for k, raw in zip(batch, raws, strict=True):
                    finite = isinstance(raw, Unscored) or math.isfinite(raw)
                    results[k] = raw if finite else Unscored(Reason.OUT_OF_RANGE, f"the raw score is {raw}")
        return [one for one in results if one is not None]

    def rest(self) -> None:
        """Moves the model off the GPU until the next score."""
        import torch

        with self._lock:
            self.model.to("cpu")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    async def score_async(self, pairs: Sequence[tuple[str, str]]) -> list[float | Unscored]:
        """`score` in a separate thread, so that other particles continue."""
        return await asyncio.to_thread(self.score, pairs)

    # -- tokenization -------- ----------------------------------------------------------------------------------------

    def _messages(self, prompt: str, answer: str) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": self._as_data(prompt)},
            {"role": "assistant", "content": self._as_data(answer)},
        ]

    def _as_data(self, text: str) -> str:
        """Breaks the model's special tokens in a text: an answer must not end its turn and start another.

        Lone surrogates, which tokenizers refuse, become question marks.
        """
        text = text.encode("utf-8", "replace").decode("utf-8")
        return self._marks.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", text)

    def _encoded(self, pairs: Sequence[tuple[str, str]]) -> list[_Row]:
        if not pairs:
            return []
        # Both are explicit: a tokenizer's own settings may truncate or pad.
        plain = {"truncation": False, "padding": False}
        if self.tokenizer.chat_template:
            # Not via a string: the tokenizer would add the template's special tokens a second time.
            chats = [self._messages(*pair) for pair in pairs]
            encoded = self.tokenizer.apply_chat_template(chats, tokenize=True, return_dict=True, **plain)
            return [_Row(ids, None) for ids in encoded["input_ids"]]
        prompts, answers = ([self._as_data(text) for text in side] for side in zip(*pairs, strict=True))
        if not self.pairs:
            texts = [f"{prompt}\n{answer}" for prompt, answer in zip(prompts, answers, strict=True)]
            return [_Row(ids, None) for ids in self.tokenizer(texts, **plain)["input_ids"]]
        encoded = self.tokenizer(prompts, answers, **plain)
        types = encoded.get("token_type_ids") or [None] * len(pairs)
        return [_Row(*row) for row in zip(encoded["input_ids"], types, strict=True)]

    def _problem(self, ids: Sequence[int]) -> Unscored | None:
        if len(ids) > self.context:
            return Unscored(Reason.TRUNCATED, f"{len(ids)} tokens, the reward model's context has {self.context}")
        return None if ids else Unscored(Reason.NOT_APPLICABLE, "a prompt and an answer without tokens")

    # -- scoring -------------- ---------------------------------------------------------------------------------------

    def _forward(self, rows: Sequence[_Row]) -> list[float]:
        import torch

        width = max(len(row.ids) for row in rows)
        pad = self._padding([row.ids for row in rows])
        # Decoders take the score at the last token that is not the padding token.
        self.model.config.pad_token_id = self.model.config.get_text_config().pad_token_id = pad

        def padded(values: Sequence[Sequence[int]], filler: int) -> Any:
            return torch.tensor([[*own, *[filler] * (width - len(own))] for own in values], device=self.model.device)

        inputs = {
            "input_ids": padded([row.ids for row in rows], pad),
            "attention_mask": padded([[1] * len(row.ids) for row in rows], 0),
        }
        if rows[0].types is not None:
            inputs["token_type_ids"] = padded([row.types or [] for row in rows], 0)
        scores: list[float] = self.model(**inputs).logits[:, 0].float().tolist()
        return scores

    def _padding(self, rows: Sequence[Sequence[int]]) -> int:
        """The padding token: from the stored config, or else any token that ends no row.

        Not the tokenizer's, which often is its end token: a chat ends with it and would be scored one token too early.
        """
        if self._pad is not None:
            return int(self._pad)
        ends = {row[-1] for row in rows}
        return next(token for token in range(len(ends) + 1) if token not in ends)

    def _own_score(self, prompt: str, answer: str) -> float | Unscored:
        try:
            return float(self.model.get_score(self.tokenizer, self._messages(prompt, answer)))
        except Exception as error:  # the code is the model's own
            if _out_of_memory(error):
                raise
            return Unscored(Reason.MALFORMED, f"get_score raised {type(error).__name__}: {first_line(error)}")

    def _smaller_batches(self, error: RuntimeError, rows: int, longest: int) -> None:
        """Reduces the batch size after an out-of-memory error; raises other errors again."""
        import torch

        if not _out_of_memory(error):
            raise error
        if rows == 1:
            raise UserError(
                f"{self.name}: out of memory on {self.model.device}, even with a single answer of {longest} tokens"
            ) from error
        self.batch_tokens = max(1, rows * longest // 2)
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()


def _out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _placement(device: Device, dtype: Dtype) -> tuple[Device, Dtype]:
    """Device and precision with `auto` resolved."""
    import torch

    for option, value, choices in (("device", device, Device), ("dtype", dtype, Dtype)):
        if value not in get_args(choices):
            raise unknown_name(option, str(value), get_args(choices))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: this machine has no GPU that torch can use; cpu works everywhere")
    return device, "float32" if dtype == "auto" else dtype


_loaded: dict[tuple[str, Device, Dtype, bool, bool, str | None], RewardModel] = {}
_loading = threading.Lock()


def reward_model(
    name: str,
    *,
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: bool = False,
    own_scoring: bool = False,
    base: str | None = None,
) -> RewardModel:
    """`RewardModel.load` with a cache per process: the same arguments return the same object.

    It stays in memory until the process ends; use `RewardModel.load` for an object that the caller owns.

    Raises:
        UserError: As `RewardModel.load`.
    """
    with _loading:
        key = (source_of(name), *_placement(device, dtype), trust_remote_code, own_scoring, base)
        if key not in _loaded:
            _loaded[key] = RewardModel.load(
                name,
                device=device,
                dtype=dtype,
                trust_remote_code=trust_remote_code,
                own_scoring=own_scoring,
                base=base,
            )
        return _loaded[key]
