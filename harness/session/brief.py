"""What is remembered of an evaluation: enough for a table, a few bytes in the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.swarm.update import Row
from utilities.core import Evaluation

__all__ = ["NOTHING", "Brief"]


@dataclass(frozen=True)
class Brief:
    """An evaluation without its items."""

    value: float | None
    """The metric."""
    se: float | None
    n: int
    unscored: int
    objective: float | None = None
    """What the search was told."""
    row: tuple[float, ...] = ()
    """Which row it is of, where that is needed later."""

    @classmethod
    def read(cls, values: Sequence[Any]) -> Brief:
        """From the values in a checkpoint."""
        value, se, n, unscored, objective, row = values
        return cls(value, se, n, unscored, objective, tuple(row))

    @classmethod
    def of(cls, evaluation: Evaluation, objective: float | None = None, row: Row | None = None) -> Brief:
        """The brief form of an evaluation."""
        at = () if row is None else tuple(row.tolist())
        return cls(evaluation.value, evaluation.se, evaluation.n, evaluation.n_unscored, objective, at)


NOTHING = Brief(None, None, 0, 0)
"""Of a row that was not evaluated."""
