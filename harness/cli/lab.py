"""The verb `lab`: its screen, and what it prints at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.display.console import open_console, print_json
from harness.display.resumable import Display, continued_screen
from harness.lab.lab import Wanted, examine_designs, examine_stored
from harness.lab.table import examination_tables
from harness.session.settings import RunSettings

__all__ = ["run_lab"]

QUIET = 10.0
"""Seconds between two lines on progress, where there is no terminal to draw on."""


def run_lab(
    settings: RunSettings | Mapping[str, Any],
    wanted: Mapping[str, Any],
    responses: Sequence[Path],
    out: Path | None,
    display: Display,
    json: bool,
) -> None:
    """Examines designs, shows how far it is and what it found, and says where everything is.

    Args:
        settings: Of the lab; with `responses` those that were given, which stand over those of the run.
        wanted: The fields of `Wanted`.
        responses: Folders of stored answers; where there are none, models answer.
        out: As in `examine_designs`.
        display: What is shown.
        json: Whether the result is printed as JSON, and all else on stderr.
    """
    console = open_console(stderr=json)
    with continued_screen(console, display, out or Path("runs")) as live:
        progress = _progress(console, live, display)
        if isinstance(settings, RunSettings):
            found, folder = examine_designs(settings, Wanted(**wanted), out, progress)
        else:
            found, folder = examine_stored(responses, settings, Wanted(**wanted), out, progress)
    if json:
        print_json(found.model_dump_json(indent=2), stored=folder)
    if display != "none":
        console.print(examination_tables(found))
        files = ", ".join(str(folder / f"lab.{kind}") for kind in ("json", "png"))
        console.print(f"Written: {files}", markup=False, soft_wrap=True)


def _progress(console: Console, live: Live | None, display: Display) -> Callable[[str], None]:
    """Shows what is being done: in place on a terminal, else a line now and then; an estimate is always shown."""
    last = 0.0

    def tell(text: str) -> None:
        nonlocal last
        important = text.startswith("judges:")
        if live is not None:
            if important:
                live.console.print(text, markup=False, highlight=False)
            live.update(Text(text, style="cyan"), refresh=True)
        elif display != "none" and (important or time.monotonic() - last > QUIET):
            last = time.monotonic()
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    return tell
