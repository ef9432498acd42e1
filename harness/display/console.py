"""The console of every verb, and the standard streams: what people see never ends or falsifies a run.

`open_console` makes a rich console that shows foreign text as it is: no markup is read in plain strings, and control
characters are made visible. `standard_streams` makes writing to a closed, full or broken stdout harmless, and with
`--json` reserves stdout for the one JSON document: whatever else writes to it, libraries and user code included,
reaches stderr. The document is printed by `print_json`.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from utilities.errors import first_line
from utilities.foreign_text import printable

__all__ = ["announce", "open_console", "print_json", "standard_streams"]


class _FilteredConsole(Console):
    """A console whose output has no control character but rich's own."""

    def render_str(self, text: str, *arguments: Any, **options: Any) -> Text:
        """A string as rich's text; also called by rich for cells, headings and titles, before it measures them."""
        return super().render_str(printable(text, lines=True), *arguments, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments of a renderable; also called by rich for every nested one."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text, lines=True), segment.style)


def open_console(*, stderr: bool = False, **options: Any) -> Console:
    """A console for stdout, or stderr; strings are printed as they are, without markup."""
    return _FilteredConsole(stderr=stderr, **{"markup": False, "emoji": False, **options})


def announce(task: str, base_model: object, display: str = "auto") -> None:
    """Prints a first line on stderr, before libraries are loaded, so that a command is not silent for seconds."""
    if display != "none":
        text = f"{task}: reading data, experts and the base model ({base_model}) ..."
        open_console(stderr=True, soft_wrap=True).print(text, style="dim", highlight=False)


class _Forgiving:
    """A text stream that stops writing at its first failure (closed, full, reader gone) and never raises."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | ValueError | None = None
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")  # a terminal with another encoding shows escapes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes, if the stream still works."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes lines, if the stream still works."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Flushes, if the stream still works."""
        self._try(self._stream.flush)

    def _try(self, action: Callable[[], object]) -> None:
        if self.failure is None:
            try:
                action()
            except (OSError, ValueError) as error:
                self.failure = error

    def settle(self) -> None:
        """Flushes; text that cannot be written is discarded, else the interpreter would fail on it when it exits."""
        self.flush()
        if self.failure is None:
            return
        with suppress(OSError, ValueError), Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), self._stream.fileno())
            self._stream.flush()


_reserved: list[_Forgiving] = []
"""The real stdout while `--json` reserves it."""


@contextmanager
def standard_streams(*, json: bool) -> Iterator[None]:
    """While the block runs, stdout and stderr never raise; with `json`, only `print_json` writes to stdout."""
    for descriptor in range(3):  # a descriptor that the caller closed would be given to the next file that is opened
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    out, err = (
        _Forgiving(stream or os.fdopen(number, "w", closefd=False)) for number, stream in enumerate(before, start=1)
    )
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        with _reserving(out, err) if json else nullcontext():
            yield
    finally:
        out.settle()
        err.settle()
        sys.stdout, sys.stderr = before


@contextmanager
def _reserving(out: _Forgiving, err: _Forgiving) -> Iterator[None]:
    """Sends to stderr what is written to stdout, also by C libraries and child processes."""
    out.flush()
    real = None
    with suppress(OSError, ValueError):  # a stream without a descriptor, as tests and notebooks have
        if out.fileno() == 1:
            real = os.dup(1)
            os.dup2(2, 1)
    _reserved.append(out if real is None else _Forgiving(os.fdopen(real, "w", encoding="utf-8", closefd=False)))
    sys.stdout = cast(TextIO, err)
    try:
        yield
    finally:
        _reserved.pop().settle()
        sys.stdout = cast(TextIO, out)
        if real is not None:
            os.dup2(real, 1)
            os.close(real)


def print_json(text: str, *, stored: Path | None = None) -> None:
    """Prints the one JSON document of a verb on stdout.

    Args:
        text: The document.
        stored: The folder that holds the same result.

    Raises:
        SystemExit: stdout cannot be written, and the result is nowhere else. (A reader that went away wanted no more.)
    """
    target = _reserved[-1] if _reserved else _Forgiving(sys.stdout)
    target.write(text + "\n")
    target.flush()
    if target.failure is None or getattr(target.failure, "errno", None) in {errno.EPIPE, errno.EIO}:
        return
    where = "" if stored is None else f"; the result is in {stored}"
    open_console(stderr=True, soft_wrap=True).print(f"stdout cannot be written: {first_line(target.failure)}{where}")
    if stored is None:
        raise SystemExit(1)
