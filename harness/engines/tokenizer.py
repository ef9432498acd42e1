"""Texts to token ids and back, the same way in every engine: what is read and said does not depend on what runs it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.engines.model_config import context_length
from utilities.core import Reason, Response, Unscored
from utilities.deadline import deadline
from utilities.errors import UserError, first_line

__all__ = ["Tokens"]

PROBE = "Is it 1 or 2?"
"""A text that every tokenizer has tokens for."""

KEPT = 16
"""Prompt sets whose token ids are remembered: every particle is asked the same ones."""

Question = tuple[list[int], list[list[int]]]
"""Token ids of a prompt and of each of its options."""


class Tokens:
    """A base model's tokenizer, its chat template, and how much its context holds.

    Args:
        base: Folder of the base model.
        context: Tokens that prompt and answer may have together; by default what the model's config says.
        trust_remote_code: Whether Python code that the folder brings may run.

    Raises:
        UserError: The folder holds no tokenizer that encodes anything.
    """

    def __init__(self, base: Path, context: int | None = None, *, trust_remote_code: bool = False) -> None:
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig

        config = AutoConfig.from_pretrained(base, trust_remote_code=trust_remote_code)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(base, trust_remote_code=trust_remote_code)
            plain = self.tokenizer(PROBE, add_special_tokens=False)["input_ids"]
        except Exception as error:  # libraries raise many kinds where files are missing or damaged
            reason = f"tokenizer.json or tokenizer.model is missing or damaged: {first_line(error).rstrip(' :')}"
            raise UserError(f"{base}: its tokenizer cannot be loaded: {reason}") from error
        if not plain:
            raise UserError(
                f"{base}: it holds no tokenizer (tokenizer.json, tokenizer.model, vocab.json ...); copy the files of"
                " the model that it was made from"
            )
        ids = self.tokenizer(PROBE)["input_ids"]
        start = next((k for k in range(len(ids)) if ids[k : k + len(plain)] == plain), None)
        end = [self.tokenizer.eos_token_id] if ids[-1:] == [self.tokenizer.eos_token_id] else []
        self._closing: list[int] = end if start is None else ids[start + len(plain) :]
        """Tokens that the tokenizer adds at the end of every text: no prompt is at its end."""
        pads = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, self.tokenizer.unk_token_id, 0)
        self.pad: int = next(one for one in pads if one is not None)
        """Token that fills a batch; it is masked, so any will do where the tokenizer has none for it."""
        if self.tokenizer.pad_token_id is None and self.tokenizer.eos_token is not None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.context = context or context_length(config)
        try:
            told = GenerationConfig.from_pretrained(base).eos_token_id
        except OSError:  # the file is not required
            told = getattr(config.get_text_config(), "eos_token_id", None)
        told = [told] if isinstance(told, int) else list(told or [])
        self.ends = sorted({token for token in (*told, self.tokenizer.eos_token_id) if token is not None})
        """Tokens that end an answer: the tokenizer's, and those that the model's own generation config adds."""
        self._known: OrderedDict[tuple[int, ...], tuple[object, list[Any]]] = OrderedDict()

    def ids(self, texts: Sequence[str], **options: bool) -> list[list[int]]:
        """Token ids of each text."""
        if not texts:
            return []  # which tokenizers do not accept
        found: list[list[int]] = self.tokenizer(list(texts), **options)["input_ids"]
        if (closing := self._closing) and options.get("add_special_tokens", True):
            return [ids[: -len(closing)] if ids[-len(closing) :] == closing else ids for ids in found]
        return found

    def prompts(self, prompts: Sequence[str], max_tokens: int, chat: bool) -> list[list[int] | Unscored]:
        """Token ids of prompts that are to be continued by at most `max_tokens`; unscored where that does not fit.

        Raises:
            UserError: A chat template is asked for and the model has none.
        """
        return self._once(prompts, (id(prompts), max_tokens, chat), lambda: self._prompts(prompts, max_tokens, chat))

    def _prompts(self, prompts: Sequence[str], max_tokens: int, chat: bool) -> list[list[int] | Unscored]:
        asked = self._as_messages(prompts) if chat else prompts
        found: list[list[int] | Unscored] = []
        for ids in self.ids(asked, add_special_tokens=not chat):  # a template writes its own mark of the beginning
            if len(ids) + max_tokens > self.context or not ids:
                told = f"{len(ids)} + {max_tokens} tokens, the context has {self.context}"
                found.append(Unscored(Reason.TRUNCATED, told))
            else:
                found.append(ids)
        return found

    def questions(self, prompts: Sequence[str], options: Sequence[Sequence[str]]) -> list[Question | Unscored]:
        """Token ids of prompts and of their options; unscored where the longest does not fit, or one has no tokens."""
        given = (prompts, options)
        return self._once(given, (id(prompts), id(options)), lambda: self._questions(prompts, options))

    def _questions(self, prompts: Sequence[str], options: Sequence[Sequence[str]]) -> list[Question | Unscored]:
        # Each prompt and option are encoded as one text, whose beginning is the prompt; blanks between belong to the
        # option. Where an option changes the prompt's own last tokens, it begins where all options still agree.
        heads = [prompt.rstrip() for prompt in prompts]
        texts = [prompt + option for prompt, choices in zip(prompts, options, strict=True) for option in choices]
        joined = iter(self.ids(texts))
        found: list[Question | Unscored] = []
        for head, choices in zip(self.ids(heads), options, strict=True):
            wholes = [next(joined) for _ in choices]
            longest = max(map(len, wholes))
            start = min(_shared(head, whole) for whole in wholes)
            rests = [whole[start:] for whole in wholes]
            if longest > self.context:
                found.append(Unscored(Reason.TRUNCATED, f"{longest} tokens, the context has {self.context}"))
            elif not start or not all(rests) or not all(choices):
                found.append(Unscored(Reason.NOT_APPLICABLE, "a prompt or option without tokens"))
            else:
                found.append((head[:start], rests))
        return found

    def answer(self, new: Sequence[int], max_tokens: int, stop: Sequence[str]) -> Response:
        """The response that new tokens are, up to an end token or one of the texts that stop it.

        Args:
            new: What was generated; padding at its end is taken off.
            max_tokens: As it was asked for.
            stop: As it was asked for.
        """
        end = next((k for k, token in enumerate(new) if token in self.ends), len(new))
        ended = end < len(new)
        padded = bool(stop or self.ends)
        while padded and end and new[end - 1] == self.pad:  # a stop string ended this row of a batch
            end -= 1
        text = self.tokenizer.decode(new[:end], skip_special_tokens=True)
        cuts = [at for mark in stop if (at := text.find(mark)) >= 0]
        finish = "stop" if ended or cuts or end < max_tokens else "length"
        return Response(text[: min(cuts)] if cuts else text, end, finish)

    def _once(self, given: object, key: tuple[int, ...], make: Callable[[], list[Any]]) -> list[Any]:
        """What `make` makes, once for the very same texts; they are kept, so that no others get their identity."""
        if key not in self._known:
            self._known[key] = (given, make())
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key][1]

    def _as_messages(self, prompts: Sequence[str]) -> list[str]:
        if not self.tokenizer.chat_template:
            raise UserError("the task asks for a chat template and this base model has none; use an instruct model")
        told = ([{"role": "user", "content": prompt}] for prompt in prompts)
        try:
            with deadline(2.0 + len(prompts) / 100):
                return [self.tokenizer.apply_chat_template(m, tokenize=False, add_generation_prompt=True) for m in told]
        except TimeoutError:
            raise UserError("the base model's chat template does not end; correct its chat_template") from None


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens at the beginning of both."""
    if one == other[: len(one)]:
        return len(one)
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(other))
