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
from pathlib import Path
from typing import Any, Literal, get_args

from utilities.core import Reason, Unscored
from utilities.errors import UserError, first_line
from utilities.registry import unknown_name

__all__ = ["RewardModel", "reward_model"]

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16"]

EMBEDDED = Path(__file__).parent / "embedded"
"""The small reward model that ships with the project; its name is `embedded`."""

BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Default tokens per batch; fixed, because other batch sizes change rounding in the last bit."""


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
    ) -> RewardModel:
        """Reads a reward model from a folder or the hub; weights from safetensors only.

        Args:
            name: Folder or hub id (owner/name) of a sequence classifier with one output, or `embedded`.
            device: Device of the model; auto uses a GPU if available.
            dtype: Precision of the weights; auto is float32, also on a GPU: bfloat16 needs half the memory, but scores
                then depend on the other answers of the batch (by 0.016 for scores between -3 and 2).
            batch_tokens: Tokens of one batch, including padding; reduced after out-of-memory errors.
            trust_remote_code: Allow execution of Python code from the model's repository.
            own_scoring: Score with the model's method `get_score(tokenizer, messages)`, one answer at a time; needs
                `trust_remote_code`. The context limit is then checked with this project's formatting of an answer.

        Raises:
            UserError: The model does not exist, or it does not have a single output.
        """
        if own_scoring and not trust_remote_code:
            raise UserError(f"{name}: own_scoring runs code that the model brings; it needs trust_remote_code")
        source = _source(name)
        device, dtype = _placement(device, dtype)
        model, tokenizer = _read(name, source, dtype, trust_remote_code=trust_remote_code, own_scoring=own_scoring)
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
            loaded._token_ids([("a question", "an answer")])
        except Exception as error:  # a chat template may raise anything
            raise UserError(f"{name}: its tokenizer cannot format an answer: {first_line(error)}") from error
        return loaded

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float | Unscored]:
        """Raw scores of (prompt, answer) pairs, in their order; higher is better.

        With a chat template, the input is a user message and an assistant message; otherwise the prompt, a line break
        and the answer. Nothing is truncated: a pair longer than the model's context is unscored, and so is one with a
        non-finite score.

        Raises:
            UserError: A single answer does not fit into memory.
        """
        import torch

        with self._lock, torch.inference_mode():
            self.model.to(self._device)  # it may be on the CPU after `rest`
            ids = self._token_ids(pairs)
            results: list[float | Unscored | None] = [self._problem(one) for one in ids]
            pending = sorted((k for k, problem in enumerate(results) if problem is None), key=lambda k: len(ids[k]))
            while pending:
                longest = len(ids[pending[-1]])
                size = 1 if self.own_scoring else max(1, self.batch_tokens // longest)
                batch, pending = pending[-size:], pending[:-size]
                try:
                    raws = (
                        [self._own_score(*pairs[k]) for k in batch]
                        if self.own_scoring
                        else self._forward([ids[k] for k in batch])
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

    def _token_ids(self, pairs: Sequence[tuple[str, str]]) -> list[list[int]]:
        if not pairs:
            return []
        # Both are explicit: a tokenizer's own settings may truncate or pad.
        plain = {"truncation": False, "padding": False}
        ids: list[list[int]]
        if self.tokenizer.chat_template:
            # Not via a string: the tokenizer would add the template's special tokens a second time.
            chats = [self._messages(*pair) for pair in pairs]
            ids = self.tokenizer.apply_chat_template(chats, tokenize=True, return_dict=True, **plain)["input_ids"]
        else:
            texts = [f"{self._as_data(prompt)}\n{self._as_data(answer)}" for prompt, answer in pairs]
            ids = self.tokenizer(texts, **plain)["input_ids"]
        return ids

    def _problem(self, ids: Sequence[int]) -> Unscored | None:
        if len(ids) > self.context:
            return Unscored(Reason.TRUNCATED, f"{len(ids)} tokens, the reward model's context has {self.context}")
        return None if ids else Unscored(Reason.NOT_APPLICABLE, "a prompt and an answer without tokens")

    # -- scoring -------------- ---------------------------------------------------------------------------------------

    def _forward(self, rows: Sequence[Sequence[int]]) -> list[float]:
        import torch

        width = max(len(row) for row in rows)
        pad = self._padding(rows)
        # Decoders take the score at the last token that is not the padding token.
        self.model.config.pad_token_id = self.model.config.get_text_config().pad_token_id = pad
        device = self.model.device
        tokens = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        scores: list[float] = self.model(input_ids=tokens, attention_mask=mask).logits[:, 0].float().tolist()
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


def _source(name: str) -> str:
    """The source for transformers: a folder or a hub id."""
    if name == "embedded":
        if not (EMBEDDED / "config.json").is_file():
            raise UserError(
                "the embedded reward model is not in this installation;"
                " a folder or hub id (owner/name) of a sequence classifier with one output is accepted as well"
            )
        return str(EMBEDDED)
    path = Path(name).expanduser()
    if name.strip() and path.is_dir():
        return str(path.resolve())
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        raise UserError(
            f"{name or 'an empty name'}: no such folder, and it is neither a hub id (owner/name) nor 'embedded'"
        )
    return name


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


def _read(name: str, source: str, dtype: Dtype, *, trust_remote_code: bool, own_scoring: bool) -> tuple[Any, Any]:
    """Loads model and tokenizer; refuses models without a trained score head."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # for reading weights from disk; downloads have their own
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
        if not own_scoring and config.num_labels != 1:
            labels = ", ".join(str(label) for label in config.id2label.values())
            raise UserError(f"{name}: the model has {config.num_labels} outputs ({labels}); a reward model has one")
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
        model, info = (AutoModel if own_scoring else AutoModelForSequenceClassification).from_pretrained(
            source,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    except UserError:
        raise
    except Exception as error:  # the library raises many types, and a model's own code any
        first = first_line(error)
        if not trust_remote_code and "custom code" in first:
            first = "it brings Python code of its own; with trust_remote_code that code is run here"
        tried = "the reward model cannot be loaded" if Path(source).is_dir() else "no such folder, and not from the hub"
        raise UserError(f"{name}: {tried}: {first}") from error
    if own_scoring and not callable(getattr(model, "get_score", None)):
        raise UserError(f"{name}: the model has no scoring method of its own (get_score); load it without own_scoring")
    if info["missing_keys"]:
        # A language model loads as a classifier without an error, but with a random head.
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise UserError(f"{name}: its weights lack {missing}; a reward model comes with a trained score head")
    return model, tokenizer


_loaded: dict[tuple[str, Device, Dtype, bool, bool], RewardModel] = {}
_loading = threading.Lock()


def reward_model(
    name: str,
    *,
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: bool = False,
    own_scoring: bool = False,
) -> RewardModel:
    """`RewardModel.load` with a cache per process: the same arguments return the same object.

    It stays in memory until the process ends; use `RewardModel.load` for an object that the caller owns.

    Raises:
        UserError: As `RewardModel.load`.
    """
    with _loading:
        key = (_source(name), *_placement(device, dtype), trust_remote_code, own_scoring)
        if key not in _loaded:
            _loaded[key] = RewardModel.load(
                name, device=device, dtype=dtype, trust_remote_code=trust_remote_code, own_scoring=own_scoring
            )
        return _loaded[key]
