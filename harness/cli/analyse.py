"""`analyse`: the analyses of the Model Swarms paper, each with a control and an interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.command import ConfigOption, Given, JsonOption, TrackOption, verb
from harness.cli.options import ENGINE, MODELS, PARTICLE_SWARM, TASK, layered_settings
from harness.session.settings import RunSettings
from utilities.errors import UserError

if TYPE_CHECKING:
    from harness.analysis.result import Analysed

__all__ = ["run_analyse"]

READS = TASK | MODELS | ENGINE | PARTICLE_SWARM | {"seed", "particles", "iterations", "patience"}


@verb("Compare", reads=READS)
def analyse(
    given: Given,
    config: ConfigOption = None,
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN...]", help="Finished searches to read, in place of --task.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Names of analyses, separated by commas, such as emergence,diamond.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every analysis of the paper.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Searches of each kind.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; an interrupted study is resumed there.")
    ] = None,
    track: TrackOption = None,
    json: JsonOption = False,
) -> None:
    """Tests the claims of the paper, each with a control and an interval.

    With RUN, stored answers of finished searches are read and no model is loaded: emergence, diamond, trajectory. With
    --task (several are separated by commas) the published search and its variants are run: --all, or --only.
    """
    if runs:
        if unread := [name for name, value in given.items() if value is not None] + ["config"] * (config is not None):
            raise UserError(f"RUN is read as it is; remove --{unread[0].replace('_', '-')}, or RUN")
        if only or everything:
            raise UserError("RUN has emergence, diamond and trajectory; remove --only and --all, or use --task")
        if track:
            raise UserError("RUN is read and nothing is run that --track could follow; remove it, or use --task")
        run_analyse(runs, out, json)
        return
    if only and everything:
        raise UserError("--only and --all exclude each other")
    tasks = [name.strip() for name in (given["task"] or "").split(",")]
    published = {"preset": "paper", "optimiser": "pso", "objective": "metric", "winner": "best"}
    settings = [layered_settings(config, {**given, **published, "task": name or None}) for name in tasks]
    run_study(settings, None if everything else only or "emergence,diamond,trajectory", seeds, out, json, track or ())


def run_analyse(runs: list[Path], out: Path | None, json: bool) -> Analysed:
    """Analyses stored answers, prints the claims and writes them with the figures."""
    from harness.analysis.stored_analysis import analyse_runs
    from harness.display.console import open_console
    from harness.display.resumable import note_printer

    folder = out or runs[0] / "analysis"
    return _show(analyse_runs(runs, folder, note_printer(open_console(stderr=True), "plain")), folder, json)


def run_study(
    settings: Sequence[RunSettings],
    only: str | None,
    seeds: int,
    out: Path | None,
    json: bool,
    track: Sequence[str] = (),
) -> Analysed:
    """Runs the searches of analyses (None: all), or what is left of them, and shows what they say."""
    from harness.analysis.study import ANALYSES, Study
    from harness.display.console import open_console
    from harness.display.resumable import continued_screen
    from utilities.registry import unknown_name

    names = ANALYSES if only is None else tuple(name.strip() for name in only.split(","))
    if unknown := [name for name in names if name not in ANALYSES]:
        raise unknown_name("analysis", unknown[0], ANALYSES)
    folder = out or Path("runs") / f"analyse-{'-'.join(Path(one.task).stem for one in settings)}-seed{settings[0].seed}"
    console = open_console(stderr=True, soft_wrap=True)

    def note(text: str) -> None:
        console.print(text, style="dim", markup=False, highlight=False)

    with continued_screen(console, "plain", folder):
        analysed = Study(settings, names, seeds, folder, note, track).run()
    return _show(analysed, folder, json)


def _show(analysed: Analysed, folder: Path, json: bool) -> Analysed:
    from harness.display.console import open_console, print_json

    console = open_console(stderr=json, soft_wrap=True)
    if json:
        print_json(analysed.model_dump_json(indent=2), stored=folder)
    for claim in analysed.claims:
        console.print(f"{claim.analysis}: {claim.claim}: {claim.verdict}", style="bold", markup=False, highlight=False)
        console.print(f"  {claim.sentence} In the paper: {claim.paper}.", markup=False, highlight=False)
    written = ", ".join(str(folder / name) for name in ("analyse.json", "paper.md", *analysed.figures))
    console.print(f"Written: {written}", markup=False, highlight=False)
    return analysed
