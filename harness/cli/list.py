"""What can be named on the command line, in tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.text import Text

    from utilities.lab.verdicts import StoredVerdict

__all__ = ["print_list"]


def print_list(what: Literal["tasks", "utilities", "engines"]) -> None:
    """Prints the names and what they mean; loads no model library."""
    from rich.table import Table
    from rich.text import Text

    from harness.display.console import open_console

    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for name, text in _entries(what).items():
        table.add_row(Text(name, style="bold"), text)
    open_console().print(table)


def _entries(what: Literal["tasks", "utilities", "engines"]) -> Mapping[str, str | Text]:
    if what == "tasks":
        from utilities.tasks import list_tasks, read_task_file

        found = {}
        for name in list_tasks():
            described, _ = read_task_file(name)
            editions = "; ".join(f"{edition}: {', '.join(e.item_sets)}" for edition, e in described.editions.items())
            found[name] = f"{described.title} ({editions})"
        return found
    if what == "utilities":
        from rich.text import Text

        from utilities.combine import combinations
        from utilities.core import scorer_registry
        from utilities.lab.verdicts import read_verdicts

        verdicts = read_verdicts()
        entries: dict[str, str | Text] = {
            name: Text.assemble(f"scorer: {scorer_registry.describe(name)}", _verdict(verdicts.get(name)))
            for name in scorer_registry
        }
        return entries | {name: f"combination: {combinations.describe(name)}" for name in combinations}
    from harness.engines.base import engines

    return {name: engines.describe(name) for name in engines}


def _verdict(found: StoredVerdict | None) -> Text | str:
    """The lab's verdict on a scorer, on a line of its own."""
    from rich.text import Text

    if found is None:
        return ""
    colour = {"fit as objective": "green", "not fit": "bold red"}.get(found.fitness, "yellow")
    where = f" ({found.task}, {found.made})" if found.task else f": {'; '.join(found.because)}"
    reasons = f": {'; '.join(found.because)}" if found.task and found.because else ""
    return Text.assemble("\n", (f"lab: {found.fitness}", colour), where, reasons)
