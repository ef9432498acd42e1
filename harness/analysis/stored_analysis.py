"""Analyses of finished searches from their folders: writes analyse.json and the figures; no model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.analysis.claims import diamond, emergence
from harness.analysis.page import paper_page
from harness.analysis.result import Analysed, Claim
from harness.analysis.trajectory import write_trajectory
from harness.run_folder.read import Run, open_run
from harness.run_folder.result import Result
from harness.run_folder.store import write_atomically
from utilities.errors import UserError

__all__ = ["analyse_runs", "finish"]


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
    for run in runs:
        if run.study != "search" or run.result is None:
            raise UserError(f"{run.folder} is not a finished search; finish it with `resume`, or name another folder")
    claims = [emergence(runs, "dev"), emergence(runs, "test"), diamond(runs)]
    return finish(runs, claims, out, note)


def finish(
    runs: Sequence[Run], claims: list[Claim], out: Path, note: Callable[[str], None], draw: bool = True
) -> Analysed:
    """Writes analyse.json, paper.md and, with `draw`, the trajectories of finished searches."""
    out.mkdir(parents=True, exist_ok=True)
    figures: list[str] = []
    for run in runs if draw else ():
        folder = out if len(runs) == 1 else out / run.folder.name
        folder.mkdir(exist_ok=True)
        try:
            try:
                paths = write_trajectory(run, folder)
            except UserError:  # the experts are not where they were
                paths = write_trajectory(run, folder, entries=False)
            figures += [str(path.relative_to(out)) for path in paths]
        except UserError as error:
            note(f"no trajectory: {error}")
    names = [f"{run.settings['task']} seed {run.settings['seed']}" for run in runs]
    results = [run.result for run in runs if run.result is not None]
    analysed = Analysed(runs=names, settings=_sizes(results), claims=claims, figures=figures)
    write_atomically(out / "paper.md", paper_page(analysed))
    write_atomically(out / "analyse.json", analysed.model_dump_json(indent=2) + "\n")
    return analysed


def _sizes(results: Sequence[Result]) -> str:
    """Models, optimisers and evaluations of searches, each once."""
    texts = (f"{r.model}, {r.optimiser}, {r.iterations} iterations, {r.evaluations} evaluations" for r in results)
    return "; ".join(dict.fromkeys(texts))
