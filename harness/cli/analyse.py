"""`analyse`: the analyses of the Model Swarms paper, each with a control and an interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.command import JsonOption, verb

if TYPE_CHECKING:
    from harness.analysis.result import Analysed

__all__ = ["run_analyse"]


@verb("Compare")
def analyse(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of finished searches; their stored answers are read."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of analysis.json and the figures; by default `analysis` in the first run."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Tests claims of the paper on finished searches: emergence, diamond in the rough, trajectory.

    No model is loaded.
    """
    run_analyse(runs, out, json)


def run_analyse(runs: list[Path], out: Path | None, json: bool) -> Analysed:
    """Analyses stored answers, prints the claims and writes them with the figures."""
    from harness.analysis.stored_analysis import analyse_runs
    from harness.display.console import open_console, print_json
    from harness.display.resumable import note_printer

    folder = out or runs[0] / "analysis"
    console = open_console(stderr=json, soft_wrap=True)
    analysed = analyse_runs(runs, folder, note_printer(console, "plain"))
    if json:
        print_json(analysed.model_dump_json(indent=2), stored=folder)
    for claim in analysed.claims:
        console.print(f"{claim.analysis}: {claim.claim}: {claim.verdict}", style="bold", markup=False, highlight=False)
        console.print(f"  {claim.sentence} In the paper: {claim.paper}.", markup=False, highlight=False)
    written = ", ".join(str(folder / name) for name in ("analysis.json", *analysed.figures))
    console.print(f"Written: {written}", markup=False, highlight=False)
    return analysed
