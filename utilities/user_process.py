"""A user's function in a process of its own, because nothing less contains what a function can do.

In the process of the run, a file could end it (`os._exit`), close its files, exhaust its memory, or stay in C code
that no thread can interrupt. Here each of these ends one child process: when the file is run, the reason is an error
message; when the function is called, the item is unscored with the reason. Only the child runs the file of a function.
Its stdout is the run's stderr, and it may use half of the machine's memory.

A call costs about 0.1 ms; a start, also after a child has ended, costs about half a second.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any

from utilities.core import MOST_SCORE, Item, Outcome, Reason, Response, Score, Unscored
from utilities.errors import UserError, describe
from utilities.foreign_text import printable, short
from utilities.user_code import existing_file

__all__ = ["UserProcess", "process_of", "scored"]

START_LIMIT_S = 120.0
"""Seconds that the user's file may take to be run in the child."""
MOST_REPLY = 1 << 16
MOST_DETAIL = 1000
"""Characters of a reason."""


class UserProcess:
    """The child that calls the function `FILE.py:NAME`; started when first needed, and again after it has ended."""

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self._child: subprocess.Popen[bytes] | None = None
        self._defined: dict[str, Any] = {}
        self._lock = threading.Lock()

    def defined(self) -> dict[str, Any]:
        """What the child reports of the object in the file, see `serve`.

        Raises:
            UserError: The file cannot be run, or the object is no utility.
        """
        with self._lock:
            try:
                if self._child is None:
                    self._start()
            except TimeoutError:
                self.close()
                raise UserError(f"utility {self._spec!r}: the file did not end in {START_LIMIT_S:g} s") from None
            except (OSError, EOFError) as error:
                reason = self._ended(error)
                raise UserError(reason if str(error) else f"utility {self._spec!r}: {reason} when it was run") from None
        return self._defined

    def call(self, item: Item, response: Response, limit_s: float) -> tuple[Outcome, bool]:
        """The outcome of one call, and whether the child survived it."""
        with self._lock:
            try:
                child = self._child or self._start()
                assert child.stdin is not None  # noqa: S101 - a pipe
                request = pickle.dumps((item, response, limit_s))
                child.stdin.write(struct.pack("<Q", len(request)) + request)
                child.stdin.flush()
                found = self._reply(child, limit_s)
            except TimeoutError:
                self.close()
                return Unscored(Reason.TIME, f"no score within {limit_s:g} s"), False
            except (OSError, EOFError) as error:
                return Unscored(Reason.MALFORMED, self._ended(error)), False
        if "value" in found:
            return Score(found["value"]), True
        return Unscored(Reason(found["reason"]), printable(str(found["detail"]))), True

    def _start(self) -> subprocess.Popen[bytes]:
        """Starts the child and waits until it has run the file."""
        code = (
            f"import sys; sys.path[:] = {sys.path!r}\nfrom utilities.scorers.function import serve_file\n"
            f"serve_file({self._spec!r})"
        )
        self._child = subprocess.Popen(  # noqa: S603 - this interpreter
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the run, which then ends the child
        )
        found = self._reply(self._child, START_LIMIT_S)
        if "detail" in found:
            raise EOFError(found["detail"])
        self._defined = found
        return self._child

    def _reply(self, child: subprocess.Popen[bytes], limit_s: float) -> dict[str, Any]:
        """The next line of the child.

        Raises:
            TimeoutError: None came in time.
            EOFError: The child has ended, or wrote something else.
        """
        assert child.stdout is not None  # noqa: S101 - a pipe
        end, line = time.monotonic() + limit_s, b""
        while not line.endswith(b"\n"):
            if not select.select([child.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError
            part = os.read(child.stdout.fileno(), MOST_REPLY)
            line += part
            if not part or len(line) > MOST_REPLY:
                raise EOFError
        try:
            return dict(json.loads(line))
        except (ValueError, TypeError) as error:
            raise EOFError from error

    def _ended(self, error: BaseException) -> str:
        code = None
        if self._child is not None:
            with suppress(subprocess.TimeoutExpired):
                code = self._child.wait(timeout=5)
        self.close()
        if str(error) and not isinstance(error, OSError):
            return str(error)
        how = "closed its files" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"the utility ended its process ({how})"

    def close(self) -> None:
        """Ends the child and what it started."""
        child, self._child = self._child, None
        if child is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


_processes: dict[tuple[str, str], UserProcess] = {}


def process_of(spec: str) -> UserProcess:
    """The child of a function; one for each content of its file, ended when the program ends.

    Raises:
        UserError: No such file, or it cannot be read.
    """
    path = existing_file(spec, "utility")
    try:
        content = sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"utility {spec!r}: {path} cannot be read: {error.strerror}") from error
    if (spec, content) not in _processes:
        _processes[spec, content] = UserProcess(spec)
    return _processes[spec, content]


@atexit.register
def _close_all() -> None:
    for process in _processes.values():
        process.close()


def scored(function: Callable[[Item, Response], Any], item: Item, response: Response) -> Outcome:
    """The outcome of one call, whatever the function does short of ending the process."""
    try:
        value: Any = function(item, response)
        if not hasattr(value, "__float__"):  # numbers of numpy, torch, decimal and fractions have it
            return Unscored(Reason.MALFORMED, f"the utility returned {short(value, 80)}, which is no number")
        number = float(value)
    except BaseException as error:  # a user's code may raise anything; even sys.exit() ends only this call
        return Unscored(Reason.MALFORMED, f"the utility raised {describe(error)}"[:300])
    if not abs(number) <= MOST_SCORE:
        limit = f"; a score lies within {MOST_SCORE:g}" if math.isfinite(number) else ""
        return Unscored(Reason.OUT_OF_RANGE, f"the utility returned {number}{limit}")
    return Score(number)


def serve(load: Callable[[], tuple[Callable[[Item, Response], Any], dict[str, Any]]]) -> None:
    """The child's side: runs the file, then calls the function for every request, until stdin ends.

    Args:
        load: Runs the file; returns the function and what `UserProcess.defined` returns, a JSON object.
    """
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # what the function prints
    _limit_memory()
    threading.excepthook = lambda raised: print("a thread of the utility raised", raised.exc_type.__name__)

    def reply(message: dict[str, Any]) -> None:
        os.write(replies, json.dumps(message).encode() + b"\n")

    try:
        function, defined = load()
        reply(defined)
    except BaseException as error:  # a user's file may raise anything
        reply({"detail": (str(error) if isinstance(error, UserError) else describe(error))[:MOST_DETAIL]})
        os._exit(1)  # also if the file has started threads
    while header := requests.read(8):
        item, response, limit_s = pickle.loads(requests.read(struct.unpack("<Q", header)[0]))  # noqa: S301 - the run's own
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit_s + 10)  # should the run be gone that would end a late call
        outcome = scored(function, item, response)
        if isinstance(outcome, Unscored):
            reply({"reason": outcome.reason.value, "detail": outcome.detail[:MOST_DETAIL]})
        else:
            reply({"value": outcome.value})
        signal.setitimer(signal.ITIMER_REAL, 0)
    os._exit(0)  # a thread of the file must not outlive the run


def _limit_memory() -> None:
    import resource

    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (half, half))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
