"""`lab`: whether a utility can be trusted as an objective."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.command import ConfigOption, Display, DisplayOption, Given, JsonOption, TrackOption, verb
from harness.cli.options import ENGINE, JUDGES, MODELS, MONITOR, SEARCH, TASK, check_hyperparameters, layered_settings
from harness.session.settings import RunSettings, read_config
from utilities.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from harness.lab.result import Examination

__all__ = ["run_lab"]

QUIET = 10.0
"""Seconds between two progress lines without a live screen."""


UNREAD = MONITOR | {"objective", "validation_share", "factuality"}
"""Settings without effect here: the design is the objective, on all dev items, and no other score is reported."""


@verb("Compare", reads=(TASK | MODELS | ENGINE | JUDGES | SEARCH) - UNREAD)
def lab(
    given: Given,
    designs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DESIGN]...",
            help="Utilities to test: a scorer's name or FILE.py:NAME, with options as ,NAME=VALUE; by default the"
            " task's own.",
        ),
    ] = None,
    config: ConfigOption = None,
    labels: Annotated[
        Path | None, typer.Option(help="Human labels of answers: .jsonl or .csv with item, response, rater, label.")
    ] = None,
    responses: Annotated[
        list[Path] | None, typer.Option(help="Folder of a run whose stored answers are tested; no model is loaded.")
    ] = None,
    cloud: Annotated[int, typer.Option(min=0, help="Mixtures of two experts that are measured too.")] = 12,
    probes: Annotated[
        int | None,
        typer.Option(
            min=1, help="Dev items that bad and repeated answers are made of; by default 200, with judges 25."
        ),
    ] = None,
    search: Annotated[bool, typer.Option("--search", help="Also search with each design as the objective.")] = False,
    budget: Annotated[int, typer.Option(min=1, help="Evaluations on dev of each of these searches.")] = 60,
    seeds: Annotated[int, typer.Option(min=1, help="Searches with each design.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder of the lab; an interrupted one is resumed.")] = None,
    track: TrackOption = None,
    display: DisplayOption = "auto",
    json: JsonOption = False,
) -> None:
    """Tests whether a utility can be trusted as an objective, before a search is spent on it.

    The same command again resumes a lab that was interrupted, and sends no judge request twice.
    """
    from_file = read_config(config) if config else {}
    if responses and (given["task"] or from_file.get("task")):
        raise UserError("--responses already determines the task; omit --task")
    wanted = {"designs": tuple(designs or ()), "labels": labels, "cloud": cloud, "probes": probes}
    wanted |= {"search": search, "budget": budget, "seeds": seeds}
    layers = {**from_file, **{k: v for k, v in given.items() if v is not None}}
    settings = None if responses else layered_settings(config, given)
    if settings is not None:
        check_hyperparameters(settings, given)
    run_lab(settings or layers, wanted, responses or [], out, display, json, track or ())


def run_lab(
    settings: RunSettings | Mapping[str, Any],
    wanted: Mapping[str, Any],
    responses: Sequence[Path],
    out: Path | None,
    display: Display,
    json: bool,
    track: Sequence[str] = (),
) -> Examination:
    """Tests designs, shows progress and findings, and reports where everything is written.

    Args:
        settings: Settings of the lab; with `responses`, flat values that override the run's.
        wanted: The fields of `harness.lab.lab.LabOptions`.
        responses: Folders of stored answers; if empty, models answer.
        out: The folder of the lab, new or to be resumed; by default one in `runs`.
        display: What is shown.
        json: Whether the result is printed as JSON, and all else on stderr.
        track: Trackers that receive the events.
    """
    from harness.display.console import announce, open_console, print_json

    if isinstance(settings, RunSettings):
        announce(settings.task, settings.base_model, display)
    from harness.display.resumable import continued_screen
    from harness.lab.lab import LabOptions, examine_designs, examine_stored
    from harness.lab.table import examination_tables

    console = open_console(stderr=json)
    with continued_screen(console, display, out or Path("runs")) as live:
        progress = _progress(console, live, display)
        if isinstance(settings, RunSettings):
            examination, folder = examine_designs(settings, LabOptions(**wanted), out, progress, track)
        else:
            examination, folder = examine_stored(responses, settings, LabOptions(**wanted), out, progress, track)
    if json:
        print_json(examination.model_dump_json(indent=2), stored=folder)
    if display != "none":
        console.print(examination_tables(examination))
        files = ", ".join(str(folder / f"lab.{kind}") for kind in ("json", "png"))
        console.print(f"Written: {files}", markup=False, soft_wrap=True)
    return examination


def _progress(console: Console, live: Live | None, display: Display) -> Callable[[str], None]:
    """Shows the current step: in place on a terminal, else a line now and then; costs and notes are always shown."""
    from rich.text import Text

    last = 0.0

    def show(text: str) -> None:
        nonlocal last
        important = text.startswith(("judges:", "note:"))
        if live is not None:
            if important:
                live.console.print(text, markup=False, highlight=False)
            live.update(Text(text, style="cyan"), refresh=True)
        elif display != "none" and (important or time.monotonic() - last > QUIET):
            last = time.monotonic()
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    return show
