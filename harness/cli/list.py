"""`list`: the names that options accept, in tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli.command import verb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.text import Text

    from utilities.lab.verdicts import StoredVerdict

__all__ = ["print_list"]

Kind = Literal["tasks", "utilities", "engines"]


@verb("Data")
def list_(kind: Annotated[Kind, typer.Argument(help="What to list.")]) -> None:
    """Lists the names that options accept: tasks, utilities, engines."""
    print_list(kind)


def print_list(kind: Kind) -> None:
    """Prints names and descriptions; loads no model library."""
    from rich.table import Table
    from rich.text import Text

    from harness.display.console import open_console

    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for name, text in _entries(kind).items():
        table.add_row(Text(name, style="bold"), text)
    open_console().print(table)


def _entries(kind: Kind) -> Mapping[str, str | Text]:
    if kind == "tasks":
        from utilities.task_file import list_tasks, read_task_file

        entries = {}
        for name in list_tasks():
            described, _ = read_task_file(name)
            editions = "; ".join(f"{edition}: {', '.join(e.item_sets)}" for edition, e in described.editions.items())
            entries[name] = f"{described.title} ({editions})"
        return entries
    if kind == "utilities":
        from rich.text import Text

        from utilities.combine import combinations
        from utilities.core import scorer_registry
        from utilities.lab.verdicts import read_verdicts

        verdicts = read_verdicts()
        scorers: dict[str, str | Text] = {
            name: Text.assemble(f"scorer: {scorer_registry.describe(name)}", _verdict(verdicts.get(name)))
            for name in scorer_registry
        }
        return scorers | {name: f"combination: {combinations.describe(name)}" for name in combinations}
    from harness.engines.base import engines

    return {name: engines.describe(name) for name in engines}


def _verdict(stored: StoredVerdict | None) -> Text | str:
    """The lab's verdict on a scorer, on a line of its own."""
    from rich.text import Text

    if stored is None:
        return ""
    colour = {"fit as objective": "green", "not fit": "bold red"}.get(stored.fitness, "yellow")
    where = f" ({stored.task}, {stored.made})" if stored.task else f": {'; '.join(stored.because)}"
    reasons = f": {'; '.join(stored.because)}" if stored.task and stored.because else ""
    return Text.assemble("\n", (f"lab: {stored.fitness}", colour), where, reasons)
