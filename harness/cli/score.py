"""`score`: the stored responses of a run, scored with another utility."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.command import JsonOption, verb
from harness.cli.evaluate import evaluation_json

__all__ = ["run_score"]


@verb("Evaluate")
def score(
    folder: Annotated[Path, typer.Argument(help="The run folder, or the folder of `evaluate --out`.")],
    utility: Annotated[
        str | None, typer.Option(help="A scorer's name, or FILE.py:NAME; by default the task's own.")
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="Option of the scorer, as NAME=VALUE.")] = None,
    combine: Annotated[str | None, typer.Option(help="Combination that makes one number of the item sets.")] = None,
    json: JsonOption = False,
) -> None:
    """Scores the stored responses of a run with another utility, without generating."""
    given = {"utility": utility, "option": tuple(option or ()), "combine": combine}
    run_score(folder, {name: value for name, value in given.items() if value}, json)


def run_score(folder: Path, settings: dict[str, Any], json: bool) -> None:
    """Scores the stored responses of a run with the given utility, and shows stored and new values."""
    from rich.table import Table

    from harness.display.console import open_console, print_json
    from harness.display.tables import number
    from harness.session.evaluator import problem
    from harness.session.rescore import rescore

    console = open_console(stderr=json)
    rescored = rescore(folder, settings, lambda text: console.print(f"note: {text}", style="yellow", markup=False))
    if json:
        rows = [
            {**evaluation_json(one.label, one.split, one.now), "stored": one.stored.value, "stored_se": one.stored.se}
            for one in rescored
        ]
        print_json(jsonlib.dumps(rows, indent=2))
    table = Table(title=f"{folder}, scored again", title_justify="left", title_style="bold")
    table.add_column("model", overflow="fold")
    for column in ("split", "stored", "now", "n", "unscored"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in rescored:
        counts = (str(one.now.n), str(one.now.n_unscored))
        values = (number(one.stored.value, one.stored.se), number(one.now.value, one.now.se))
        table.add_row(one.label, one.split, *values, *counts)
    console.print(table)
    for text in sorted({problem(one.now) for one in rescored if one.now.problem}):
        console.print(f"not comparable: {text}", style="yellow", markup=False)
