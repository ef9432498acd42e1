"""Judgements that were paid for are kept: one SQLite file, shared by runs, whole after a kill -9."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from utilities.errors import UserError
from utilities.judges.parsing import Message

__all__ = ["JudgementCache", "cache_key"]

FORMAT = 1
"""Enters every key: replies that an older format stored are not found, and never misread."""

PATIENCE = 30.0
"""Seconds that a process waits for another one's write, which takes milliseconds."""


def cache_key(
    *, endpoint: str, model: str, messages: Sequence[Message], parameters: Mapping[str, Any], replicate: int
) -> str:
    """The name of a judgement: a hash of all that decides what a judge says, and of nothing else.

    Args:
        endpoint: Base URL; credentials and a query in it are dropped, so that no key decides what is found.
        model: Name of the model.
        messages: The conversation.
        parameters: What the request asks for (temperature, tokens, schema); anything that JSON can say.
        replicate: Number of the repetition. Without it every repetition at a temperature above 0 would be the first.
    """
    parts = urlsplit(endpoint)
    place = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
    asked = [FORMAT, place, model, [list(message) for message in messages], dict(parameters), replicate]
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class JudgementCache:
    """Replies by key. Every `put` is committed before it returns; a call takes well under a millisecond.

    Several processes may use one file at the same time (write-ahead log). `synchronous = NORMAL` means that a killed
    process loses nothing, and that a power cut may lose the last judgements but never the file.

    Args:
        path: The file, made where there is none, with its folder; None keeps the judgements in memory.

    Raises:
        UserError: The file cannot be used, or is damaged; at the first call where it shows only then.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        with self._errors_in_words():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            # isolation_level None: every statement is its own transaction.
            self._db = sqlite3.connect(path or ":memory:", timeout=PATIENCE, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def get(self, key: str) -> str | None:
        """The reply under a key, as JSON; None where there is none."""
        with self._errors_in_words():
            row = self._db.execute("SELECT reply FROM judgements WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, key: str, reply: str) -> None:
        """Keeps a reply; what stood under the key before is replaced."""
        with self._errors_in_words():
            self._db.execute("INSERT OR REPLACE INTO judgements (key, reply) VALUES (?, ?)", (key, reply))

    def close(self) -> None:
        """Closes the file; closing twice does no harm."""
        self._db.close()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA synchronous = NORMAL")
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                # SQLite does not wait by itself where two processes change a new file's mode at the same time.
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)
        self._db.execute("CREATE TABLE IF NOT EXISTS judgements (key TEXT PRIMARY KEY, reply TEXT NOT NULL)")

    @contextmanager
    def _errors_in_words(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # a closed cache was used: our mistake
        except (OSError, sqlite3.OperationalError) as error:
            raise UserError(f"the cache of judgements {self.path} cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"the cache of judgements {self.path} is damaged ({error}); remove the file (and its -wal and -shm): "
                "that costs only the judgements in it"
            ) from error
