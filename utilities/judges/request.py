"""One question to a judge: what is sent for it, and how the message that comes back is read.

Any langchain chat model can be asked. What is particular to servers that speak OpenAI's protocol are `extras`: what
not every one of them knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from utilities.judges.budget import estimate_tokens, most_tokens
from utilities.judges.parsing import Message, Reply, TokenChoice

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage

__all__ = ["OPENAI", "Question", "call_arguments", "read_message", "told", "wanted_extras"]

OPENAI = "https://api.openai.com/v1"
"""Where a model without an address is asked."""

OPENAI_EXTRAS = frozenset({"response_format", "logprobs", "max_tokens"})
"""The extras of servers that speak OpenAI's protocol; any other chat model names its own in `judge_extras`."""

ENVELOPE, HEAD = 16, 64
"""Tokens that a chat template adds at most to each message, and to the whole."""


@dataclass(frozen=True, slots=True)
class Question:
    """All that decides what is sent."""

    messages: tuple[Message, ...]
    max_tokens: int
    schema: Mapping[str, Any] | None
    logprobs: bool
    conversation: Sequence[BaseMessage] = ()
    """The messages as langchain's, where tools were called in them; then `messages` tells the same in text."""
    tools: Sequence[Mapping[str, Any]] = ()
    """What the judge may call, as in OpenAI's protocol."""
    replicate: int = 0
    """Number of the repetition."""

    @property
    def most_prompt_tokens(self) -> int:
        """More than any tokenizer makes of it; schemas are part of what a server lets its model read."""
        texts = [message.content for message in self.messages]
        texts += [json.dumps(read) for read in (self.schema, self.tools) if read]
        return sum(most_tokens(text) for text in texts) + ENVELOPE * len(self.messages) + HEAD

    @property
    def about_prompt_tokens(self) -> int:
        """What is counted where a server reports nothing."""
        return sum(estimate_tokens(message.content) for message in self.messages)


def wanted_extras(chat: BaseChatModel, question: Question, endpoint: str) -> frozenset[str]:
    """What a question asks for that not every server knows; one that answers 400 is asked again without."""
    # root_async_client is the mark of langchain's models for OpenAI's protocol.
    openai = OPENAI_EXTRAS if hasattr(chat, "root_async_client") else frozenset[str]()
    supported: frozenset[str] = getattr(chat, "judge_extras", openai)
    wanted = {
        "response_format": question.schema is not None,
        "logprobs": question.logprobs,
        "max_tokens": endpoint != OPENAI,
        "seed": True,
    }
    return supported & frozenset(name for name, value in wanted.items() if value)


def call_arguments(question: Question, extras: frozenset[str]) -> dict[str, Any]:
    """The arguments of one call."""
    given: dict[str, Any] = {"max_tokens": question.max_tokens}
    body: dict[str, Any] = {}
    if "max_tokens" in extras:
        # langchain sends the limit as max_completion_tokens, as OpenAI wants it; older servers know only this one.
        body["max_tokens"] = question.max_tokens
    if "response_format" in extras:
        form = {"name": "judgement", "schema": question.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    if "logprobs" in extras:
        given |= {"logprobs": True, "top_logprobs": 20}
    if "seed" in extras:  # another one for each repetition: at a temperature above 0 they must differ
        given["seed"] = question.replicate
    return {**given, "extra_body": body} if body else given


def _tokens(logprobs: Any) -> tuple[TokenChoice, ...] | None:
    """The tokens with their alternatives; None where the server gave none, or gave what nobody can read."""
    try:
        return tuple(
            TokenChoice(one["token"], {other["token"]: other["logprob"] for other in (*one["top_logprobs"], one)})
            for one in logprobs["content"]
        )
    except (KeyError, TypeError):
        return None


def read_message(message: AIMessage, question: Question) -> Reply:
    """A langchain message as a reply; usage that is not reported is estimated."""
    about, usage = message.response_metadata, message.usage_metadata
    text, reason = str(message.text), about.get("finish_reason") or about.get("stop_reason") or "stop"
    if refusal := message.additional_kwargs.get("refusal"):
        text, reason = str(refusal), "refusal"
    if question.conversation:
        text = json.dumps({"content": text, "tool_calls": message.tool_calls})
    return Reply(
        text,
        str(about.get("model_name") or about.get("model") or ""),
        (usage and usage["input_tokens"]) or question.about_prompt_tokens,
        (usage and usage["output_tokens"]) or estimate_tokens(text),
        _tokens(about.get("logprobs")),
        str(reason),
    )


def told(message: BaseMessage) -> str:
    """What a message says, without what differs each time it is made (ids, metadata)."""
    parts = ("type", "content", "tool_calls", "tool_call_id")
    return json.dumps({part: getattr(message, part, None) for part in parts})
