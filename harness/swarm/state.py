"""The state of the particle swarm between two iterations: a few kilobytes, independent of the model's size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.swarm.update import Row, Rows

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class SwarmState:
    """The state after an iteration. Frozen: a step makes a new one.

    Missing scores are None in `to_dict` and nan in the arrays; nan never wins a comparison.
    """

    iteration: int
    """0 is the evaluation of the initial population."""
    positions: Rows
    velocities: Rows
    scores: NDArray[np.float64]
    """[particles]: the latest score; a skipped particle keeps its last one."""
    personal_best: Rows
    personal_best_scores: NDArray[np.float64]
    global_best: Row
    global_best_score: float
    global_worst: Row
    global_worst_score: float
    step_length: float
    stagnation: Counts
    """[particles]: evaluations since the personal best improved, or since the last restart."""
    unchanged: int
    """Iterations since the global best improved; iterations without any value are not counted."""
    restarted: NDArray[np.bool_]
    """[particles]: was reset to its personal best at the end of this iteration."""
    skipped: NDArray[np.bool_]
    """[particles]: was not evaluated in this iteration (drop-K, drop-N)."""
    random_state: dict[str, Any]
    """State of the generator of all random numbers."""

    def to_dict(self) -> dict[str, Any]:
        """The state as plain JSON values; floats keep every bit, nan becomes None."""
        return {name: _plain(value) for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SwarmState:
        """The inverse of `to_dict`."""
        kinds = {"stagnation": np.int64, "restarted": np.bool_, "skipped": np.bool_}
        values: dict[str, Any] = {}
        for name, value in data.items():
            if isinstance(value, list):
                values[name] = np.array(value, dtype=kinds.get(name, np.float64))  # None becomes nan
            else:
                values[name] = np.nan if value is None else value
        return cls(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float) and np.isnan(value):
        return None
    return value
