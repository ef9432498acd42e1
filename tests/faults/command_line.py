"""The command line in a forked child of this process, which has loaded the libraries once; outcomes of faults."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "160"}
sys.path.insert(0, str(ROOT))
os.chdir(ROOT)

import pyarrow.parquet  # noqa: E402, F401
import torch  # noqa: E402

import harness.cli.main  # noqa: E402
import harness.cli.resume  # noqa: E402
import harness.display.console  # noqa: E402
import harness.engines.local  # noqa: E402
import harness.run.adapt  # noqa: E402

torch.set_num_threads(1)
WEIGHTS = ROOT / "harness" / "embedded" / "weights"
LIMIT_S = 240.0
"""Seconds after which a child is killed, and its fault has failed."""

Fault = tuple[str, Callable[[Path], str]]
"""A name, and what makes the fault in an empty folder: survived, answered, or what went wrong."""

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
STEPS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "sqlite3.connect", "socket.connect"}
"""Audit events after which other content may be on the disk, besides files that are opened for writing."""


@dataclass(frozen=True)
class Kill:
    """A signal that a child sends to itself before its step number `step`; steps are counted if it is None."""

    step: int | None
    signal: int = signal.SIGKILL
    counted: int = -1
    """The descriptor of a file whose size becomes the number of steps."""

    def arm(self) -> None:
        steps = 0

        def on_event(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal steps
            if event == "open":
                if not isinstance(arguments[2], int) or not arguments[2] & WRITING:
                    return
            elif event not in STEPS:
                return
            steps += 1
            if self.step is None:
                os.ftruncate(self.counted, steps)
            elif steps == self.step + 1:
                os.kill(os.getpid(), self.signal)

        sys.addaudithook(on_event)


@dataclass(frozen=True)
class Ended:
    """A child that has ended."""

    code: int | None
    """None: killed by the campaign, because the time was over."""
    out: str
    err: str

    @property
    def answered(self) -> bool:
        clean = not any(ord(one) < 32 and one != "\n" for one in self.err)
        return self.code == 2 and clean and "Error: " in self.err and "Traceback" not in self.err

    @property
    def outcome(self) -> str:
        if self.code == 0 and "Traceback" not in self.err:
            return "survived"
        if self.answered:
            return "answered"
        last = (self.err.strip() or self.out.strip() or "no message").splitlines()[-1]
        return f"exit {self.code}: {last[:200]}"


def start(
    arguments: Sequence[str], out: int, err: int, kill: Kill | None = None, prepare: Callable[[], None] | None = None
) -> int:
    """Starts the command line in a forked child; returns its process id. `out` is -1 to close stdout."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        if out >= 0:
            os.dup2(out, 1)
        else:
            os.close(1)
        os.dup2(err, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False) if out >= 0 else None  # type: ignore[assignment]
        sys.stderr = os.fdopen(2, "w", closefd=False)
        sys.argv = ["run.py", *arguments]
        try:
            if prepare is not None:
                prepare()
            if kill is not None:
                kill.arm()
            harness.cli.main.main()
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        except BaseException:
            traceback.print_exc()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(code)


def wait(child: int, seconds: float) -> int | None:
    """The exit code; None if the child was killed here after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def run(
    arguments: Sequence[str],
    *,
    out: int | None = None,
    seconds: float = LIMIT_S,
    kill: Kill | None = None,
    prepare: Callable[[], None] | None = None,
) -> Ended:
    """Runs the command line to its end; stdout goes to the descriptor `out` (-1: closed) or is read.

    `prepare` is called in the child before it starts.
    """
    with tempfile.TemporaryFile() as own, tempfile.TemporaryFile() as err:
        target = own.fileno() if out is None else out
        code = wait(start(arguments, target, err.fileno(), kill, prepare), seconds)
        texts = []
        for file in (own, err):
            file.seek(0)
            texts.append(file.read().decode(errors="backslashreplace"))
    return Ended(code, *texts)


def count_steps(arguments: Sequence[str]) -> tuple[Ended, int]:
    """Runs the command line undisturbed, and counts its steps."""
    with tempfile.TemporaryFile() as counted:
        ended = run(arguments, kill=Kill(None, counted=counted.fileno()))
        return ended, os.fstat(counted.fileno()).st_size
