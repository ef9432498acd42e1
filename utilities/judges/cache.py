"""The cache of judgements: one SQLite file, shared by runs and processes, intact after a SIGKILL."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from utilities.errors import UserError
from utilities.judges.parsing import Message

__all__ = ["JudgementCache", "cache_key", "database_errors", "use_write_ahead_log"]

FORMAT = 1
"""Part of every key, so that replies in an older format are ignored."""

PATIENCE = 30.0
"""Seconds to wait for another process's write, which takes milliseconds."""


def cache_key(
    *, endpoint: str, model: str, messages: Sequence[Message], parameters: Mapping[str, Any], replicate: int
) -> str:
    """The key of a judgement: a hash of exactly what determines the judge's reply.

    Args:
        endpoint: Base URL; credentials and a query in it are dropped.
        model: Name of the model.
        messages: The conversation.
        parameters: Parameters of the request (temperature, tokens, schema); anything that JSON can express.
        replicate: Number of the repetition, so that repetitions at a temperature above 0 are stored separately.
    """
    parts = urlsplit(endpoint)
    place = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
    key_fields = [FORMAT, place, model, [list(message) for message in messages], dict(parameters), replicate]
    text = json.dumps(key_fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def database_errors(what: str, path: Path | None, remedy: str) -> Iterator[None]:
    """Turns errors of SQLite and of the file system into `UserError`.

    Args:
        what: The file, as the message names it.
        path: Its path.
        remedy: What to do if the file is damaged.
    """
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a closed connection was used: a programming error
    except (OSError, sqlite3.OperationalError) as error:
        raise UserError(f"{what} {path} cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        raise UserError(f"{what} {path} is damaged ({error}); {remedy}") from error


def use_write_ahead_log(db: sqlite3.Connection, schema: str = "main") -> None:
    """Sets the journal mode of a database: a killed process loses nothing, and readers do not block writers."""
    db.execute(f"PRAGMA {schema}.synchronous = NORMAL")
    until = time.monotonic() + PATIENCE
    while True:
        try:
            db.execute(f"PRAGMA {schema}.journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            # SQLite does not wait by itself if two processes change a new file's mode at the same time.
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


class JudgementCache:
    """Replies by key. Every `put` outside a `transaction` is committed before it returns, in under a millisecond.

    Several processes may use one file at the same time (write-ahead log). `synchronous = NORMAL` means that a killed
    process loses nothing, and that a power cut may lose the last judgements but never the file.

    Args:
        path: The file, created with its folder if it does not exist; None keeps the judgements in memory.

    Raises:
        UserError: The file cannot be used, or is damaged; some damage is found only by a later call.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._locks: int | None = None
        with self._errors():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            # isolation_level None: every statement outside `transaction` is its own transaction.
            self.db = sqlite3.connect(path or ":memory:", timeout=PATIENCE, isolation_level=None)
            try:
                use_write_ahead_log(self.db)
                self.db.execute("CREATE TABLE IF NOT EXISTS judgements (key TEXT PRIMARY KEY, reply TEXT NOT NULL)")
            except BaseException:
                self.db.close()
                raise

    def get(self, key: str) -> str | None:
        """The reply under a key, as JSON; None if there is none."""
        with self._errors():
            row = self.db.execute("SELECT reply FROM judgements WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, key: str, reply: str) -> None:
        """Stores a reply; an earlier one under the same key is replaced."""
        with self._errors():
            self.db.execute("INSERT OR REPLACE INTO judgements (key, reply) VALUES (?, ?)", (key, reply))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Makes all writes in the block one transaction, also those to a `Ledger` of this cache."""
        with self._errors():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")

    def claim(self, key: str) -> bool:
        """Reserves the right to request the judgement under a key; False while another process holds it.

        The claim is a lock of the operating system on one byte of the file PATH.lock, so it ends with the process. A
        file system without locks grants every claim.
        """
        if self.path is None:
            return True
        try:
            if self._locks is None:
                name = self.path.with_name(f"{self.path.name}.lock")
                self._locks = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _position(key))
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def release(self, key: str) -> None:
        """Ends a claim."""
        if self._locks is not None:
            with suppress(OSError):
                fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, _position(key))

    def close(self) -> None:
        """Closes the files; closing twice does no harm."""
        self.db.close()
        if self._locks is not None:
            os.close(self._locks)
            self._locks = None

    def _errors(self) -> AbstractContextManager[None]:
        remedy = "remove the file (and its -wal and -shm): that costs only the judgements in it"
        return database_errors("the cache of judgements", self.path, remedy)


def _position(key: str) -> int:
    """The byte of the lock file that represents a key; two keys rarely share one, and then only wait for each other."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big")
