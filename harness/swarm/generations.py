"""Any search over rows, driven for so many iterations, with the initial experts in front of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.swarm.drivers import Stepwise, Told
from harness.swarm.loop import Snapshot
from harness.swarm.update import Row, Rows

__all__ = ["Generations"]


class Generations:
    """An `Optimiser` made of a search that only knows where to look next.

    Iteration 0 evaluates the initial experts, which the final table needs anyway; every later one is an `ask` of the
    search. It ends after so many iterations, or when nothing better was found in `patience` of them.

    Args:
        inner: The search, at its beginning; it is told nothing of the initial rows.
        first: The initial rows [rows, experts].
        iterations: How often the search is asked.
        patience: It ends when the best row was not beaten for so many iterations.
        state: Of an earlier object with the same arguments.
    """

    def __init__(self, inner: Stepwise, first: Rows, iterations: int, patience: int, state: Told | None = None) -> None:
        self._inner, self._first = inner, np.asarray(first, dtype=np.float64)
        self._iterations, self._patience = iterations, patience
        self._told: list[tuple[float | None, ...]] = []
        self._rows: Rows | None = None
        self._seen = self._first
        self._unchanged = 0
        self._best: tuple[Row | None, float | None] = (None, None)
        for values in (state or Told()).values:
            self.ask()
            self.tell(values)

    @property
    def state(self) -> Told:
        """All that must be saved to continue."""
        return Told(tuple(self._told))

    @property
    def iteration(self) -> int:
        """The last iteration that is complete; -1 before the first."""
        return len(self._told) - 1

    @property
    def finished(self) -> str | None:
        """Why the search is over, in words; None while it goes on."""
        if self.iteration >= self._iterations:
            return f"{self._iterations} iterations done"
        if self._unchanged >= self._patience:
            return f"no better mixture for {self._patience} iterations"
        return self._inner.finished if self._told else None

    @property
    def best(self) -> tuple[Row, float | None]:
        """The best row so far and its value; the first of equals. nan and None without any."""
        row, value = self._best
        return (np.full(self._first.shape[1], np.nan) if row is None else row), value

    @property
    def snapshot(self) -> Snapshot:
        """Where it stands after the last `tell`."""
        return Snapshot(self.iteration, self._seen)

    @property
    def asked(self) -> NDArray[np.intp]:
        """Numbers of the rows of the last `ask` within their iteration."""
        rows = self._seen if self._rows is None else self._rows
        return np.arange(len(rows), dtype=np.intp)

    def ask(self) -> Rows:
        """Rows to evaluate now, [asked, experts]. Asking twice without telling gives the same rows."""
        if self._rows is None:
            self._rows = np.asarray(self._inner.ask(), dtype=np.float64) if self._told else self._first
        return self._rows.copy()

    def tell(self, values: Sequence[float | None]) -> None:
        """Takes the values of the rows of the last `ask`; None where a value is missing.

        Raises:
            ValueError: Another number of values than rows were asked for, or nothing was asked.
        """
        if self._rows is None:
            raise ValueError("tell without ask")
        if len(values) != len(self._rows):
            raise ValueError(f"{len(self._rows)} values expected, got {len(values)}")
        better = False
        for row, value in zip(self._rows, values, strict=True):
            if value is not None and (self._best[1] is None or value > self._best[1]):
                self._best, better = (row.copy(), value), True
        if self._told:
            self._inner.tell(values)
        # An iteration of which every value is missing says nothing.
        told = any(value is not None for value in values)
        self._unchanged = 0 if better else self._unchanged + (told and bool(self._told))
        self._told.append(tuple(values))
        self._seen, self._rows = self._rows, None
