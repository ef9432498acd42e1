"""Costs of the judges of a run, in a file in the run's folder; a killed process loses no count."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from utilities.errors import UserError
from utilities.judges.cache import JudgementCache, database_errors, use_write_ahead_log

__all__ = ["Ledger", "Spent"]


@dataclass(slots=True)
class Spent:
    """Costs so far; stored with a run, so that a resumed run continues from them."""

    requests: int = 0
    """Answered, paid requests, including those whose reply could not be parsed."""
    cached: int = 0
    """Judgements at no cost: from the cache, or from a pending request."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = 0.0
    """None as soon as one request had an unknown price."""
    failed: int = 0
    """Requests without an answer; each attempt counts."""

    def add(self, prompt_tokens: int, completion_tokens: int, usd: float | None) -> None:
        """Adds one request; an unknown price makes the total in dollars unknown."""
        self.requests += 1
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.usd = None if self.usd is None or usd is None else self.usd + usd

    @property
    def tokens(self) -> int:
        """Prompt and completion together, as `--budget-tokens` counts them."""
        return self.prompt_tokens + self.completion_tokens

    def to_dict(self) -> dict[str, Any]:
        """The counts by name, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(counts: Mapping[str, Any]) -> Spent:
        """Inverse of `to_dict`.

        Raises:
            UserError: A count is not a non-negative number.
        """
        for name, value in counts.items():
            number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
            if not number and not (name == "usd" and value is None):
                raise UserError(f"the stored spending of the judges is damaged: {name} is {value!r}")
        return Spent(**counts)


class Ledger:
    """Reserves the expected cost of a request before it is sent, and settles it afterwards.

    A reservation that is still open when the file is opened belongs to a process that was killed: it counts as spent,
    because the server may have processed the request. The file is attached to the connection of the cache, so that a
    reply and its cost are stored in one transaction.

    Args:
        cache: Of the same judges.
        path: The file, created if it does not exist.

    Raises:
        UserError: The file cannot be used, or is damaged.
    """

    def __init__(self, cache: JudgementCache, path: Path) -> None:
        self._db, self._path = cache.db, path
        with self._errors():
            self._db.execute("ATTACH DATABASE ? AS ledger", (str(path),))
            use_write_ahead_log(self._db, "ledger")
            self._db.execute("CREATE TABLE IF NOT EXISTS ledger.facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS ledger.reserved (id INTEGER PRIMARY KEY, prompt_tokens INTEGER NOT NULL,"
                " completion_tokens INTEGER NOT NULL, usd REAL)"
            )

    def resume(self, spent: Spent) -> Spent:
        """The costs so far, including reservations of killed processes.

        Args:
            spent: The result if the ledger is new.

        Raises:
            UserError: The ledger is damaged.
        """
        stored = self.fact("spent")
        with self._errors():
            total = spent if stored is None else Spent.from_dict(stored)
            for prompt, completion, usd in self._db.execute(
                "SELECT prompt_tokens, completion_tokens, usd FROM ledger.reserved"
            ):
                total.add(prompt, completion, usd)
                total.failed += 1
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM ledger.reserved")
            self.set_fact("spent", total.to_dict())
            self._db.execute("COMMIT")
        return total

    def reserve(self, prompt_tokens: int, completion_tokens: int, usd: float | None) -> int:
        """Stores the expected cost of a request; returns the number of the entry."""
        with self._errors():
            row = prompt_tokens, completion_tokens, usd
            cursor = self._db.execute(
                "INSERT INTO ledger.reserved (prompt_tokens, completion_tokens, usd) VALUES (?, ?, ?)", row
            )
        return int(cursor.lastrowid or 0)

    def settle(self, entry: int, spent: Spent) -> None:
        """Replaces an entry by the new total."""
        with self._errors():
            alone = not self._db.in_transaction
            if alone:
                self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM ledger.reserved WHERE id = ?", (entry,))
            self.set_fact("spent", spent.to_dict())
            if alone:
                self._db.execute("COMMIT")

    def fact(self, name: str) -> Any:
        """A stored value; None if there is none."""
        with self._errors():
            row = self._db.execute("SELECT value FROM ledger.facts WHERE name = ?", (name,)).fetchone()
            return None if row is None else json.loads(row[0])

    def set_fact(self, name: str, value: Any) -> None:
        """Stores a value that JSON can express."""
        with self._errors():
            self._db.execute(
                "INSERT OR REPLACE INTO ledger.facts (name, value) VALUES (?, ?)", (name, json.dumps(value))
            )

    def _errors(self) -> AbstractContextManager[None]:
        remedy = "remove it (with its -wal and -shm) to continue from the spending that the run's events report"
        return database_errors("the record of what the judges cost", self._path, remedy)
