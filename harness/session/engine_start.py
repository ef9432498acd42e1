"""Makes the engine of the settings, in a thread of its own if other things are still being read."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

from harness.engines.base import Engine, engines
from harness.experts.pool import LoraPool, Pool
from harness.session.settings import RunSettings

__all__ = ["best_engine", "close_when_started", "engine_name", "make_engine", "start_engine"]


def make_engine(settings: RunSettings, base: Path, pool: Pool, state: Mapping[str, Any] | None = None) -> Engine:
    """The engine that the settings ask for; by default vLLM where it and a GPU are there, else the local one.

    Raises:
        UserError: It cannot be made here, or cannot serve these experts.
    """
    name = engine_name(settings, pool)
    asked = settings.engine_settings
    if asked.adapter_slots is None:
        asked = asked.model_copy(update={"adapter_slots": settings.swarm.particles})
    return engines.get(name)(base, pool, asked, dict(state or {}))


def engine_name(settings: RunSettings, pool: Pool) -> str:
    """The registered name of the engine that the settings ask for."""
    return best_engine(pool) if settings.engine == "auto" else settings.engine


def best_engine(pool: Pool) -> str:
    """What `--engine auto` means on this machine, for these experts."""
    if find_spec("vllm") is None or not isinstance(pool, LoraPool):
        return "local"
    import torch

    return "vllm" if torch.cuda.is_available() else "local"


def start_engine(settings: RunSettings, base: Path, pool: Pool, state: Mapping[str, Any] | None) -> Future[Engine]:
    """Makes the engine in a thread of its own.

    Where another mistake ends the program, that is said at once, and the end waits for the engine: a thread that is
    still loading a model when the interpreter goes would abort the process, and an engine's children would be left.
    """
    engines.get(engine_name(settings, pool))  # imports are not for threads
    starting: Future[Engine] = Future()

    def make() -> None:
        try:
            starting.set_result(make_engine(settings, base, pool, state))
        except BaseException as error:
            starting.set_exception(error)

    Thread(target=make, name="engine-start").start()
    return starting


def close_when_started(starting: Future[Engine]) -> None:
    """Closes the engine as soon as its start has ended."""

    def close(done: Future[Engine]) -> None:
        if done.exception() is None:
            done.result().close()

    starting.add_done_callback(close)
