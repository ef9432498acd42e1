"""`report`: one HTML file on a run, a comparison, a sweep or a lab, or on several of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.command import JsonOption, verb

__all__ = ["run_report"]


@verb("Look")
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of runs, comparisons, sweeps, labs, `evaluate --out`."),
    ],
    out: Annotated[Path | None, typer.Option(help="The file; by default report.html in the first folder.")] = None,
    every_item: Annotated[bool, typer.Option("--all", help="Show every item, not the most telling 200.")] = False,
    json: JsonOption = False,
) -> None:
    """Writes a report: one HTML file with conclusion, tables, figures and answers, which loads nothing.

    Several folders are shown side by side.
    """
    run_report(folders, out, every_item, json)


def run_report(folders: list[Path], out: Path | None, every_item: bool, json: bool) -> None:
    """Writes the report and prints its path."""
    import json as jsonlib

    from harness.display.console import open_console, print_json
    from harness.report.page import write_report

    path = write_report(folders, out, every_item=every_item)
    if json:
        print_json(jsonlib.dumps({"report": str(path), "bytes": path.stat().st_size}))
    open_console(stderr=json).print(f"report: {path} ({path.stat().st_size / 1000:,.0f} kB)", soft_wrap=True)
