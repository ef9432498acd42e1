"""One judge: a chat model behind an endpoint, asked so that nothing paid for is lost and nothing is paid twice.

What a judge says, or why it said nothing, is a value (`Reply`, `Unscored`); only what makes every further question
vain is an exception, `JudgeStopped`. What is sent and how it is read is in `question`, who can be a judge in
`connect`.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from utilities.core import Reason, Unscored
from utilities.errors import UserError
from utilities.judges.budget import Budget, Price
from utilities.judges.cache import JudgementCache, cache_key
from utilities.judges.concurrency import AdaptiveLimiter
from utilities.judges.parsing import Message, Reply
from utilities.judges.request import Question, call_arguments, read_message, told, wanted_extras
from utilities.judges.request_errors import Trouble, diagnose
from utilities.prompts import load_prompt

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage

__all__ = ["Answer", "JudgeClient", "JudgeStopped", "Wait"]

T = TypeVar("T")
Wait = Callable[[float], Awaitable[None]]
"""Sleeps so many seconds."""

FIRST_WAIT, MOST_WAIT = 1.0, 30.0
"""Seconds before a second attempt at most, and before any; doubled in between."""

PATIENCE = 4
"""Times as many attempts at a server that is busy: it has worked on none of them, and says that it will later."""

SILENCE = 300.0
"""Seconds in which many attempts brought no reply to any question, after which a server is taken for gone."""

CORRIGIBLE = {Reason.MALFORMED, Reason.OUT_OF_RANGE, Reason.TRUNCATED}
"""What a judge may do better when told; a refusal is an answer."""


class JudgeStopped(UserError):  # noqa: N818 - it says what happened to the judge
    """No question to this judge can succeed: a wrong key or model name, no credit, no server."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What was read from a judge's reply."""

    value: T
    reply: Reply
    """The reply that the value was read from."""
    attempts: int
    """1, or 2 where the judge had to be corrected."""
    judge: str
    """Its name."""


