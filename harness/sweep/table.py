"""Renders a sweep in 80 columns; `sweep.json` has full precision."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.display.tables import clock, difference_line, number, plain_table
from harness.sweep.result import Final, Swept, SweptTrial

__all__ = ["sweep_tables", "trial_line", "trials_table"]


def sweep_tables(swept: Swept) -> RenderableType:
    """The trials, the picked one compared with the defaults and the best expert, and explanatory notes."""
    picked = swept.picked.trial
    lines = [
        difference_line("picked - defaults", swept.difference["picked_minus_defaults"]),
        difference_line("picked - best initial", swept.difference["picked_minus_best_initial"]),
        f"importance: {swept.importance_problem}"
        if swept.importance is None
        else f"importance: {', '.join(f'{name} {share:.2f}' for name, share in swept.importance.items())}",
    ]
    notes = [
        f"picking: {_items(swept.picking.items, swept.picking.clusters)} of dev, on which trials search and are ranked;"
        f" confirming: the other {_items(swept.confirming.items, swept.confirming.clusters)}, which none of them saw",
        "shrinkage: picking - confirming; what exceeds the best initial expert's comes from searching and picking",
    ]
    title = f"{swept.task} ({swept.engine}, {swept.model}, {swept.sampler}, budget {swept.budget})"
    return Group(
        trials_table(swept.trials, title, picked),
        Text(),
        _finals(swept),
        *(Text(line, style="dim") for line in notes),
        Text(),
        *(Text(line) for line in lines),
    )


def trials_table(trials: Sequence[SweptTrial], title: str, picked: int | None = None) -> Table:
    """A table with one row per trial, in order."""
    table = plain_table(title)
    table.add_column("trial", no_wrap=True)
    names = list(trials[0].parameters) if trials else []
    for name in (*(name.replace("step_length", "step") for name in names), "value", "evals", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for trial in trials:
        marks = [*(["defaults"] if trial.number == 0 else []), *(["picked"] if trial.number == picked else [])]
        cells = [f"{trial.parameters[name]:g}" for name in names]
        cells += [number(trial.value), str(trial.evaluations), clock(trial.seconds)]
        style = "bold green" if trial.number == picked else ""
        table.add_row(" ".join([str(trial.number), *marks]), *cells, style=style)
    return table


def trial_line(trial: SweptTrial) -> str:
    """One sentence about a finished trial."""
    parameters = ", ".join(f"{name} {value:g}" for name, value in trial.parameters.items())
    cost = f"{trial.evaluations} evaluations, {trial.seconds:.1f} s"
    return f"trial {trial.number}: {number(trial.value)} ({parameters}; {cost})"


def _finals(swept: Swept) -> Table:
    table = plain_table("what is left of it")
    table.add_column("model", overflow="fold")
    for name in ("picking", "confirming ± se", "shrinkage", "test ± se"):
        table.add_column(name, justify="right", no_wrap=True)

    def add(label: str, final: Final, style: str) -> None:
        shrinkage = "-" if final.shrinkage is None else f"{final.shrinkage:+z.4f}"
        confirming, test = (number(one.value, one.se) for one in (final.confirming, final.test))
        table.add_row(label, number(final.picking), confirming, shrinkage, test, style=style)

    same = " = defaults" if swept.picked.trial == 0 else ""
    add(f"picked, trial {swept.picked.trial}{same}", swept.picked, "bold green")
    add("defaults, trial 0", swept.defaults, "")
    add(f"best initial, {swept.best_initial.expert}", swept.best_initial, "")
    return table


def _items(items: int, clusters: int) -> str:
    return f"{items} items" + ("" if items == clusters else f" ({clusters} independent)")
