"""Any search, stopped after exactly so many evaluations, with a state that is nothing but what it was told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.swarm.loop import Snapshot
from harness.swarm.update import Row, Rows

__all__ = ["Budgeted", "Stepwise", "Told", "row_key"]

Values = tuple[float | None, ...]


class Stepwise(Protocol):
    """The part of an `Optimiser` that decides where to look; it need not count, remember the best, or be saved.

    It must be deterministic: the same values told in the same order make it ask for the same rows.
    """

    @property
    def finished(self) -> str | None:
        """Why it cannot go on; None while it can."""
        ...

    def ask(self) -> Rows:
        """Rows to evaluate now, [asked, experts]."""
        ...

    def tell(self, values: Sequence[float | None]) -> None:
        """The values of the rows of the last `ask`; None where a value is missing, which is not a low one."""
        ...


@dataclass(frozen=True)
class Told:
    """The values told so far, one tuple an `ask`: a search that is told them again stands where it stood."""

    values: tuple[Values, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The state as plain JSON values; floats keep every bit."""
        return {"values": [list(values) for values in self.values]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Told:
        """The inverse of `to_dict`."""
        return cls(tuple(tuple(values) for values in data["values"]))


def row_key(row: Row) -> bytes:
    """What equal rows share; 0.0 and -0.0 are equal."""
    return np.ascontiguousarray(row + 0.0).tobytes()


class Budgeted:
    """An `Optimiser` that drives a search to the end of a budget, so that searches can be compared at equal cost.

    Rows that are equal to earlier ones are not asked for again and cost nothing; of the last rows only as many are
    asked for as the budget has left, and the search is told nothing of the others.

    Args:
        inner: The search, at its beginning.
        budget: Evaluations, at least 1.
        penalty: Subtracted from the value of a row before anybody compares it.
        state: Of an earlier object with the same arguments; `inner` is told the same values again, which costs no
            evaluation and needs no knowledge of how the search keeps its state.

    Raises:
        ValueError: The state is of another search.
    """

    def __init__(
        self, inner: Stepwise, budget: int, penalty: Callable[[Row], float] | None = None, state: Told | None = None
    ) -> None:
        self.budget, self._inner, self._penalty = budget, inner, penalty
        self.evaluations = 0
        """Rows that were asked for."""
        self._told: list[Values] = []
        self._known: dict[bytes, float | None] = {}
        self._rows: Rows | None = None  # what the inner search asks for
        self._new: list[int] = []  # those of them that are evaluated
        self._best: tuple[Row | None, float | None] = (None, None)
        for values in (state or Told()).values:
            self.ask()
            self.tell(values)

    @property
    def state(self) -> Told:
        """All that must be saved to continue."""
        return Told(tuple(self._told))

    @property
    def finished(self) -> str | None:
        """Why the search is over, in words; None while it goes on."""
        if self.evaluations >= self.budget:
            return f"{self.budget} evaluations done"
        return self._inner.finished

    @property
    def best(self) -> tuple[Row, float | None]:
        """The best row so far and its value after the penalty; the first of equals. nan and None without any."""
        row, value = self._best
        return (np.array([np.nan]) if row is None else row), value

    @property
    def found(self) -> list[tuple[Row, float]]:
        """Every row that has a value, with the value, in the order of asking."""
        return [(np.frombuffer(key), value) for key, value in self._known.items() if value is not None]

    @property
    def snapshot(self) -> Snapshot:
        """Where it stands after the last `tell`; an iteration is an `ask`."""
        return Snapshot(len(self._told) - 1, np.zeros((0, 0)) if self._rows is None else self._rows)

    @property
    def asked(self) -> NDArray[np.intp]:
        """Numbers of the rows of the last `ask`, counted from the beginning of the search."""
        return np.arange(self.evaluations, self.evaluations + len(self._new), dtype=np.intp)

    def ask(self) -> Rows:
        """The rows to evaluate now, [asked, experts]; none where all of them are known.

        Asking twice without telling gives the same rows: only `tell` goes on.
        """
        if self._rows is None:
            self._rows = np.asarray(self._inner.ask(), dtype=np.float64)
            first = {row_key(row): k for k, row in reversed(list(enumerate(self._rows)))}
            new = sorted(k for key, k in first.items() if key not in self._known)
            self._new = new[: self.budget - self.evaluations]
        return self._rows[self._new]

    def tell(self, values: Sequence[float | None]) -> None:
        """Takes the values of the rows of the last `ask`; None where a value is missing.

        Raises:
            ValueError: Another number of values than rows were asked for, or nothing was asked.
        """
        if self._rows is None:
            raise ValueError("tell without ask")
        if len(values) != len(self._new):
            raise ValueError(f"{len(self._new)} values expected, got {len(values)}")
        for k, value in zip(self._new, values, strict=True):
            row = self._rows[k]
            if value is not None and self._penalty is not None:
                value -= self._penalty(row)
            self._known[row_key(row)] = value
            if value is not None and (self._best[1] is None or value > self._best[1]):
                self._best = (row.copy(), value)
        self._told.append(tuple(values))
        self.evaluations += len(self._new)
        self._inner.tell([self._known.get(row_key(row)) for row in self._rows])
        self._rows, self._new = None, []
