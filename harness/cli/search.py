"""`search`: one search from its beginning, in a new run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.command import ConfigOption, Display, DisplayOption, Given, JsonOption, TrackOption, verb
from harness.cli.options import CACHE, ENGINE, JUDGES, MODELS, SEARCH, TASK, check_hyperparameters, layered_settings
from harness.session.settings import RunSettings, read_config, run_settings
from utilities.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.run_folder.result import Result
    from harness.run_folder.store import Store
    from harness.session.session import Session
    from utilities.judges.budget import Spent

__all__ = ["continue_search", "run_search", "show_result"]


@verb("Search", reads=TASK | MODELS | SEARCH | ENGINE | CACHE | JUDGES)
def search(
    given: Given,
    config: ConfigOption = None,
    topic: Annotated[
        str | None, typer.Option(help="A topic of your own instead of a task: instructions on it are drafted first.")
    ] = None,
    instructions: Annotated[
        Path | None, typer.Option(help="Your own instructions on it: .txt, one a line, or .json, .jsonl, .yaml.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of run folders.")] = Path("runs"),
    name: Annotated[
        str | None, typer.Option(help="Name of the run folder; by default task, seed and a number.")
    ] = None,
    track: TrackOption = None,
    display: DisplayOption = "auto",
    json: JsonOption = False,
) -> None:
    """Adapts a pool of experts to a task or a topic by searching their mixtures (the default verb).

    The default optimiser is CMA-ES on mixtures with nonnegative coefficients (--optimiser cma-positive). The published
    particle swarm (Model Swarms, Algorithm 1) is --preset paper.
    """
    spent = None
    if topic is not None or instructions is not None:
        if given["task"] is not None:
            raise UserError("--task and --topic exclude each other: a topic becomes the task")
        from harness.topics.draft import topic_task

        layers = ({"task": "topic"}, read_config(config) if config else {}, given)
        path, spent = topic_task(topic, instructions, run_settings(*layers), out, _note)
        given["task"] = str(path)
    settings = layered_settings(config, given)
    check_hyperparameters(settings, given)
    run_search(settings, out, name, display, json, spent, track or ())


def _note(text: str) -> None:
    from harness.display.console import open_console

    open_console(stderr=True, soft_wrap=True).print(f"note: {text}", style="dim", markup=False, highlight=False)


def run_search(
    settings: RunSettings,
    out: Path,
    name: str | None,
    display: Display,
    json: bool,
    spent: Spent | None = None,
    track: Sequence[str] = (),
) -> None:
    """Searches from the beginning, in a new run folder; `spent` is what its judges have cost already."""
    from harness.display.console import announce

    announce(settings.task, settings.base_model, display)
    from harness.run_folder.store import Store, checked_name, free_folder
    from harness.session.provenance import provenance
    from harness.session.session import open_session

    folder = out / checked_name(name) if name else free_folder(out, f"{Path(settings.task).stem}-seed{settings.seed}")
    Store.check_new(folder)  # before experts and data are read
    settings = settings.anywhere()
    session = open_session(settings, start=True, spent=spent)
    try:
        document = {"settings": settings.model_dump(mode="json"), **provenance(session)}
        continue_search(session, Store.create(folder, document), display, json, track)
    finally:
        session.close()


def continue_search(session: Session, store: Store, display: Display, json: bool, track: Sequence[str] = ()) -> None:
    """Runs a search from where its store stands to its end, and shows the result; closes the store."""
    from harness.display.console import open_console
    from harness.display.live import make_screen
    from harness.run.adapt import adapt
    from harness.trackers.base import Trackers

    console = open_console(stderr=json)
    screen, bus = make_screen(display, console), store.bus
    try:
        for event in store.events():
            screen(event)  # a resumed run shows what came before
        bus.subscribe(store.log)
        bus.subscribe(screen)
        with screen, Trackers(track, store, _note):
            result = adapt(session, store, bus)
    except KeyboardInterrupt:
        console.print(f"Interrupted; continue with: python run.py resume {store.folder}", markup=False, soft_wrap=True)
        raise
    finally:
        store.close()
    _draw(store.folder, console)
    show_result(result, console, display, json)


def _draw(folder: Path, console: Console) -> None:
    """Writes `search.png`; a figure that cannot be drawn does not end a run."""
    from harness.run.figure import write_figure
    from harness.run_folder.read import open_run

    try:
        write_figure(open_run(folder), folder / "search.png")
    except Exception as error:
        console.print(f"note: search.png was not drawn: {error}", style="yellow", soft_wrap=True)


def show_result(result: Result, console: Console, display: Display, json: bool) -> None:
    """Prints a finished run: as JSON on stdout, and its tables unless `display` is none."""
    from harness.display.console import print_json
    from harness.display.tables import print_result

    if json:
        print_json(result.model_dump_json(indent=2), stored=Path(result.run))
    if display != "none":
        print_result(result, console)
