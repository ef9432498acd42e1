"""A judge that searches for evidence itself: a langchain agent with one tool and hard limits.

Its requests go through its `JudgeClient` like any other request: cached, counted, within the budget, retried if
possible. Importing this file imports langchain; only agent judges need it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import ModelCallLimitMiddleware, ToolCallLimitMiddleware
from langchain.agents.middleware.model_call_limit import ModelCallLimitExceededError
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool

from utilities.core import Reason, Unscored
from utilities.judges.claim_verdicts import JudgedClaim, Vote, as_verdict
from utilities.judges.client import JudgeClient
from utilities.judges.evidence import Passage
from utilities.judges.parsing import Reply
from utilities.judges.search_tool import SearchFailed
from utilities.prompts import fenced, load_prompt

__all__ = ["FactAgent", "Search"]

Search = Callable[[str], Awaitable[Sequence[Passage]]]
"""Returns passages for a query, for example `Factuality.search`."""

PROMPT = "factuality_agent"
TOKENS = 1024
"""Maximum tokens of one message: a model that reasons before it calls a tool needs more than a plain judge."""


class FactAgent:
    """Reaches a verdict on a claim by searching, up to a maximum number of searches.

    The limits are agent middleware. A search beyond the limit returns an error message. After `searches + 2` messages
    (one for that error, one for the verdict) the agent stops without a verdict. A verdict that cannot be parsed is
    requested once more, without the tool.

    Args:
        judge: The judge; its server must support tool calls.
        search: The tool.
        searches: Maximum number of searches for one claim.
        replicate: Number of the repetition, as in `JudgeClient.ask`.
    """

    def __init__(self, judge: JudgeClient, search: Search, searches: int, replicate: int = 0) -> None:
        self.judge, self.searches, self.replicate = judge, searches, replicate
        self._prompt = load_prompt(PROMPT)
        limits: list[Any] = [  # each has its own state type, which a typed list would not allow
            ToolCallLimitMiddleware(run_limit=searches, exit_behavior="continue"),
            ModelCallLimitMiddleware(run_limit=searches + 2, exit_behavior="error"),
        ]
        self._agent = create_agent(_Turns(judge=judge, replicate=replicate), [_tool(search)], middleware=limits)

    async def vote(self, claim: str) -> Vote:
        """The verdict on a claim, with all retrieved passages.

        Raises:
            JudgeStopped: No request to the judge can succeed.
        """
        request = HumanMessage(self._prompt.render(claim=claim, searches=self.searches))
        try:
            state = await self._agent.ainvoke({"messages": [request]}, {"recursion_limit": 10 * (self.searches + 3)})
        except ModelCallLimitExceededError:
            limit = f"no verdict within {self.searches + 2} messages"
            return Vote(self.judge.name, Unscored(Reason.MALFORMED, limit, self.searches + 2))
        except (_Silent, SearchFailed) as silent:
            return Vote(self.judge.name, silent.why)
        messages: list[BaseMessage] = state["messages"]
        verdict = _verdict(messages[-1])
        if isinstance(verdict, Unscored) and verdict.reason in {Reason.MALFORMED, Reason.TRUNCATED}:
            verdict = await self._once_more(messages, verdict)
        passages = [
            passage for message in messages if isinstance(message, ToolMessage) for passage in message.artifact or ()
        ]
        return Vote(self.judge.name, verdict, tuple(dict.fromkeys(passages)))

    async def _once_more(self, messages: Sequence[BaseMessage], problem: Unscored) -> JudgedClaim | Unscored:
        correction = load_prompt("judge_again").render(problem=problem.detail, schema=None)
        turn = await self.judge.turn(
            [*messages, HumanMessage(correction)], (), max_tokens=2 * TOKENS, replicate=self.replicate
        )
        return turn if isinstance(turn, Unscored) else _verdict(turn)


def _verdict(message: BaseMessage) -> JudgedClaim | Unscored:
    return as_verdict(Reply(message.text, finish_reason=message.response_metadata.get("finish_reason", "stop")))


def _tool(search: Search) -> Any:
    @tool("search", response_format="content_and_artifact")
    async def found(query: str) -> tuple[str, Sequence[Passage]]:
        """Finds passages of documents that have words in common with the query."""
        passages = await search(query)
        numbered = "\n".join(f"{number}. {passage.text}" for number, passage in enumerate(passages, 1))
        return fenced(numbered, "found") if passages else "Nothing was found.", passages

    return found


class _Silent(Exception):  # noqa: N818 - not an error: it ends the agent's loop
    """The judge gave no reply."""

    def __init__(self, why: Unscored) -> None:
        super().__init__(why.detail)
        self.why = why


class _Turns(BaseChatModel):
    """Adapts a judge to langchain's chat model interface."""

    judge: Any
    replicate: int

    @property
    def _llm_type(self) -> str:
        return "judge"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Runnable[Any, AIMessage]:
        """The model with tools that it may call."""
        return self.bind(tools=[convert_to_openai_tool(one) for one in tools])

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError("judges are asked asynchronously")

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, tools: Any = (), **_: Any
    ) -> ChatResult:
        turn = await self.judge.turn(messages, tools, max_tokens=TOKENS, replicate=self.replicate)
        if isinstance(turn, Unscored):
            raise _Silent(turn)
        return ChatResult(generations=[ChatGeneration(message=turn)])
