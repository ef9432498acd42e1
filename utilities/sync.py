"""Asynchronous functions called from synchronous code, with or without a running event loop (as in a notebook)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from utilities.core import Evaluation, Item, Model, Scorer, Split, Utility

__all__ = ["evaluate", "run_sync"]

T = TypeVar("T")


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine; if an event loop is running in this thread, it runs in a thread with its own loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1, thread_name_prefix="sync") as pool:
        return pool.submit(copy_context().run, asyncio.run, coroutine).result()


def evaluate(utility: Utility | Scorer, model: Model, on: Split | Sequence[Item]) -> Evaluation:
    """Evaluates a model: `evaluate(task, model, "dev")`, or `evaluate(scorer, model, items)`.

    It is `await utility(model, on)` for code that is not asynchronous; it works in a notebook too.
    """

    async def evaluation() -> Evaluation:
        result: Evaluation = await utility(model, on)  # type: ignore[arg-type]  # a split for a task, items for a scorer
        return result

    return run_sync(evaluation())
