"""Analyses of finished searches from their folders: writes analyse.json and the figures; no model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.analysis.claims import diamond, emergence
from harness.analysis.page import paper_page
from harness.analysis.result import Analysed
from harness.analysis.trajectory import write_trajectory
from harness.run_folder.read import Run, open_run
from harness.run_folder.result import Result
from harness.run_folder.store import write_atomically
from utilities.errors import UserError

__all__ = ["analyse_runs", "draw", "name_of", "save", "sizes"]


def analyse_runs(folders: Sequence[Path], out: Path, note: Callable[[str], None]) -> Analysed:
    """Emergence, diamond in the rough and trajectories of finished searches.

    Args:
        folders: Run folders.
        out: Where analyse.json and the figures go; created if missing.
        note: Called with the reason why a figure was not drawn.

    Raises:
        UserError: Not a finished search.
    """
    runs = [open_run(folder) for folder in folders]
    results = [run.result for run in runs if run.study == "search" and run.result is not None]
    if len(results) < len(runs):
        folder = next(run.folder for run in runs if run.study != "search" or run.result is None)
        raise UserError(f"{folder} is not a finished search; finish it with `resume`, or name another folder")
    claims = [emergence(runs, "dev"), emergence(runs, "test"), diamond(runs)]
    out.mkdir(parents=True, exist_ok=True)
    figures, problems = draw(runs, out)
    for text in problems:
        note(f"no trajectory: {text}")
    analysed = Analysed(runs=[name_of(run) for run in runs], settings=sizes(results), claims=claims, figures=figures)
    save(analysed, out)
    return analysed


def name_of(run: Run) -> str:
    """Task and seed of a search."""
    return f"{run.settings['task']} seed {run.settings['seed']}"


def sizes(results: Sequence[Result]) -> str:
    """Models, optimisers and evaluations of searches, each once."""
    texts = (f"{r.model}, {r.optimiser}, {r.iterations} iterations, {r.evaluations} evaluations" for r in results)
    return "; ".join(dict.fromkeys(texts))


def draw(runs: Sequence[Run], out: Path) -> tuple[list[str], list[str]]:
    """Writes the trajectory of each run; the files' names, and the reasons why some were not drawn."""
    figures, problems = [], []
    for run in runs:
        folder = out if len(runs) == 1 else out / run.folder.name
        try:
            folder.mkdir(exist_ok=True)
            try:
                paths = write_trajectory(run, folder)
            except UserError:  # the experts are not where they were
                paths = write_trajectory(run, folder, entries=False)
            figures += [str(path.relative_to(out)) for path in paths]
        except UserError as error:
            problems.append(str(error))
    return figures, problems


def save(analysed: Analysed, out: Path) -> None:
    """Writes analyse.json and paper.md."""
    write_atomically(out / "paper.md", paper_page(analysed))
    write_atomically(out / "analyse.json", analysed.model_dump_json(indent=2) + "\n")
