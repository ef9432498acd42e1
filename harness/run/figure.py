"""`search.png`: every row of a search over evaluations, the best so far, and the values of the final test."""

from __future__ import annotations

from pathlib import Path

from harness.run_folder.read import Run
from utilities.errors import UserError

__all__ = ["write_figure"]

DPI = 150
NORMAL = 1.96
"""Standard errors on each side of a 95 % interval."""


def write_figure(run: Run, path: Path) -> None:
    """Writes a PNG of a finished search. Replaces the file atomically.

    Args:
        run: The run.
        path: The file to write.

    Raises:
        UserError: The run is not finished.
    """
    from matplotlib.figure import Figure  # not pyplot, which keeps figures in memory and selects a GUI backend

    result = run.result
    if result is None:
        raise UserError(f"{run.folder} is not finished; it has no figure yet")
    scores = run.scores
    figure = Figure(figsize=(9, 4.4), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.92")
        axes.tick_params(labelsize=10)
    left.plot(scores["evaluations"], scores["metric"], ".", color="0.6", markersize=6)
    best = scores["metric"].cummax()
    left.step(scores["evaluations"], best, where="post", color="black", linewidth=1.8)
    left.set_xlabel("evaluations on dev", fontsize=11)
    left.set_ylabel(f"{result.task}: metric", fontsize=11)
    left.set_title("search on dev: every mixture (dots), the best so far (line)", loc="left", fontsize=11)
    shown = {
        "base model": ("base", "s"),
        f"best initial\n({result.best_initial[:18]})": (result.best_initial, "o"),
        "winner": ("winner", "D"),
    }
    rows = {("base" if row.kind == "base" else row.name): row for row in result.rows}
    places = [(label, rows[name], marker) for label, (name, marker) in shown.items() if name in rows]
    for k, (_, row, marker) in enumerate(places):
        if row.test is not None:
            color = "black" if row.kind == "winner" else "0.45"
            right.errorbar(k, row.test, NORMAL * (row.test_se or 0.0), fmt=marker, color=color, capsize=3, markersize=7)
            right.annotate(f"{row.test:.3f}", (k, row.test), (7, 5), textcoords="offset points", fontsize=9)
    right.set_xticks(range(len(places)), [label for label, _, _ in places], fontsize=9, rotation=20, ha="right")
    right.set_xlim(-0.6, len(places) - 0.2)
    right.set_title("final test, 95 % interval", loc="left", fontsize=11)
    temporary = path.with_name(path.name + ".new")
    figure.savefig(temporary, format="png", dpi=DPI)
    temporary.replace(path)
