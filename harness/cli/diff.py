"""`diff`: what differs between two searches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.command import JsonOption, verb

if TYPE_CHECKING:
    from rich.console import Console

    from harness.report.comparison import RunDifference

__all__ = ["run_diff"]


@verb("Look")
def diff(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder that is compared with it.")],
    most: Annotated[int, typer.Option(min=0, help="Items to show at most.")] = 10,
    json: JsonOption = False,
) -> None:
    """Compares two searches: settings, coefficients, paired difference on test, items that changed."""
    run_diff(first, second, most, json)


def run_diff(first: Path, second: Path, most: int, json: bool) -> None:
    """Prints what differs between two runs; with `json`, all of it as JSON."""
    from harness.display.console import open_console, print_json
    from harness.report.comparison import difference_of
    from harness.run_folder.read import open_run

    found = difference_of(open_run(first), open_run(second))
    if json:
        print_json(found.model_dump_json(indent=2))
    _print(found, open_console(stderr=json), most)


def _print(found: RunDifference, console: Console, most: int) -> None:
    from rich.table import Table

    from harness.display.tables import number
    from utilities.foreign_text import short

    console.print(found.conclusion, style="bold", highlight=False)
    for title, heading, rows in (
        ("settings", "setting", {name: (_shown(a), _shown(b)) for name, (a, b) in found.settings.items()}),
        ("winner", "expert", {name: (f"{a:+.3f}", f"{b:+.3f}") for name, (a, b) in found.coefficients.items()}),
    ):
        table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        table.add_column(heading, overflow="fold", min_width=18)
        for _ in range(2):
            table.add_column(justify="right" if heading == "expert" else "left", overflow="fold")
        table.columns[1].header, table.columns[2].header = "first", "second"
        for name, pair in rows.items():
            table.add_row(name, *pair)
        console.print(table if rows else f"{title}: no difference", highlight=False)
    known = [(one.before, one.after) for one in found.changed if one.before is not None and one.after is not None]
    higher = sum(after > before for before, after in known)
    lower, unscored = len(known) - higher, len(found.changed) - len(known)
    text = f"{len(found.changed)} of {found.items} items have another score: {higher} higher, {lower} lower"
    console.print(f"{text}, {unscored} unscored in one of the runs" if unscored else text, highlight=False)
    for one in found.changed[:most]:
        console.print(f"\n{one.item}  {number(one.before)} -> {number(one.after)}", style="bold", highlight=False)
        if one.question is not None:
            console.print(one.question, highlight=False)
        for name, response in (("first", one.response_before), ("second", one.response_after)):
            console.print(f"  {name}: {short(response, 200)}", style="dim", highlight=False)
    if len(found.changed) > most:
        console.print(f"\n{len(found.changed) - most} more: --most, or --json for all", style="dim", highlight=False)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)
