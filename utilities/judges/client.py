"""One judge: a chat model behind an endpoint. No paid reply is lost, and none is paid for twice.

A reply or its failure is a value (`Reply`, `Unscored`); the exception `JudgeStopped` means that no further request can
succeed. `request` builds requests and reads messages, `providers` creates judges.
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
from utilities.judges.parsing import Message, Reply, readable, thinks
from utilities.judges.request import (
    Question,
    call_arguments,
    first_named,
    message_text,
    read_message,
    wanted_parameters,
)
from utilities.judges.request_errors import TAKES_NOTHING, Trouble, diagnose
from utilities.prompts import load_prompt

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage

__all__ = ["Answer", "JudgeClient", "JudgeStopped", "Wait"]

T = TypeVar("T")
Wait = Callable[[float], Awaitable[None]]
"""Sleeps for a number of seconds."""

FIRST_WAIT, MOST_WAIT = 1.0, 30.0
"""Maximum seconds before the second attempt and before any attempt; doubled in between."""

PATIENCE = 4
"""Factor on the number of attempts for a busy server, which has not processed the request yet."""

SILENCE = 300.0
"""Seconds of failed attempts without any reply after which a server counts as unreachable."""

CORRIGIBLE = {Reason.MALFORMED, Reason.OUT_OF_RANGE, Reason.TRUNCATED}
"""Reasons for which a request is repeated; a refusal is final."""

THINKING_ROOM = 4096
"""Default maximum tokens of a reply if the judge reasons before it answers."""

ON_THE_SCALE = frozenset({"logprobs", "response_format"})
"""Parameters that determine the scale of ratings: they are the same for all replies of a run."""

REFUSALS = 3
"""Consecutive refused requests after which a harmless one tests whether the server still accepts any."""

POLL = 0.2
"""Seconds between two checks for a judgement that another process has requested."""


class JudgeStopped(UserError):  # noqa: N818 - the name describes the state of the judge
    """No request to this judge can succeed: a wrong key or model name, no credit, no server."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """The value parsed from a judge's reply."""

    value: T
    reply: Reply
    """The parsed reply."""
    attempts: int
    """1, or 2 if the first reply was malformed."""
    judge: str
    """Its name."""


