"""`runs`: the run folders in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.command import JsonOption, verb

__all__ = ["run_runs"]


@verb("Look")
def runs(
    folder: Annotated[Path, typer.Argument(help="A folder that has run folders.")] = Path("runs"),
    json: JsonOption = False,
) -> None:
    """Lists run folders: task, model, when, values on dev and test, state."""
    run_runs(folder, json)


def run_runs(folder: Path, json: bool) -> None:
    """Lists the run folders in a folder, the most recent last."""
    import json as jsonlib

    from harness.display.console import open_console, print_json
    from harness.display.tables import ModelTable, number
    from harness.report.listing import list_runs

    found = list_runs(folder)
    if json:
        print_json(jsonlib.dumps([one.model_dump() for one in found], indent=2))
    names = [Path(one.folder).name or one.folder for one in found]
    columns = [
        ("task", [one.task if one.study in ("search", "") else f"{one.task} ({one.study})" for one in found]),
        ("dev", [number(one.dev) for one in found]),
        ("test", [number(one.test, one.test_se) if one.test is not None else "-" for one in found]),
        ("state", [one.state for one in found]),
        ("when", [one.when for one in found]),
        ("model", [one.model for one in found]),
    ]
    open_console(stderr=json).print(ModelTable(str(folder), names, columns, heading="run"))
