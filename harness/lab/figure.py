"""`lab.png`, one row per design: score histogram, score by length, dev against test, canaries and honest answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.lab.findings import scores
from harness.lab.observations import Observations
from harness.lab.result import Examination
from harness.session.session import BASE
from utilities.lab.scores import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_figure"]

DPI = 150
BINS = 20
POINTS = 2000
"""Maximum number of answers in the plot of lengths."""

Floats = NDArray[np.float64]


def write_figure(examination: Examination, observed: Sequence[Observations], path: Path) -> None:
    """Writes a PNG with four plots per design; an empty plot shows the reason. Replaces the file atomically.

    Args:
        examination: Results of the checks.
        observed: The designs, in the same order.
        path: The file to write.
    """
    from matplotlib.figure import Figure  # not pyplot, which keeps figures in memory and selects a GUI backend

    figure = Figure(figsize=(15, 3.4 * len(observed) + 0.4), dpi=DPI, layout="constrained")
    grid = figure.subplots(len(observed), 4, squeeze=False)
    for row, o, one in zip(grid, observed, examination.designs, strict=True):
        dev = scores(o.experts)
        for axes in row:
            axes.spines[["top", "right"]].set_visible(False)
        _histogram(row[0], dev)
        row[0].set_title(f"{one.design}: {one.conclusion.fitness}", loc="left", fontsize=9, fontweight="bold")
        _lengths(row[1], dev)
        _splits(row[2], o)
        _canaries(row[3], dev, scores(o.canaries))
    figure.suptitle(f"{examination.task} ({examination.edition}), {examination.model}", fontsize=10)
    temporary = path.with_name(path.name + ".new")
    figure.savefig(temporary, format="png", dpi=DPI)
    temporary.replace(path)


def _empty(axes: Axes, why: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", fontsize=8, color="0.4", wrap=True)


def _histogram(axes: Axes, dev: Scores | None) -> None:
    values = np.array([]) if dev is None else dev.values[~np.isnan(dev.values)]
    if not values.size:
        _empty(axes, "no score on dev")
        return
    axes.hist(values, bins=BINS, color="0.6", weights=np.full(values.size, 100 / values.size))
    axes.set_xlabel("score of an answer on dev", fontsize=8)
    axes.set_ylabel("% of answers", fontsize=8)


def _lengths(axes: Axes, dev: Scores | None) -> None:
    if dev is None:
        _empty(axes, "no score on dev")
        return
    scored = ~np.isnan(dev.values) & ~np.isnan(dev.words)
    words, values = dev.words[scored], dev.values[scored]
    if words.size < 2 or np.ptp(words) == 0:
        _empty(axes, "all answers have the same length")
        return
    shown = np.random.default_rng(0).permutation(words.size)[:POINTS]
    jitter = np.random.default_rng(1).uniform(-0.2, 0.2, shown.size)
    axes.plot(words[shown] + jitter, values[shown], ".", color="0.7", markersize=3)
    slope, level = np.polyfit(words, values, 1)
    ends = np.array([words.min(), words.max()])
    axes.plot(ends, level + slope * ends, "k-", linewidth=1.2)
    axes.set_xlabel("words of the answer", fontsize=8)
    axes.set_ylabel("score", fontsize=8)


def _splits(axes: Axes, o: Observations) -> None:
    shown = False
    base = {name: one for name, one in o.dev.items() if name == BASE}
    looks: list[tuple[str, Any, Any, dict[str, Any]]] = [
        ("mixtures", o.cloud_dev, o.cloud_test, {"marker": "x", "color": "0.5"}),
        ("experts", o.experts, o.test, {"marker": "o", "color": "black"}),
        (BASE, base, o.test, {"marker": "s", "color": "black", "markerfacecolor": "white"}),
    ]
    for name, dev, test, look in looks:
        pairs = [(one.value, test[key].value) for key, one in dev.items() if key in test]
        points = [(x, y) for x, y in pairs if x is not None and y is not None]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, linestyle="none", markersize=5, label=name, **look)
            shown = True
    if not shown:
        _empty(axes, "no values on both splits")
        return
    low, high = axes.get_xlim()
    axes.plot([low, high], [low, high], "--", color="0.6", linewidth=1, zorder=0)
    axes.set_xlabel("value on dev", fontsize=8)
    axes.set_ylabel("value on test", fontsize=8)
    axes.legend(fontsize=7, frameon=False)


def _canaries(axes: Axes, dev: Scores | None, attacked: Scores | None) -> None:
    if dev is None or attacked is None or np.isnan(dev.values).all():
        _empty(axes, "no text alone can be scored" if dev is not None else "no score on dev")
        return
    means = {name: mean for name, mean in zip(attacked.models, attacked.means, strict=True) if np.isfinite(mean)}
    order = sorted(means, key=means.__getitem__)
    axes.plot([means[name] for name in order], range(len(order)), "kx")
    axes.set_yticks(range(len(order)), [name.replace("_", " ") for name in order], fontsize=7)
    of_items = dev.values[~np.isnan(dev.values)]
    axes.axvspan(*np.quantile(of_items, [0.25, 0.75]), color="0.9", zorder=0)
    axes.axvline(float(of_items.mean()), color="black", linewidth=1)
    axes.set_xlabel("mean score of canaries; line: mean honest answer,\nband: its middle half", fontsize=8)
