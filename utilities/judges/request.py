"""One request to a judge: its parameters, and how the message that comes back is read.

Any langchain chat model can be a judge. Only for servers that speak OpenAI's protocol some parameters are optional.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from utilities.judges.budget import estimate_tokens, most_tokens
from utilities.judges.parsing import Message, Reply, TokenChoice

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage

__all__ = [
    "OPENAI",
    "Question",
    "call_arguments",
    "first_named",
    "message_text",
    "read_message",
    "wanted_parameters",
]

OPENAI = "https://api.openai.com/v1"
"""The server of a model without an address."""

ENVELOPE, HEAD = 16, 64
"""Tokens that a chat template adds at most to each message, and to the whole."""


OPENAI_PARAMETERS = frozenset({"response_format", "logprobs", "max_tokens", "max_completion_tokens", "temperature"})
"""Of servers that speak OpenAI's protocol; any other chat model names its own in `judge_extras`."""

NAMES = {
    "seed": re.compile(r"seed", re.IGNORECASE),
    "response_format": re.compile(r"response.?format|json.?schema|structured.?output|guided", re.IGNORECASE),
    "logprobs": re.compile(r"log.?prob", re.IGNORECASE),
    "max_tokens": re.compile(r"(?<![a-z_])max.?tokens", re.IGNORECASE),
    "max_completion_tokens": re.compile(r"max.?completion.?tokens", re.IGNORECASE),
    "temperature": re.compile(r"temperature", re.IGNORECASE),
}
"""How servers name the parameters that they refuse."""

HIDDEN = 512
"""Tokens of instructions of its own that a server may add to a prompt."""


@dataclass(frozen=True, slots=True)
class Question:
    """The contents of a request."""

    messages: tuple[Message, ...]
    max_tokens: int
    schema: Mapping[str, Any] | None
    logprobs: bool
    conversation: Sequence[BaseMessage] = ()
    """The messages as langchain's if tools were called in them; then `messages` has the same in text."""
    tools: Sequence[Mapping[str, Any]] = ()
    """Tools that the judge may call, as in OpenAI's protocol."""
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
        """What is counted if a server reports nothing."""
        return sum(estimate_tokens(message.content) + ENVELOPE for message in self.messages)


def wanted_parameters(chat: BaseChatModel, question: Question, endpoint: str) -> frozenset[str]:
    """The parameters of a request that some servers refuse; none for models that do not speak OpenAI's protocol."""
    # root_async_client is the mark of langchain's models for OpenAI's protocol.
    openai = OPENAI_PARAMETERS if hasattr(chat, "root_async_client") else frozenset[str]()
    supported: frozenset[str] = getattr(chat, "judge_extras", openai)
    wanted = {
        "response_format": question.schema is not None,
        "logprobs": question.logprobs,
        # langchain sends the limit as max_completion_tokens, as OpenAI requires; older servers accept only max_tokens.
        "max_tokens": endpoint != OPENAI,
        "max_completion_tokens": True,
        "temperature": True,
        "seed": True,
    }
    return supported & frozenset(name for name, needed in wanted.items() if needed)


def first_named(words: str, parameters: frozenset[str]) -> str | None:
    """The parameter that a server's words name first; None if they name none of them."""
    places = {name: found.start() for name in parameters if (found := NAMES[name].search(words))}
    return min(places, key=places.__getitem__, default=None)


def call_arguments(question: Question, parameters: frozenset[str], chat: BaseChatModel) -> dict[str, Any]:
    """The arguments of one call."""
    arguments: dict[str, Any] = {"max_tokens": question.max_tokens}
    body: dict[str, Any] = {}
    if "max_tokens" in parameters:
        body["max_tokens"] = question.max_tokens
    if "response_format" in parameters:
        form = {"name": "judgement", "schema": question.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    if "logprobs" in parameters:
        arguments |= {"logprobs": True, "top_logprobs": 20}
    if "seed" in parameters:  # another one for each repetition: at a temperature above 0 they must differ
        arguments["seed"] = question.replicate
    if body:
        arguments["extra_body"] = body
    if hasattr(chat, "root_async_client") and (omitted := {"max_completion_tokens", "temperature"} - parameters):
        arguments["omit"] = tuple(omitted)
    return arguments


def _tokens(logprobs: Any) -> tuple[TokenChoice, ...] | None:
    """The tokens with their alternatives; None if the server gave none, or none that can be read."""
    try:
        choices = tuple(
            TokenChoice(one["token"], {other["token"]: other["logprob"] for other in (*one["top_logprobs"], one)})
            for one in logprobs["content"]
        )
        return choices or None
    except (KeyError, TypeError):
        return None


def read_message(message: AIMessage, question: Question) -> Reply:
    """A langchain message as a reply; usage that is not reported, or cannot be right, is estimated."""
    about, usage = message.response_metadata, message.usage_metadata
    text, reason = str(message.text), about.get("finish_reason") or about.get("stop_reason") or "stop"
    reasoning = message.additional_kwargs.get("reasoning_content")
    thought = reasoning if isinstance(reasoning, str) else ""
    if refusal := message.additional_kwargs.get("refusal"):
        text, reason = str(refusal), "refusal"
    if question.conversation:
        text = json.dumps({"content": text, "tool_calls": message.tool_calls})
    written = text + thought
    estimate = question.about_prompt_tokens, estimate_tokens(written)
    claimed = (usage["input_tokens"], usage["output_tokens"]) if usage else (0, 0)
    most_written = max(question.max_tokens, most_tokens(written)) + HEAD
    possible = 0 <= claimed[0] <= question.most_prompt_tokens + HIDDEN and 0 <= claimed[1] <= most_written
    prompt_tokens, completion_tokens = (
        number if possible and number else about_it for number, about_it in zip(claimed, estimate, strict=True)
    )
    return Reply(
        text,
        str(about.get("model_name") or about.get("model") or ""),
        prompt_tokens,
        completion_tokens,
        _tokens(about.get("logprobs")),
        str(reason),
        thought=bool(thought.strip()),
        claimed=None if possible else claimed,
    )


def message_text(message: BaseMessage) -> str:
    """What a message says, without what differs each time it is made (ids, metadata)."""
    parts = ("type", "content", "tool_calls", "tool_call_id")
    return json.dumps({part: getattr(message, part, None) for part in parts})
