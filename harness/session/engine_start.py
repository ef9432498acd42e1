"""Creates the engine of the settings, optionally in a thread while data is still being read."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

from harness.engines.base import Engine, engines
from harness.experts.lora_pool import LoraPool
from harness.experts.pool import Pool
from harness.session.settings import RunSettings

__all__ = ["best_engine", "close_when_started", "engine_name", "make_engine", "start_engine"]


def make_engine(settings: RunSettings, base: Path, pool: Pool, state: Mapping[str, Any] | None = None) -> Engine:
    """The engine of the settings; by default vLLM if it is installed and a GPU is available, else the local engine.

    Raises:
        UserError: The engine cannot be created on this machine, or cannot serve these experts.
    """
    name = engine_name(settings, pool)
    engine_settings = settings.engine_settings
    if engine_settings.adapter_slots is None:
        engine_settings = engine_settings.model_copy(update={"adapter_slots": settings.swarm.particles})
    return engines.get(name)(base, pool, engine_settings, dict(state or {}))


def engine_name(settings: RunSettings, pool: Pool) -> str:
    """The registered name of the engine of the settings."""
    if settings.mix == "tokens":
        return "token_mixture"
    return best_engine(pool) if settings.engine == "auto" else settings.engine


def best_engine(pool: Pool) -> str:
    """The engine that `--engine auto` selects on this machine for these experts."""
    if find_spec("vllm") is None or not isinstance(pool, LoraPool):
        return "local"
    import torch

    return "vllm" if torch.cuda.is_available() else "local"


def start_engine(settings: RunSettings, base: Path, pool: Pool, state: Mapping[str, Any] | None) -> Future[Engine]:
    """Creates the engine in a separate thread.

    If another error ends the program, it is reported at once, and the exit waits for the engine: a thread that is still
    loading a model at interpreter shutdown would abort the process and leave the engine's child processes running.
    """
    engines.get(engine_name(settings, pool))  # imports the engine in the main thread
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
