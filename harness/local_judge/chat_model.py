"""A langchain chat model that answers with a `LocalModel` in this process.

    chat = LocalChatModel(local=LocalModel(BASE, JUDGE))
    message = await chat.ainvoke("Rate this answer: ...", max_tokens=8, logprobs=True, top_logprobs=20)

Requests that wait while a batch computes form the next batch. A batch computes in a thread of the event loop's default
executor, so the loop is not blocked; the executor's threads end with `asyncio.run`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import ConfigDict, PrivateAttr

from harness.local_judge.model import ChatRequest, Completion, LocalModel, Prompt, PromptError, split_batches

__all__ = ["LocalChatModel"]

GATHER_SECONDS = 0.003
"""A batch starts when no further request has arrived for so long: clients send the next requests one after another."""

ROLES = {"system": "system", "human": "user", "ai": "assistant"}
"""langchain's message types and the roles of chat templates."""

ARGUMENTS = {"max_tokens", "logprobs", "top_logprobs", "seed"}
"""The arguments of a call. Others are refused, because they would have no effect."""


class LocalChatModel(BaseChatModel):
    """Answers with a model in this process; one event loop after another, or several in threads, may use it."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    judge_extras: ClassVar[frozenset[str]] = frozenset({"logprobs", "seed"})
    """Optional arguments that a judge's client may send, as in `utilities.judges.request`."""

    local: LocalModel
    temperature: float = 0.0
    name: str | None = "local"
    """Reported as the model's name in the response metadata."""
    _queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = PrivateAttr(default_factory=WeakKeyDictionary)

    @property
    def _llm_type(self) -> str:
        return "model-swarms-local"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        (completion,) = self.local.generate([self._prompt(messages, stop, kwargs)])
        return self._result(completion)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        prompt = self._prompt(messages, stop, kwargs)
        loop = asyncio.get_running_loop()
        if (queue := self._queues.get(loop)) is None:
            queue = self._queues[loop] = _Queue(self.local)
        return self._result(await queue.submit(prompt))

    def _prompt(self, messages: Sequence[BaseMessage], stop: Sequence[str] | None, kwargs: dict[str, Any]) -> Prompt:
        """The messages in tokens.

        Raises:
            PromptError: Something that this model does not support, or as in `LocalModel.encode`.
        """
        unsupported = sorted(kwargs.keys() - ARGUMENTS) + ["stop"] * bool(stop)
        if unsupported:
            raise PromptError(f"not supported by this model: {', '.join(unsupported)}")
        for message in messages:
            if message.type not in ROLES or not isinstance(message.content, str):
                raise PromptError("only text messages of system, user and assistant are supported by this model")
        request = ChatRequest(
            [(ROLES[message.type], str(message.content)) for message in messages],
            max_tokens=kwargs.get("max_tokens"),
            temperature=self.temperature,
            seed=kwargs.get("seed", 0),
            top_logprobs=kwargs.get("top_logprobs", 0) if kwargs.get("logprobs") else None,
        )
        return self.local.encode(request)

    def _result(self, completion: Completion) -> ChatResult:
        metadata: dict[str, Any] = {"model_name": self.name, "finish_reason": completion.finish_reason}
        if completion.tokens is not None:
            metadata["logprobs"] = {
                "content": [
                    {
                        "token": token.text,
                        "logprob": token.logprob,
                        "top_logprobs": [{"token": text, "logprob": logprob} for text, logprob in token.top],
                    }
                    for token in completion.tokens
                ]
            }
        message = AIMessage(
            completion.text,
            response_metadata=metadata,
            usage_metadata={
                "input_tokens": completion.prompt_tokens,
                "output_tokens": completion.completion_tokens,
                "total_tokens": completion.prompt_tokens + completion.completion_tokens,
            },
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


class _Queue:
    """The waiting requests of one event loop, and the task that answers them; it ends when none is left."""

    def __init__(self, local: LocalModel) -> None:
        self._local = local
        self._waiting: list[tuple[Prompt, asyncio.Future[Completion]]] = []
        self._task: asyncio.Task[None] | None = None

    async def submit(self, prompt: Prompt) -> Completion:
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append((prompt, answer))
        if self._task is None:
            self._task = asyncio.create_task(self._answer_all())
        return await answer

    async def _answer_all(self) -> None:
        taken: list[tuple[Prompt, asyncio.Future[Completion]]] = []
        try:
            while self._waiting:
                await self._gather()
                taken, self._waiting = self._waiting, []
                for batch in split_batches([prompt for prompt, _ in taken]):
                    await self._answer([taken[k] for k in batch])
        finally:  # also if the event loop is shutting down
            for _, answer in taken + self._waiting:
                answer.cancel()
            self._waiting, self._task = [], None

    async def _gather(self) -> None:
        """Waits until no further request arrives."""
        count = 0
        while count < len(self._waiting):
            count = len(self._waiting)
            await asyncio.sleep(GATHER_SECONDS)

    async def _answer(self, batch: Sequence[tuple[Prompt, asyncio.Future[Completion]]]) -> None:
        """Answers one batch; an error of the model is given to every request in it."""
        batch = [(prompt, answer) for prompt, answer in batch if not answer.done()]  # without the cancelled ones
        if not batch:
            return
        cancelled = threading.Event()
        try:
            completions = await asyncio.to_thread(self._local.generate, [prompt for prompt, _ in batch], cancelled)
        except Exception as error:
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        finally:
            cancelled.set()  # the thread stops at its next token if this task was cancelled
        for (_, answer), completion in zip(batch, completions, strict=True):
            if not answer.done():
                answer.set_result(completion)
