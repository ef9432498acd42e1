"""The screen of a comparison, sweep or lab: a live table, and how to resume after Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["Display", "continued_screen", "note_printer"]

Display = Literal["auto", "plain", "none"]


@contextmanager
def continued_screen(console: Console, display: Display, folder: Path) -> Iterator[Live | None]:
    """A live table if the console is a terminal, else None; after an interruption it prints how to resume `folder`."""
    from rich.live import Live

    try:
        if display == "auto" and console.is_terminal and not console.is_dumb_terminal:
            with Live(console=console, transient=True) as live:
                yield live
        else:
            yield None
    except KeyboardInterrupt:
        text = f"Interrupted; progress is saved. Run the same command again to resume {folder}"
        console.print(text, markup=False, soft_wrap=True)
        raise


def note_printer(console: Console, display: Display) -> Callable[[str], None]:
    """Prints notes of a session, unless `display` is none."""

    def note(text: str) -> None:
        if display != "none":
            console.print(f"note: {text}", style="yellow", markup=False, soft_wrap=True)

    return note
