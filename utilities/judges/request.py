"""One request to a judge: its parameters, and parsing of the returned message.

Any langchain chat model can be a judge. Some parameters are optional for servers with OpenAI's protocol only.
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
"""The default server."""

ENVELOPE, HEAD = 16, 64
"""Maximum tokens that a chat template adds to each message, and to the conversation."""


OPENAI_PARAMETERS = frozenset({"response_format", "logprobs", "max_tokens", "max_completion_tokens", "temperature"})
"""Optional parameters of OpenAI's protocol; other chat models list theirs in `judge_extras`."""

NAMES = {
    "seed": re.compile(r"seed", re.IGNORECASE),
    "response_format": re.compile(r"response.?format|json.?schema|structured.?output|guided", re.IGNORECASE),
    "logprobs": re.compile(r"log.?prob", re.IGNORECASE),
    "max_tokens": re.compile(r"(?<![a-z_])max.?tokens", re.IGNORECASE),
    "max_completion_tokens": re.compile(r"max.?completion.?tokens", re.IGNORECASE),
    "temperature": re.compile(r"temperature", re.IGNORECASE),
}
"""Patterns of parameter names in servers' error messages."""

HIDDEN = 512
"""Maximum tokens of instructions that a server itself may add to a prompt."""


@dataclass(frozen=True, slots=True)
class Question:
    """The contents of a request."""

    messages: tuple[Message, ...]
    max_tokens: int
    schema: Mapping[str, Any] | None
    logprobs: bool
    conversation: Sequence[BaseMessage] = ()
    """langchain messages of a conversation with tools; `messages` then has the same content as text."""
    tools: Sequence[Mapping[str, Any]] = ()
    """Tools that the judge may call, as in OpenAI's protocol."""
    replicate: int = 0
    """Number of the repetition."""

    @property
    def most_tokens(self) -> tuple[int, int]:
        """Upper bounds of the tokens of the prompt, including schemas (servers may add them to it), and of the reply.

        A claim of a server above them is not accepted, unless the reply itself is longer than `max_tokens`.
        """
        texts = [message.content for message in self.messages]
        texts += [json.dumps(read) for read in (self.schema, self.tools) if read]
        prompt = sum(most_tokens(text) for text in texts) + ENVELOPE * len(self.messages) + HEAD + HIDDEN
        return prompt, self.max_tokens + HEAD

    @property
    def about_prompt_tokens(self) -> int:
        """Estimated prompt tokens, used if a server reports no usage."""
        return sum(estimate_tokens(message.content) + ENVELOPE for message in self.messages)


def wanted_parameters(chat: BaseChatModel, question: Question, endpoint: str) -> frozenset[str]:
    """The optional parameters of a request, which some servers refuse."""
    # Only langchain's models for OpenAI's protocol have root_async_client.
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
    """The parameter that is named first in a server's message; None if there is none."""
    places = {name: found.start() for name in parameters if (found := NAMES[name].search(words))}
    return min(places, key=places.__getitem__, default=None)


def call_arguments(question: Question, parameters: frozenset[str], chat: BaseChatModel) -> dict[str, Any]:
    """The keyword arguments of one call."""
    arguments: dict[str, Any] = {"max_tokens": question.max_tokens}
    body: dict[str, Any] = {}
    if "max_tokens" in parameters:
        body["max_tokens"] = question.max_tokens
    if "response_format" in parameters:
        form = {"name": "judgement", "schema": question.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    if "logprobs" in parameters:
        arguments |= {"logprobs": True, "top_logprobs": 20}
    if "seed" in parameters:  # differs between repetitions, which must not be identical at a temperature above 0
        arguments["seed"] = question.replicate
    if body:
        arguments["extra_body"] = body
    if hasattr(chat, "root_async_client") and (omitted := {"max_completion_tokens", "temperature"} - parameters):
        arguments["omit"] = tuple(omitted)
    return arguments


def _tokens(logprobs: Any) -> tuple[TokenChoice, ...] | None:
    """The tokens with their alternatives; None if missing or malformed."""
    try:
        choices = tuple(
            TokenChoice(one["token"], {other["token"]: other["logprob"] for other in (*one["top_logprobs"], one)})
            for one in logprobs["content"]
        )
        return choices or None
    except (KeyError, TypeError):
        return None


def read_message(message: AIMessage, question: Question) -> Reply:
    """Converts a langchain message to a reply; missing or implausible usage is estimated."""
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
    most_read, most_written = question.most_tokens
    most_written = max(most_written, most_tokens(written) + HEAD)
    possible = 0 <= claimed[0] <= most_read and 0 <= claimed[1] <= most_written
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
    """The content of a message as JSON, without ids and metadata, which differ between runs."""
    parts = ("type", "content", "tool_calls", "tool_call_id")
    return json.dumps({part: getattr(message, part, None) for part in parts})
