"""`sweep`: many searches with different hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli.command import ConfigOption, Display, DisplayOption, Given, JsonOption, TrackOption, verb
from harness.cli.options import ENGINE, JUDGES, MODELS, MONITOR, SEARCH, TASK, layered_settings
from harness.session.settings import RunSettings

if TYPE_CHECKING:
    from harness.sweep.result import Swept, SweptTrial

__all__ = ["run_sweep"]

Sampler = Literal["tpe", "random"]
UNREAD = MONITOR | {"preset", "optimiser", "objective", "winner", "top_k", "validation_share"}
"""Search settings without effect here: every trial is the published particle swarm on the metric."""


@verb("Compare", reads=TASK | MODELS | ENGINE | JUDGES | (SEARCH - UNREAD))
def sweep(
    given: Given,
    config: ConfigOption = None,
    trials: Annotated[int, typer.Option(min=2, help="Searches; the first has the settings as given.")] = 30,
    sampler: Annotated[Sampler, typer.Option(help="How hyperparameters are proposed.")] = "tpe",
    budget: Annotated[
        int | None,
        typer.Option(min=1, help="Evaluations of each search; by default those of the settings' iterations, or 120."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the sweep; an interrupted one is resumed.")] = None,
    track: TrackOption = None,
    display: DisplayOption = "auto",
    json: JsonOption = False,
) -> None:
    """Sweeps hyperparameters of the particle swarm and re-evaluates the best trial on held-out dev data.

    The same command again resumes a sweep that was interrupted.
    """
    run_sweep(
        layered_settings(config, given),
        trials=trials,
        sampler=sampler,
        budget=budget,
        out=out,
        display=display,
        json=json,
        track=track or (),
    )


def run_sweep(
    settings: RunSettings,
    *,
    trials: int,
    sampler: Sampler,
    budget: int | None,
    out: Path | None,
    display: Display,
    json: bool,
    track: Sequence[str] = (),
) -> Swept:
    """Sweeps, reports every trial, and shows the best one on held-out dev data."""
    from harness.display.console import announce, open_console, print_json

    announce(settings.task, settings.base_model, display)
    from harness.display.resumable import continued_screen, note_printer
    from harness.sweep.sweep import Plan, default_budget
    from harness.sweep.sweep import sweep as run_trials
    from harness.sweep.table import sweep_tables, trial_line, trials_table

    console = open_console(stderr=json)
    folder = out or Path("runs") / f"sweep-{Path(settings.task).stem}-seed{settings.seed}"
    plan = Plan(trials, default_budget(settings.swarm) if budget is None else budget, sampler)
    printed = 0

    def watch(done: Sequence[SweptTrial]) -> None:
        nonlocal printed
        if live is not None:
            live.update(trials_table(done, f"{len(done)} of {trials} trials done"), refresh=True)
        elif display != "none":
            for trial in done[printed:]:
                console.print(trial_line(trial), markup=False, highlight=False, soft_wrap=True)
        printed = len(done)

    with continued_screen(console, display, folder) as live:
        swept = run_trials(settings, plan, folder, watch, note_printer(console, display), track)
    if json:
        print_json(swept.model_dump_json(indent=2), stored=folder)
    if display != "none":
        console.print(sweep_tables(swept))
        text = f"Written: {folder / 'sweep.json'}, {folder / swept.adapter} (the picked mixture)"
        console.print(text, markup=False, soft_wrap=True)
    return swept
