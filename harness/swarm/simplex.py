"""Rows that are distributions: the projection onto the simplex, and a search whose rows are projected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.swarm.drivers import SearchStrategy
from harness.swarm.update import Rows

__all__ = ["OnSimplex", "simplex"]

ROUNDING = 1e-12
"""Difference of a sum from 1 that rounding can cause."""


def simplex(rows: Rows, groups: int = 1) -> Rows:
    """The nearest rows whose coefficients are not negative and sum to 1 (Duchi et al. 2008, fig. 1).

    Args:
        rows: [..., groups * columns]; rows that are distributions already are returned unchanged.
        groups: Groups of columns, each projected by itself.
    """
    parts = rows.reshape(*rows.shape[:-1], groups, -1)
    ordered = -np.sort(-parts, axis=-1)
    excess = np.cumsum(ordered, axis=-1) - 1.0
    count = np.arange(1, parts.shape[-1] + 1)
    last = (ordered > excess / count).sum(axis=-1, keepdims=True) - 1
    projected = np.maximum(parts - np.take_along_axis(excess, last, axis=-1) / (last + 1), 0.0)
    inside = (parts >= 0).all(-1, keepdims=True) & (np.abs(parts.sum(-1, keepdims=True) - 1.0) < ROUNDING)
    result: Rows = np.where(inside, parts, projected).reshape(rows.shape)
    return result


class OnSimplex:
    """A search whose rows are projected before they are evaluated; it is told their values.

    Args:
        inner: The search.
        groups: Groups of modules with coefficients of their own.
    """

    def __init__(self, inner: SearchStrategy, groups: int) -> None:
        self._inner, self._groups = inner, groups

    @property
    def finished(self) -> str | None:
        """Why the search is over; None if it is not."""
        return self._inner.finished

    def ask(self) -> Rows:
        """The rows to evaluate next."""
        return simplex(self._inner.ask(), self._groups)

    def tell(self, values: Sequence[float | None]) -> None:
        """Takes the values of the rows of the last `ask`."""
        self._inner.tell(values)
