"""Drivers of a search strategy: they count, remember the best row, end, and save the history of values.

`Generations` drives a strategy for a number of iterations and evaluates the initial experts first. `Budgeted` drives it
for an exact number of evaluations, so that strategies can be compared at equal cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.swarm.loop import Snapshot
from harness.swarm.update import Row, Rows

__all__ = ["Budgeted", "Generations", "History", "Penalty", "SearchStrategy", "row_key"]

Values = tuple[float | None, ...]


class SearchStrategy(Protocol):
    """The part of an `Optimiser` that decides where to look; it need not count, remember the best row, or be saved.

    It must be deterministic: the same values in the same order lead to the same rows.
    """

    @property
    def finished(self) -> str | None:
        """Why it cannot continue; None if it can."""
        ...

    def ask(self) -> Rows:
        """Rows to evaluate next, [rows, experts]."""
        ...

    def tell(self, values: Sequence[float | None]) -> None:
        """Takes the values of the rows of the last `ask`. None is a missing value, not a low one."""
        ...


@dataclass(frozen=True)
class History:
    """The values of a search so far, one tuple per `ask`. Replaying them restores the search."""

    values: tuple[Values, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The state as plain JSON values; floats keep every bit."""
        return {"values": [list(values) for values in self.values]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> History:
        """The inverse of `to_dict`."""
        return cls(tuple(tuple(values) for values in data["values"]))


Penalty = Callable[[Row], float]
"""A row to what is subtracted from its value."""


def row_key(row: Row) -> bytes:
    """A key that is equal for equal rows; 0.0 and -0.0 are equal."""
    return np.ascontiguousarray(row + 0.0).tobytes()


class _Driver:
    """The history and the best row of a search strategy."""

    def __init__(self, inner: SearchStrategy) -> None:
        self._inner = inner
        self._history: list[Values] = []
        self._rows: Rows | None = None  # rows of the strategy that have no values yet
        self._best: tuple[Row, float | None] = (np.array([np.nan]), None)

    def _replay(self, state: History | None) -> None:
        for values in state.values if state else ():
            self.ask()
            self.tell(values)

    @property
    def state(self) -> History:
        """Everything that must be saved to continue."""
        return History(tuple(self._history))

    @property
    def best(self) -> tuple[Row, float | None]:
        """The best row so far and its value; the first of equal ones. nan and None if no row has a value."""
        return self._best

    def ask(self) -> Rows:
        """Rows to evaluate next, [rows, experts]."""
        raise NotImplementedError

    def tell(self, values: Sequence[float | None]) -> None:
        """Takes the values of the rows of the last `ask`."""
        raise NotImplementedError

    def _update_best(self, row: Row, value: float | None) -> bool:
        better = value is not None and (self._best[1] is None or value > self._best[1])
        if better:
            self._best = (row.copy(), value)
        return better


def _check_values(rows: Rows | None, values: Sequence[float | None], expected: int) -> Rows:
    if rows is None:
        raise ValueError("tell without ask")
    if len(values) != expected:
        raise ValueError(f"{expected} values expected, got {len(values)}")
    return rows


class Budgeted(_Driver):
    """An `Optimiser` that drives a search strategy for an exact number of evaluations.

    Rows that are equal to earlier ones are not evaluated again and cost nothing. Of the last rows only as many are
    evaluated as the budget allows; the strategy gets no values for the others.

    Args:
        inner: The strategy, at its beginning.
        budget: Evaluations, at least 1.
        penalty: Subtracted from the value of a row.
        state: Of an earlier object with the same arguments; its values are replayed.
        first: Initial rows [rows, experts], which are evaluated first; the strategy gets no values of them.
        patience: Iterations without a better row after which the search ends; None for no such limit.

    Raises:
        ValueError: The state belongs to another search.
    """

    def __init__(
        self,
        inner: SearchStrategy,
        budget: int,
        penalty: Penalty | None = None,
        state: History | None = None,
        *,
        first: Rows | None = None,
        patience: int | None = None,
    ) -> None:
        super().__init__(inner)
        self.budget, self._penalty = budget, penalty
        self._first, self._patience, self._unchanged = first, patience, 0
        self.evaluations = 0
        """Rows evaluated so far."""
        self._values: dict[bytes, float | None] = {}
        self._new: list[int] = []  # which rows of the strategy are evaluated
        self._replay(state)

    @property
    def finished(self) -> str | None:
        """Why the search is over; None if it is not."""
        if self.evaluations >= self.budget:
            return f"{self.budget} evaluations done"
        if self._patience is not None and self._unchanged >= self._patience:
            return f"no better mixture for {self._patience} iterations"
        return None if self._initial is not None else self._inner.finished

    @property
    def _initial(self) -> Rows | None:
        """The initial rows, if they are not evaluated yet."""
        return None if self._history else self._first

    @property
    def evaluated(self) -> list[tuple[Row, float]]:
        """Every row that has a value, with the value after the penalty, in the order of evaluation."""
        return [(np.frombuffer(key), value) for key, value in self._values.items() if value is not None]

    @property
    def snapshot(self) -> Snapshot:
        """The state after the last `tell`; an iteration is one `ask`."""
        return Snapshot(len(self._history) - 1, np.zeros((0, 0)) if self._rows is None else self._rows)

    @property
    def asked(self) -> NDArray[np.intp]:
        """Indices of the rows of the last `ask`, counted from the beginning of the search."""
        return np.arange(self.evaluations, self.evaluations + len(self._new), dtype=np.intp)

    def ask(self) -> Rows:
        """The rows to evaluate next, [rows, experts]; none if all of them have values.

        Repeated calls return the same rows: only `tell` advances the search.
        """
        if self._rows is None:
            rows = self._inner.ask() if self._initial is None else self._initial
            self._rows = np.asarray(rows, dtype=np.float64)
            first = {row_key(row): k for k, row in reversed(list(enumerate(self._rows)))}
            new = sorted(k for key, k in first.items() if key not in self._values)
            self._new = new[: self.budget - self.evaluations]
        return self._rows[self._new]

    def tell(self, values: Sequence[float | None]) -> None:
        """Takes the values of the rows of the last `ask`; None for a missing value.

        Raises:
            ValueError: `ask` was not called, or the number of values differs from the number of rows.
        """
        rows = _check_values(self._rows, values, len(self._new))
        improved = False
        for k, value in zip(self._new, values, strict=True):
            if value is not None and self._penalty is not None:
                value -= self._penalty(rows[k])
            self._values[row_key(rows[k])] = value
            improved |= self._update_best(rows[k], value)
        if self._initial is None:
            self._inner.tell([self._values.get(row_key(row)) for row in rows])
            # An iteration without any value gives no information.
            self._unchanged = 0 if improved else self._unchanged + any(value is not None for value in values)
        self._history.append(tuple(values))
        self.evaluations += len(self._new)
        self._rows, self._new = None, []


class Generations(_Driver):
    """An `Optimiser` that drives a search strategy for a number of iterations.

    Iteration 0 evaluates the initial rows, which the final table needs anyway; every later one is an `ask` of the
    strategy. It ends after `iterations` iterations, or after `patience` iterations without a better row.

    Args:
        inner: The strategy, at its beginning; it gets no values of the initial rows.
        first: The initial rows [rows, experts].
        iterations: How often the strategy is asked.
        patience: Iterations without a better row after which the search ends.
        state: Of an earlier object with the same arguments; its values are replayed.
    """

    def __init__(
        self, inner: SearchStrategy, first: Rows, iterations: int, patience: int, state: History | None = None
    ) -> None:
        super().__init__(inner)
        self._first = np.asarray(first, dtype=np.float64)
        self._best = (np.full(self._first.shape[1], np.nan), None)
        self._iterations, self._patience = iterations, patience
        self._last = self._first
        self._unchanged = 0
        self._replay(state)

    @property
    def iteration(self) -> int:
        """The last complete iteration; -1 before the first."""
        return len(self._history) - 1

    @property
    def finished(self) -> str | None:
        """Why the search is over; None if it is not."""
        if self.iteration >= self._iterations:
            return f"{self._iterations} iterations done"
        if self._unchanged >= self._patience:
            return f"no better mixture for {self._patience} iterations"
        return self._inner.finished if self._history else None

    @property
    def snapshot(self) -> Snapshot:
        """The state after the last `tell`."""
        return Snapshot(self.iteration, self._last)

    @property
    def asked(self) -> NDArray[np.intp]:
        """Indices of the rows of the last `ask` within their iteration."""
        return np.arange(len(self._last if self._rows is None else self._rows), dtype=np.intp)

    def ask(self) -> Rows:
        """Rows to evaluate next, [rows, experts]. Repeated calls return the same rows."""
        if self._rows is None:
            self._rows = np.asarray(self._inner.ask(), dtype=np.float64) if self._history else self._first
        return self._rows.copy()

    def tell(self, values: Sequence[float | None]) -> None:
        """Takes the values of the rows of the last `ask`; None for a missing value.

        Raises:
            ValueError: `ask` was not called, or the number of values differs from the number of rows.
        """
        rows = _check_values(self._rows, values, 0 if self._rows is None else len(self._rows))
        improved = [self._update_best(row, value) for row, value in zip(rows, values, strict=True)]
        if self._history:
            self._inner.tell(values)
        # An iteration without any value gives no information.
        informative = any(value is not None for value in values)
        self._unchanged = 0 if any(improved) else self._unchanged + (informative and bool(self._history))
        self._history.append(tuple(values))
        self._last, self._rows = rows, None