class JudgeClient:
    """Asks one judge: cached, within the budget, as many questions at a time as the server bears, again where it helps.

    What can pass is tried again with growing random waits (full jitter), or after the wait that the server asks for:
    429, 408, 409, 5xx, timeouts, lost connections. After that the item is unscored. What cannot pass (401, 402, 403,
    404, no credit, no server at the first question, no reply to anybody for minutes) stops the judge: everyone who
    waits, and everyone who asks later, gets the same `JudgeStopped` without a request.

    Several `asyncio.run` one after another may use one client: connections belong to an event loop and are closed with
    it. Elsewhere `async with` closes them.

    Args:
        model: Makes the chat model, once an event loop. It must not retry by itself: then its requests would go
            uncounted.
        name: The model's name, as it stands in results and in the cache.
        endpoint: Where it is asked; for messages and for the cache.
        price: None where it is not known.
        cache: Where replies are kept.
        budget: What all judges together may spend.
        max_in_flight: Requests at the same time at most.
        timeout: Seconds for one attempt.
        temperature: What `model` was made with; part of what a cached reply is found by.
        attempts: Requests for one reply at most; `PATIENCE` times as many more where a server is busy.
        wait: Sleeps; tests put something shorter.
    """

    def __init__(
        self,
        model: Callable[[], BaseChatModel],
        *,
        name: str,
        endpoint: str,
        price: Price | None,
        cache: JudgementCache,
        budget: Budget,
        max_in_flight: int = 32,
        timeout: float = 60.0,
        temperature: float = 0.0,
        attempts: int = 5,
        wait: Wait = asyncio.sleep,
    ) -> None:
        self.name, self.endpoint, self.price, self.cache, self.budget = name, endpoint, price, cache, budget
        self._model, self._timeout, self._temperature, self._attempts = model, timeout, temperature, attempts
        self._limiter = AdaptiveLimiter(max_in_flight)
        self._wait = wait
        self._random = random.Random()  # waits must not move the generator that others seed
        self._asking: dict[str, asyncio.Task[Reply | Unscored]] = {}
        self._naps: set[asyncio.Future[None]] = set()
        self._stopped: str | None = None
        self._answered = False
        self._in_vain = 0  # attempts since the last reply, and when the first of them ended
        self._silent_since = 0.0
        self._unknown: frozenset[str] = frozenset()
        self._connection: AsyncGenerator[BaseChatModel, None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._chat: BaseChatModel
        self._secrets: list[SecretStr] = []

    async def __aenter__(self) -> JudgeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def ask_for(
        self,
        messages: Sequence[Message],
        read: Callable[[Reply], T | Unscored],
        *,
        max_tokens: int = 512,
        schema: Mapping[str, Any] | None = None,
        replicate: int = 0,
        logprobs: bool = False,
    ) -> Answer[T] | Unscored:
        """Asks, and reads the reply; what could not be read is asked once more, with what was wrong about it.

        Args:
            messages: The conversation.
            read: Makes a value of a reply, or says why it cannot.
            max_tokens: As in `ask`; twice as many after a reply that was cut off.
            schema: As in `ask`.
            replicate: As in `ask`.
            logprobs: As in `ask`.

        Raises:
            JudgeStopped: No question can succeed.
        """
        first = await self.ask(messages, max_tokens=max_tokens, schema=schema, replicate=replicate, logprobs=logprobs)
        if isinstance(first, Unscored):
            return first
        value = read(first)
        if not isinstance(value, Unscored):
            return Answer(value, first, 1, self.name)
        if value.reason not in CORRIGIBLE:
            return replace(value, raw=first.text)
        problem = load_prompt("judge_again").render(
            problem=value.detail, schema=json.dumps(schema) if schema is not None else None
        )
        second = await self.ask(
            # Some chat templates take no empty message.
            [*messages, Message("assistant", first.text.strip() or "(nothing)"), Message("user", problem)],
            max_tokens=2 * max_tokens if value.reason is Reason.TRUNCATED else max_tokens,
            schema=schema,
            replicate=replicate,
            logprobs=logprobs,
        )
        if isinstance(second, Unscored):
            return replace(second, attempts=second.attempts + 1, raw=first.text)
        value = read(second)
        if isinstance(value, Unscored):
            return replace(value, attempts=2, raw=second.text)
        return Answer(value, second, 2, self.name)

    async def ask(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int = 512,
        schema: Mapping[str, Any] | None = None,
        replicate: int = 0,
        logprobs: bool = False,
    ) -> Reply | Unscored:
        """The judge's reply, from the cache where it is; equal questions at the same time share one request.

        Args:
            messages: The conversation.
            max_tokens: Tokens of the reply at most.
            schema: JSON schema of the reply, for servers that can hold a model to one. OpenAI's own asks that every
                object forbids additional properties and requires all of its own.
            replicate: Number of the repetition.
            logprobs: Whether the likeliest tokens in each place are wanted; not every server gives them.

        Returns:
            The reply, or why there is none: `transport` after all attempts, `budget`, or what the server has against
            this one question (`truncated`: too long for the model; `refused`).

        Raises:
            JudgeStopped: No question can succeed.
        """
        return await self._ask(Question(tuple(messages), max_tokens, schema, logprobs, replicate=replicate))

    async def turn(
        self,
        conversation: Sequence[BaseMessage],
        tools: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int = 512,
        replicate: int = 0,
    ) -> AIMessage | Unscored:
        """The judge's next message in a conversation in which it may call tools; otherwise as `ask`.

        Args:
            conversation: langchain's messages, with calls of tools and their results.
            tools: What may be called, as in OpenAI's protocol.
            max_tokens: As in `ask`.
            replicate: As in `ask`.

        Raises:
            JudgeStopped: No question can succeed.
        """
        from langchain_core.messages import AIMessage

        spoken = tuple(Message("user", told(message)) for message in conversation)
        reply = await self._ask(Question(spoken, max_tokens, None, False, tuple(conversation), tools, replicate))
        if isinstance(reply, Unscored):
            return reply
        return AIMessage(**json.loads(reply.text), response_metadata={"finish_reason": reply.finish_reason})

    async def _ask(self, question: Question) -> Reply | Unscored:
        self._raise_if_stopped()
        parameters: dict[str, Any] = {
            "temperature": self._temperature,
            "max_tokens": question.max_tokens,
            "schema": question.schema,
            "logprobs": question.logprobs,
        }
        if question.tools:
            parameters["tools"] = question.tools
        key = cache_key(
            endpoint=self.endpoint,
            model=self.name,
            messages=question.messages,
            parameters=parameters,
            replicate=question.replicate,
        )
        if (kept := self.cache.get(key)) is not None:
            self.budget.spent.cached += 1
            return replace(Reply.from_json(kept), cached=True)
        if (task := self._asking.get(key)) is not None:
            self.budget.spent.cached += 1
        else:
            task = self._asking[key] = asyncio.create_task(self._reply_to(question, key))
            task.add_done_callback(lambda done: self._forget(key, done))
        # Who asked may be cancelled; the request goes on, and what it costs buys a judgement that is kept.
        return await asyncio.shield(task)

    async def finish(self) -> None:
        """Sends nothing more, and waits for the replies that are on their way: they are paid for, and kept."""
        if self._stopped is None:
            self._end(f"judge {self.name} is asked no more: the run has ended")
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def close(self) -> None:
        """Ends what is in flight and closes the connections; the cache and the budget belong to others."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        if self._connection is not None and self._loop is asyncio.get_running_loop():
            await self._connection.aclose()

    def _forget(self, key: str, done: asyncio.Task[Reply | Unscored]) -> None:
        del self._asking[key]
        if not done.cancelled():
            done.exception()  # seen: whoever asked may be gone

    async def _reply_to(self, question: Question, key: str) -> Reply | Unscored:
        """A reply after as many attempts as it takes and is allowed."""
        failures: Counter[bool] = Counter()
        attempt = 0
        while True:
            attempt += 1
            async with self._limiter.slot() as slot:
                self._raise_if_stopped()
                found = await self._attempt(question)
                if isinstance(found, Reply):
                    slot.went_well()
                    self.cache.put(key, found.to_json())
                    return found
                if found is None:
                    return Unscored(Reason.BUDGET, "no budget is left for another judgement", attempt)
                self._stop_if_vain(found)
                if found.then == "skip":
                    return Unscored(found.reason, found.words, attempt)
                slot.met_trouble()
            failures[found.busy] += 1
            if failures[found.busy] == self._attempts * (PATIENCE if found.busy else 1):
                return Unscored(Reason.TRANSPORT, f"{attempt} attempts; the last one: {found.words}", attempt)
            await self._rest(failures[found.busy], found.retry_after)

    async def _attempt(self, question: Question) -> Reply | Trouble | None:
        """One attempt, without what the server turns out not to know; None where the budget does not allow it."""
        chat = await self._connected()
        left_out = self._unknown
        extras = wanted_extras(chat, question, self.endpoint) - left_out
        while True:
            found = await self._request(chat, question, extras)
            if isinstance(found, Reply):
                self._unknown |= left_out
                self._answered, self._in_vain = True, 0
                return found
            if found is None or found.then != "skip" or found.reason is not Reason.TRANSPORT or not extras:
                return found
            words = found.words
            named = frozenset(extra for extra in extras if extra in words) or extras
            left_out, extras = left_out | named, extras - named

    async def _request(self, chat: BaseChatModel, question: Question, extras: frozenset[str]) -> Reply | Trouble | None:
        """One request; the budget knows about it whatever happens."""
        most = question.most_prompt_tokens
        reserved = most + question.max_tokens, self._usd(most, question.max_tokens)
        if not await self.budget.reserve(*reserved):
            return None
        expected = question.about_prompt_tokens, question.max_tokens
        entry = self.budget.begin(*expected, self._usd(*expected))

        def settle(prompt_tokens: int, completion_tokens: int, *, failed: bool = False) -> None:
            cost = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
            usd = self._usd(prompt_tokens, completion_tokens)
            self.budget.settle(*reserved, **cost, usd=usd, failed=failed, entry=entry)

        try:
            async with asyncio.timeout(self._timeout):
                asked = chat.bind_tools([dict(one) for one in question.tools]) if question.tools else chat
                messages: list[Any] = list(question.conversation or question.messages)
                message = await asked.ainvoke(messages, **call_arguments(question, extras))
            reply = read_message(message, question)
        except Exception as error:
            trouble = diagnose(error, self._secrets)
            if trouble.maybe_paid:
                # A hard limit counts what a server may have worked on, though nobody will say how much that was.
                settle(*expected, failed=True)
            else:
                self.budget.release(*reserved, entry)
            return trouble
        except BaseException:  # cancelled on the way
            settle(*expected)
            raise
        settle(reply.prompt_tokens, reply.completion_tokens)
        return reply

    def _usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return None if self.price is None else self.price.usd(prompt_tokens, completion_tokens)

    async def _rest(self, attempt: int, retry_after: float | None) -> None:
        """Waits before the next attempt, or until the judge is stopped."""
        most = FIRST_WAIT if retry_after is not None else min(MOST_WAIT, FIRST_WAIT * 2 ** (attempt - 1))
        seconds = self._random.uniform(0.0, most) + (retry_after or 0.0)
        with self._limiter.paused() if retry_after is not None else nullcontext():
            nap = asyncio.ensure_future(self._wait(seconds))
            self._naps.add(nap)
            try:
                await nap
            except asyncio.CancelledError:
                self._raise_if_stopped()
                raise
            finally:
                self._naps.discard(nap)

    def _stop_if_vain(self, trouble: Trouble) -> None:
        """Stops the judge where no question can succeed, also where none ever has and none can be seen to."""
        self._raise_if_stopped()
        if not self._answered and not trouble.sent:
            self._stop(trouble.words, "No server was reached: is it running? Check --judge-url")
        if trouble.advice and (trouble.then == "stop" or not self._answered):
            self._stop(trouble.words, trouble.advice)
        if trouble.then == "again":
            now, self._in_vain = time.monotonic(), self._in_vain + 1
            self._silent_since = now if self._in_vain == 1 else self._silent_since
            # Twice as many as one question has: it takes more than one to say something of the server.
            if self._in_vain >= 2 * self._attempts and now - self._silent_since >= SILENCE:
                self._stop(trouble.words, f"For {SILENCE / 60:.0f} minutes no question was answered")

    def _stop(self, words: str, advice: str) -> NoReturn:
        why = f"judge {self.name} at {_public(self.endpoint)}: {words.rstrip('. ')}. {advice}."
        self._end(why)
        raise JudgeStopped(why)

    def _end(self, why: str) -> None:
        self._stopped = why
        for nap in self._naps:
            nap.cancel()

    def _raise_if_stopped(self) -> None:
        if self._stopped is not None:
            raise JudgeStopped(self._stopped)

    async def _connected(self) -> BaseChatModel:
        """The chat model of the running event loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            connection = self._connect()
            self._chat = await anext(connection)
            self._connection, self._loop = connection, loop
            self._secrets = [value for value in vars(self._chat).values() if isinstance(value, SecretStr)]
        return self._chat

    async def _connect(self) -> AsyncGenerator[BaseChatModel, None]:
        """A generator, because asyncio closes those that are still open before it closes their loop."""
        chat = self._model()
        try:
            yield chat
        finally:
            if self._loop is asyncio.get_running_loop():
                self._loop = None
            await _hang_up(chat)


def _public(endpoint: str) -> str:
    """An address without the credentials that may stand in it."""
    parts = urlsplit(endpoint)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


async def _hang_up(chat: BaseChatModel) -> None:
    if (client := getattr(chat, "root_async_client", None)) is not None:
        await client.close()
