"""A time limit for one call that may never return: a regular expression that backtracks, a template that loops."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = ["deadline"]


def _late(signal_number: int, frame: FrameType | None) -> NoReturn:
    raise TimeoutError


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Ends the block after so many seconds; outside the main thread, which alone receives signals, there is no limit.

    Raises:
        TimeoutError: The block took longer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGALRM, _late)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)
        signal.signal(signal.SIGALRM, handler)
