"""Tokenises prompts and decodes answers, identically in every engine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.engines.model_config import context_length
from utilities.core import Chat, Reason, Response, Unscored
from utilities.deadline import deadline
from utilities.errors import UserError, first_line

__all__ = ["Tokens"]

PROBE = "Is it 1 or 2?"
"""A text that every tokenizer can encode."""

ANSWER = "\ue000answer\ue000"
"""An assistant's message by which the place of the answer is found in a chat template's text."""

KEPT = 16
"""Prompt sets whose token ids are cached: every particle is evaluated on the same ones."""

Question = tuple[list[int], list[list[int]]]
"""Token ids of a prompt and of each of its options."""


class Tokens:
    """A base model's tokenizer, chat template and context length.

    Args:
        base: Folder of the base model.
        context: Maximum tokens of prompt plus answer; by default from the model's config.
        trust_remote_code: Whether Python code in the folder may run.

    Raises:
        UserError: The folder holds no working tokenizer.
    """

    def __init__(self, base: Path, context: int | None = None, *, trust_remote_code: bool = False) -> None:
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig

        config = AutoConfig.from_pretrained(base, trust_remote_code=trust_remote_code)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(base, trust_remote_code=trust_remote_code)
            plain = self.tokenizer(PROBE, add_special_tokens=False)["input_ids"]
        except Exception as error:  # many types, if files are missing or damaged
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
        """Tokens that the tokenizer appends to every text; `ids` removes them, because prompts are continued."""
        pads = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, self.tokenizer.unk_token_id, 0)
        self.pad: int = next(one for one in pads if one is not None)
        """Padding token; it is masked, so any token works if the tokenizer defines none."""
        if self.tokenizer.pad_token_id is None and self.tokenizer.eos_token is not None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.context = context or context_length(config)
        try:
            ends = GenerationConfig.from_pretrained(base).eos_token_id
        except OSError:  # the file is not required
            ends = getattr(config.get_text_config(), "eos_token_id", None)
        ends = [ends] if isinstance(ends, int) else list(ends or [])
        self.ends = sorted({token for token in (*ends, self.tokenizer.eos_token_id) if token is not None})
        """Tokens that end an answer, from the tokenizer and the model's generation config."""
        self._cache: OrderedDict[tuple[int, ...], tuple[object, list[Any]]] = OrderedDict()

    def ids(self, texts: Sequence[str], **options: bool) -> list[list[int]]:
        """Token ids of each text."""
        if not texts:
            return []  # tokenizers reject an empty list
        encoded: list[list[int]] = self.tokenizer(list(texts), **options)["input_ids"]
        if (closing := self._closing) and options.get("add_special_tokens", True):
            return [ids[: -len(closing)] if ids[-len(closing) :] == closing else ids for ids in encoded]
        return encoded

    def prompts(self, prompts: Sequence[str], max_tokens: int) -> list[list[int] | Unscored]:
        """Token ids of prompts to continue by at most `max_tokens`; `Unscored` if they exceed the context.

        Raises:
            UserError: A prompt is a chat, and the model has no chat template or it does not take the messages.
        """
        return self._once(prompts, (id(prompts), max_tokens), lambda: self._prompts(prompts, max_tokens))

    def _prompts(self, prompts: Sequence[str], max_tokens: int) -> list[list[int] | Unscored]:
        encoded: list[list[int] | Unscored] = []
        for ids in self._encoded(self._templated(prompts, add_generation_prompt=True), prompts):
            if len(ids) + max_tokens > self.context or not ids:
                detail = f"{len(ids)} + {max_tokens} tokens, the context has {self.context}"
                encoded.append(Unscored(Reason.TRUNCATED, detail))
            else:
                encoded.append(ids)
        return encoded

    def questions(self, prompts: Sequence[str], options: Sequence[Sequence[str]]) -> list[Question | Unscored]:
        """Token ids of prompts and their options; `Unscored` if one is empty or the longest exceeds the context."""
        texts = (prompts, options)
        return self._once(texts, (id(prompts), id(options)), lambda: self._questions(prompts, options))

    def _questions(self, prompts: Sequence[str], options: Sequence[Sequence[str]]) -> list[Question | Unscored]:
        # Each prompt and option are encoded as one text; blanks between them belong to the option. If an option changes
        # the prompt's last tokens, all options begin at the end of the common prefix.
        begins = self._answers_begin(prompts)
        heads = [text if isinstance(p, Chat) else text.rstrip() for p, text in zip(prompts, begins, strict=True)]
        texts = [text + option for text, choices in zip(begins, options, strict=True) for option in choices]
        kinds = [prompt for prompt, choices in zip(prompts, options, strict=True) for _ in choices]
        joined = iter(self._encoded(texts, kinds))
        questions: list[Question | Unscored] = []
        for head, choices in zip(self._encoded(heads, prompts), options, strict=True):
            encoded = [next(joined) for _ in choices]
            longest = max(map(len, encoded))
            start = min(_shared(head, ids) for ids in encoded)
            rests = [ids[start:] for ids in encoded]
            if longest > self.context:
                questions.append(Unscored(Reason.TRUNCATED, f"{longest} tokens, the context has {self.context}"))
            elif not start or not all(rests) or not all(choices):
                questions.append(Unscored(Reason.NOT_APPLICABLE, "a prompt or option without tokens"))
            else:
                questions.append((head[:start], rests))
        return questions

    def answer(self, new: Sequence[int], max_tokens: int, stop: Sequence[str]) -> Response:
        """The response in newly generated tokens, up to an end token or a stop string.

        Args:
            new: Generated token ids; trailing padding is removed.
            max_tokens: The requested maximum.
            stop: The requested stop strings.
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

    def _once(self, texts: object, key: tuple[int, ...], make: Callable[[], list[Any]]) -> list[Any]:
        """`make()`, cached by the identity of the texts; `texts` is stored so that their ids are not reused."""
        if key not in self._cache:
            self._cache[key] = (texts, make())
            while len(self._cache) > KEPT:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key][1]

    def _encoded(self, texts: Sequence[str], prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of the text of each prompt; a chat template adds the begin token itself."""
        chats = [isinstance(prompt, Chat) for prompt in prompts]
        ids = {
            kind: iter(self.ids([text for text, chat in zip(texts, chats, strict=True) if chat is kind], **options))
            for kind, options in ((False, {}), (True, {"add_special_tokens": False}))
        }
        return [next(ids[chat]) for chat in chats]

    def _answers_begin(self, prompts: Sequence[str]) -> list[str]:
        """Each prompt as a text that ends where its answer begins.

        A chat ends where the template puts the assistant's message: some write a blank or an empty thought before it.
        """
        answered = [Chat.of([*_turns(p), ("assistant", ANSWER)]) if isinstance(p, Chat) else p for p in prompts]
        texts = self._templated(answered)
        if any(ANSWER not in text for p, text in zip(prompts, texts, strict=True) if isinstance(p, Chat)):
            return self._templated(prompts, add_generation_prompt=True)  # it leaves out the last answer
        return [t.rpartition(ANSWER)[0] if isinstance(p, Chat) else t for p, t in zip(prompts, texts, strict=True)]

    def _templated(self, prompts: Sequence[str], **options: bool) -> list[str]:
        """The prompts as texts, with chats in the chat template."""
        chats = [prompt for prompt in prompts if isinstance(prompt, Chat)]
        if not chats:
            return list(prompts)
        if not self.tokenizer.chat_template:
            raise UserError("the task asks for a chat template and this base model has none; use an instruct model")
        apply = self.tokenizer.apply_chat_template
        try:
            with deadline(2.0 + len(chats) / 100):
                texts = iter([apply(chat.messages, tokenize=False, **options) for chat in chats])
        except TimeoutError:
            raise UserError("the base model's chat template does not end; correct its chat_template") from None
        except Exception as error:  # a template raises what it likes
            roles = ", ".join(dict.fromkeys(role for role, _ in _turns(chats[0])))
            raise UserError(
                f"the base model's chat template does not take the messages of the task ({roles}): {first_line(error)};"
                " remove system_prompt or few_shot, or put their text into the prompt"
            ) from error
        return [next(texts) if isinstance(prompt, Chat) else prompt for prompt in prompts]


def _turns(chat: Chat) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in chat.messages]


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix."""
    if one == other[: len(one)]:
        return len(one)
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(other))