class JudgeClient:
    """Client of one judge: cached, within the budget, with an adaptive limit on requests in flight.

    Transient errors (429, 408, 409, 5xx, timeouts, lost connections) are retried with exponential backoff (full
    jitter), or after the server's retry-after time; then the item is unscored. Permanent errors (401, 402, 404, no
    credit, no server at the first request, no reply for minutes) stop the judge: all waiting and later calls raise the
    same `JudgeStopped` without a request.

    If a request is refused for another reason and a harmless request with the same parameters succeeds, only this text
    is refused. Otherwise the parameters that the server does not support are omitted for the rest of the run. If
    earlier replies depend on one of them (`ON_THE_SCALE`), the judge is stopped: later ratings would be on another
    scale.

    Consecutive `asyncio.run` calls may use one client: connections belong to an event loop and are closed with it, or
    by `async with`.

    Args:
        model: Creates the chat model, once per event loop. It must not retry by itself: such requests would not be
            counted.
        name: The model's name, in results and in the cache.
        endpoint: Its address; for messages and for the cache.
        price: None if unknown.
        cache: Of replies.
        budget: Shared by all judges of a run.
        max_in_flight: Maximum number of concurrent requests.
        timeout: Seconds for one attempt.
        temperature: Of `model`; part of the key of a cached reply.
        max_tokens: Maximum tokens of a reply, overriding the argument of `ask`; None to use that argument.
        attempts: Maximum requests for one reply; `PATIENCE` times as many more if the server is busy.
        wait: Sleep function.
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
        max_tokens: int | None = None,
        attempts: int = 5,
        wait: Wait = asyncio.sleep,
    ) -> None:
        self.name, self.endpoint, self.price, self.cache, self.budget = name, endpoint, price, cache, budget
        self.notes: list[str] = []
        """Messages to the user about the server; the caller shows and clears them."""
        self._model, self._timeout, self._temperature, self._attempts = model, timeout, temperature, attempts
        self._max_tokens, self._room = max_tokens, 0
        self._limiter = AdaptiveLimiter(max_in_flight)
        self._wait = wait
        self._random = random.Random()  # backoff must not change the global generator
        self._pending: dict[str, asyncio.Task[Reply | Unscored]] = {}
        self._naps: set[asyncio.Future[None]] = set()
        self._first = asyncio.Lock()  # bound to an event loop only while it is contended
        self._stopped: str | None = None
        self._tried = self._answered = False
        self._in_vain = 0  # attempts since the last reply, and when the first of them ended
        self._silent_since = 0.0
        self._accepted: frozenset[str] = frozenset()  # parameters of requests that were answered
        self._unsupported: frozenset[str] = frozenset()
        self._refusals = 0  # requests refused since the last reply
        self._gives_logprobs: bool | None = None
        self._restored = False
        self._connection: AsyncGenerator[BaseChatModel, None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._chat: BaseChatModel
        self._examining: asyncio.Lock
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
        """Requests a reply and parses it; if parsing fails, requests it once more with the parse error.

        Args:
            messages: The conversation.
            read: Parses a reply; `Unscored` if it cannot.
            max_tokens: As in `ask`; doubled after a truncated reply, and `THINKING_ROOM` for a reasoning judge.
            schema: As in `ask`.
            replicate: As in `ask`.
            logprobs: As in `ask`.

        Raises:
            JudgeStopped: No request can succeed.
        """

        def final(reply: Reply) -> bool:
            value = read(reply)
            return not isinstance(value, Unscored) or value.reason is Reason.REFUSED

        question = Question(tuple(messages), self._limit(max_tokens), schema, logprobs, replicate=replicate)
        first = await self._ask(question, final)
        if isinstance(first, Unscored):
            return first
        value = read(first)
        if not isinstance(value, Unscored):
            return Answer(value, first, 1, self.name)
        if value.reason not in CORRIGIBLE:
            return replace(value, raw=first.text)
        cut = value.reason is Reason.TRUNCATED
        if cut and thinks(first) and self._max_tokens is None and question.max_tokens < THINKING_ROOM:
            self._room = THINKING_ROOM
            again = replace(question, max_tokens=THINKING_ROOM)  # for this and all later questions
        else:
            problem = load_prompt("judge_again").render(
                problem=value.detail, schema=json.dumps(schema) if schema is not None else None
            )
            # Some chat templates accept no empty message.
            correction = Message("assistant", first.text.strip() or "(nothing)"), Message("user", problem)
            limit = 2 * question.max_tokens if cut and self._max_tokens is None else question.max_tokens
            again = replace(question, messages=(*messages, *correction), max_tokens=limit)
        second = await self._ask(again, final)
        if isinstance(second, Unscored):
            return replace(second, attempts=second.attempts + 1, raw=first.text)
        value = read(second)
        if isinstance(value, Unscored):
            return replace(value, attempts=2, raw=second.text)
        if not first.cached:
            self.cache.put(self._key(question), replace(first, corrected=True).to_json())
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
        """The judge's reply, from the cache if possible; concurrent equal questions share one request.

        Args:
            messages: The conversation.
            max_tokens: Maximum tokens of the reply.
            schema: JSON schema of the reply, for servers that can enforce one. OpenAI requires that every object
                forbids additional properties and requires all of its properties.
            replicate: Number of the repetition.
            logprobs: Whether to request the most likely tokens at each position. Either all replies of a run have them
                or none: if a server returns them for some questions only, the other questions are unscored.

        Returns:
            The reply, or the reason for its absence: `transport` after all attempts, `budget`, or the server's refusal
            of this text (`truncated`: too long for the model; `refused`).

        Raises:
            JudgeStopped: No request can succeed.
        """
        question = Question(tuple(messages), self._limit(max_tokens), schema, logprobs, replicate=replicate)
        return await self._ask(question, readable)

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
            tools: The tools, as in OpenAI's protocol.
            max_tokens: As in `ask`.
            replicate: As in `ask`.

        Raises:
            JudgeStopped: No request can succeed.
        """
        from langchain_core.messages import AIMessage

        messages = tuple(Message("user", message_text(message)) for message in conversation)
        question = Question(messages, self._limit(max_tokens), None, False, tuple(conversation), tools, replicate)
        reply = await self._ask(question, _says_something)
        if isinstance(reply, Unscored):
            return reply
        return AIMessage(**json.loads(reply.text), response_metadata={"finish_reason": reply.finish_reason})

    def _limit(self, max_tokens: int) -> int:
        return self._max_tokens or max(max_tokens, self._room)

    def _key(self, question: Question) -> str:
        parameters: dict[str, Any] = {
            "temperature": self._temperature,
            "max_tokens": question.max_tokens,
            "schema": question.schema,
            "logprobs": question.logprobs,
        }
        if question.tools:
            parameters["tools"] = question.tools
        return cache_key(
            endpoint=self.endpoint,
            model=self.name,
            messages=question.messages,
            parameters=parameters,
            replicate=question.replicate,
        )

    async def _ask(self, question: Question, final: Callable[[Reply], bool]) -> Reply | Unscored:
        """As `ask`; only a `final` reply is stored, any other one is requested again by the next call."""
        self._raise_if_stopped()
        self._restore()
        key = self._key(question)
        if (stored := self._stored(key, question, final)) is not None:
            self.budget.spent.cached += 1
            return self._on_one_scale(stored, question, final)
        if (task := self._pending.get(key)) is not None:
            self.budget.spent.cached += 1
        else:
            task = self._pending[key] = asyncio.create_task(self._reply_to(question, key, final))
            task.add_done_callback(lambda done: self._forget(key, done))
        # The caller may be cancelled; the request continues, and its reply is stored.
        result = await asyncio.shield(task)
        return self._on_one_scale(result, question, final) if isinstance(result, Reply) else result

    def _stored(self, key: str, question: Question, final: Callable[[Reply], bool]) -> Reply | None:
        """The cached reply; None if it is missing, could not be parsed or is on another scale."""
        if (text := self.cache.get(key)) is None:
            return None
        reply = replace(Reply.from_json(text), cached=True)
        other_scale = question.logprobs and self._gives_logprobs is True and reply.tokens is None
        return None if other_scale or not (reply.corrected or final(reply)) else reply

    def _on_one_scale(self, reply: Reply, question: Question, final: Callable[[Reply], bool]) -> Reply | Unscored:
        """The reply on the run's common scale: with log-probabilities for all replies, or for none."""
        if not question.logprobs or not final(reply):
            return reply
        if self._gives_logprobs is None:
            self._gives_logprobs = reply.tokens is not None
            self._save()
            if not self._gives_logprobs:
                self._note("returns no log-probabilities, so ratings are read as written, for the whole run")
        if not self._gives_logprobs:
            return replace(reply, tokens=None)
        if reply.tokens is None:
            detail = "the reply has no log-probabilities, but earlier replies of this run have"
            return Unscored(Reason.MALFORMED, detail, raw=reply.text)
        return reply

    def _restore(self) -> None:
        """Restores facts about the server from earlier parts of the run."""
        if self._restored or self.budget.ledger is None:
            return
        self._restored = True
        if isinstance(fact := self.budget.ledger.fact(f"judge {self.name}"), dict):
            self._accepted |= frozenset(fact["accepted"])
            self._unsupported |= frozenset(fact["unsupported"])
            self._gives_logprobs = fact["logprobs"]

    def _save(self) -> None:
        if self.budget.ledger is not None:
            scale = sorted(self._accepted & ON_THE_SCALE)
            fact = {"accepted": scale, "unsupported": sorted(self._unsupported), "logprobs": self._gives_logprobs}
            self.budget.ledger.set_fact(f"judge {self.name}", fact)

    def _note(self, words: str) -> None:
        note = f"judge {self.name} at {_public(self.endpoint)} {words}"
        if note not in self.notes:
            self.notes.append(note)

    async def finish(self) -> None:
        """Sends no further requests, and waits for the replies in flight, which are paid and stored."""
        if self._stopped is None:
            self._end(f"judge {self.name} takes no more requests: the run has ended")
        await asyncio.gather(*self._pending.values(), return_exceptions=True)

    async def close(self) -> None:
        """Cancels requests in flight and closes the connections; the cache and the budget belong to the caller."""
        pending = list(self._pending.values())
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        if self._connection is not None and self._loop is asyncio.get_running_loop():
            await self._connection.aclose()

    def _forget(self, key: str, done: asyncio.Task[Reply | Unscored]) -> None:
        del self._pending[key]
        if not done.cancelled():
            done.exception()  # retrieved here, because the caller may be gone

    async def _reply_to(self, question: Question, key: str, final: Callable[[Reply], bool]) -> Reply | Unscored:
        """A reply from another process's pending request if there is one, otherwise from a new request."""
        while not self.cache.claim(key):
            await self._wait(POLL)
            self._raise_if_stopped()
            if (stored := self._stored(key, question, final)) is not None:
                self.budget.spent.cached += 1
                return stored
        try:
            if (stored := self._stored(key, question, final)) is not None:  # by another process, just now
                self.budget.spent.cached += 1
                return stored
            return await self._requested(question, key, final)
        finally:
            self.cache.release(key)

    async def _requested(self, question: Question, key: str, final: Callable[[Reply], bool]) -> Reply | Unscored:
        """A reply after at most the allowed number of attempts."""
        failures: Counter[bool] = Counter()
        attempt = 0

        def store(reply: Reply) -> None:
            if final(reply):
                self.cache.put(key, reply.to_json())

        while True:
            attempt += 1
            async with self._limiter.slot() as slot:
                result = await self._first_alone(question, store)
                if isinstance(result, Reply):
                    slot.went_well()
                    return result
                if result is None:
                    return Unscored(Reason.BUDGET, "no budget is left for another judgement", attempt)
                self._stop_if_vain(result)
                if result.then == "skip":
                    return Unscored(result.reason, result.words, attempt)
                slot.met_trouble()
            failures[result.busy] += 1
            if failures[result.busy] == self._attempts * (PATIENCE if result.busy else 1):
                if result.unpaid and result.advice and not self._answered:
                    self._stop(result.words, result.advice)
                return Unscored(Reason.TRANSPORT, f"{attempt} attempts; the last one: {result.words}", attempt)
            await self._rest(failures[result.busy], result.retry_after)

    async def _first_alone(self, question: Question, store: Callable[[Reply], None]) -> Reply | Trouble | None:
        """As `_attempt`, but the first one has no other beside it: a wrong key costs a single request."""
        while not self._tried:
            async with self._first:
                self._raise_if_stopped()
                if not self._tried:
                    try:
                        return await self._attempt(question, store)
                    finally:
                        self._tried = True
        self._raise_if_stopped()
        return await self._attempt(question, store)

    async def _attempt(self, question: Question, store: Callable[[Reply], None]) -> Reply | Trouble | None:
        """One attempt, without unsupported parameters; None if the budget does not allow it."""
        chat = await self._connected()
        while True:
            parameters = wanted_parameters(chat, question, self.endpoint) - self._unsupported
            result = await self._request(chat, question, parameters, store)
            if not isinstance(result, Trouble) or result.then != "examine":
                return result
            async with self._examining:
                self._raise_if_stopped()
                if not parameters & self._unsupported:  # else: another task has already detected it
                    verdict = await self._examine(chat, question, parameters, result)
                    if verdict is not RETRY:
                        return verdict

    async def _examine(
        self, chat: BaseChatModel, question: Question, parameters: frozenset[str], refusal: Trouble
    ) -> Trouble | None:
        """Determines why a server refused a request.

        Returns:
            `RETRY` if parameters were omitted, else the result for this request; None without budget.
        """
        named = first_named(f"{refusal.param} {refusal.words}", parameters)
        if named is not None and named not in self._accepted:
            self._leave_out(frozenset({named}), refusal)
            return RETRY
        this_text = replace(refusal, then="skip", advice="")
        self._refusals += 1
        if named is None and self._answered and parameters <= self._accepted and self._refusals < REFUSALS:
            return this_text

        async def harmless(tried: frozenset[str]) -> Reply | Trouble | None:
            probe = replace(question, messages=(Message("user", HARMLESS),), conversation=(), tools=())
            result = await self._request(chat, probe, tried)
            if isinstance(result, Trouble) and result.then == "examine":  # repeated: refusals can be random
                result = await self._request(chat, probe, tried)
            return result

        result = await harmless(parameters)
        if isinstance(result, Reply):
            return this_text
        if result is None or result.then != "examine":
            return result
        if not parameters or not isinstance(await harmless(frozenset()), Reply):
            return replace(result, then="stop")
        culprits = {name for name in sorted(parameters) if not isinstance(await harmless(frozenset({name})), Reply)}
        self._leave_out(frozenset(culprits) or parameters, result)
        return RETRY

    def _leave_out(self, parameters: frozenset[str], refusal: Trouble) -> None:
        """Omits parameters for the rest of the run, or stops if that would change the scale of ratings."""
        names = ", ".join(sorted(parameters))
        if "temperature" in parameters:
            self._stop(refusal.words, "Choose a temperature that the model takes with --judge-temperature")
        if {"max_tokens", "max_completion_tokens"} <= self._unsupported | parameters:
            self._stop(refusal.words, "Choose a limit that the model takes with --judge-max-tokens")
        used = self._accepted | (frozenset({"logprobs"}) if self._gives_logprobs else frozenset())
        if parameters & used & ON_THE_SCALE:
            advice = (
                f"The server no longer takes {names}: ratings from now on would be on another scale than earlier ones"
            )
            self._stop(refusal.words, advice)
        self._unsupported |= parameters
        if "logprobs" in parameters:
            self._gives_logprobs = False
        self._save()
        self._note(f"does not take {names} ({refusal.words}); left out for the whole run")

    async def _request(
        self,
        chat: BaseChatModel,
        question: Question,
        parameters: frozenset[str],
        store: Callable[[Reply], None] = lambda reply: None,
    ) -> Reply | Trouble | None:
        """One request, which is always counted; its reply and its cost are stored in one transaction."""
        most = question.most_tokens
        reserved = sum(most), self._usd(*most)
        if not await self.budget.reserve(*reserved):
            return None
        # Counted if the server may have processed the request, but its usage is lost: under a limit the maximum.
        lost = most if self.budget.is_limited else (question.about_prompt_tokens, question.max_tokens)
        entry = self.budget.begin(*lost, self._usd(*lost))

        def settle(prompt_tokens: int, completion_tokens: int, *, failed: bool = False) -> None:
            cost = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
            usd = self._usd(prompt_tokens, completion_tokens)
            self.budget.settle(*reserved, **cost, usd=usd, failed=failed, entry=entry)

        try:
            async with asyncio.timeout(self._timeout):
                model = chat.bind_tools([dict(one) for one in question.tools]) if question.tools else chat
                messages: list[Any] = list(question.conversation or question.messages)
                message = await model.ainvoke(messages, **call_arguments(question, parameters, chat))
            reply = read_message(message, question)
        except Exception as error:
            trouble = diagnose(error, self._secrets)
            if trouble.maybe_paid:
                settle(*lost, failed=True)
            else:
                self.budget.release(*reserved, entry)
            return trouble
        except BaseException:  # cancelled
            settle(*lost)
            raise
        with self.cache.transaction():
            store(reply)
            settle(reply.prompt_tokens, reply.completion_tokens)
        if reply.claimed is not None:
            self._note("reports numbers of tokens that cannot be right; an estimate is counted instead")
        self._answered, self._in_vain, self._refusals = True, 0, 0
        if not parameters <= self._accepted:
            self._accepted |= parameters
            self._save()
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
        """Stops the judge if no request can succeed, or if none was ever answered and no server is reachable."""
        self._raise_if_stopped()
        if trouble.then == "stop":
            self._stop(trouble.words, trouble.advice or TAKES_NOTHING)
        if not self._answered and not trouble.sent:
            self._stop(trouble.words, "No server was reached: is it running? Check --judge-url")
        if trouble.then == "again":
            now, self._in_vain = time.monotonic(), self._in_vain + 1
            self._silent_since = now if self._in_vain == 1 else self._silent_since
            # Twice the attempts of one question: one question alone does not show that the server is down.
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
            self._connection, self._loop, self._examining = connection, loop, asyncio.Lock()
            self._secrets = [value for value in vars(self._chat).values() if isinstance(value, SecretStr)]
        return self._chat

    async def _connect(self) -> AsyncGenerator[BaseChatModel, None]:
        """A generator, because asyncio closes open generators before it closes their loop."""
        chat = self._model()
        try:
            yield chat
        finally:
            if self._loop is asyncio.get_running_loop():
                self._loop = None
            await _hang_up(chat)


def _public(endpoint: str) -> str:
    """An address without its credentials."""
    parts = urlsplit(endpoint)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


HARMLESS = "Reply with the word yes."
RETRY = Trouble("", "again")
"""Send the request again at once, with other parameters."""


def _says_something(reply: Reply) -> bool:
    """Whether a message in a conversation with tools has text or calls a tool."""
    message = json.loads(reply.text)
    return bool(message["content"].strip() or message["tool_calls"])


async def _hang_up(chat: BaseChatModel) -> None:
    if (client := getattr(chat, "root_async_client", None)) is not None:
        await client.close()
