"""`lab.png`, one row per design: score histogram, score by length, dev against test, canaries and honest answers.

A plot without anything to show is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.lab.findings import scores
from harness.lab.observations import Observations
from harness.lab.result import Examination
from harness.session.session import BASE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_figure"]

DPI = 150
LABEL = 10
"""Font size of axis labels."""
BINS = 20
POINTS = 2000
"""Maximum number of answers in the plot of lengths."""

Floats = NDArray[np.float64]


Panel = Callable[["Axes"], None]
"""Draws one plot."""


def write_figure(examination: Examination, observed: Sequence[Observations], path: Path) -> None:
    """Writes a PNG with one row per design of the plots that can be drawn. Replaces the file atomically.

    Args:
        examination: Results of the checks.
        observed: The designs, in the same order.
        path: The file to write.
    """
    from matplotlib.figure import Figure  # not pyplot, which keeps figures in memory and selects a GUI backend

    drawn = [_panels(o) for o in observed]
    wide = max(1, *map(len, drawn))
    figure = Figure(figsize=(max(6, 3.9 * wide), 3.6 * len(observed) + 0.4), dpi=DPI, layout="constrained")
    parts = figure.subfigures(len(observed), 1, squeeze=False)[:, 0]
    for part, panels, one in zip(parts, drawn, examination.designs, strict=True):
        title = f"{one.design}: {one.conclusion.fitness}"
        part.suptitle(title if panels else f"{title} (no score to draw)", fontsize=11, fontweight="bold")
        for axes, draw in zip(np.atleast_1d(part.subplots(1, len(panels))) if panels else (), panels, strict=True):
            axes.spines[["top", "right"]].set_visible(False)
            draw(axes)
    figure.suptitle(f"{examination.task} ({examination.edition}), {examination.model}", fontsize=11)
    temporary = path.with_name(path.name + ".new")
    figure.savefig(temporary, format="png", dpi=DPI)
    temporary.replace(path)


def _panels(o: Observations) -> list[Panel]:
    """The plots of a design that have something to show."""
    dev, attacked = scores(o.experts), scores(o.canaries)
    panels: list[Panel] = []
    if dev is not None and not np.isnan(dev.values).all():
        scored = ~np.isnan(dev.values) & ~np.isnan(dev.words)
        panels.append(partial(_histogram, dev.values[~np.isnan(dev.values)]))
        if scored.sum() > 1 and np.ptp(dev.words[scored]) > 0:
            panels.append(partial(_lengths, dev.words[scored], dev.values[scored]))
    if points := _split_points(o):
        panels.append(partial(_splits, points))
    if dev is not None and attacked is not None and not np.isnan(dev.values).all():
        means = {name: mean for name, mean in zip(attacked.models, attacked.means, strict=True) if np.isfinite(mean)}
        if means:
            panels.append(partial(_canaries, dev.values[~np.isnan(dev.values)], means))
    return panels


def _histogram(values: Floats, axes: Axes) -> None:
    axes.hist(values, bins=BINS, color="0.6", weights=np.full(values.size, 100 / values.size))
    axes.set_xlabel("score of an answer on dev", fontsize=LABEL)
    axes.set_ylabel("% of answers", fontsize=LABEL)


def _lengths(words: Floats, values: Floats, axes: Axes) -> None:
    shown = np.random.default_rng(0).permutation(words.size)[:POINTS]
    jitter = np.random.default_rng(1).uniform(-0.2, 0.2, shown.size)
    axes.plot(words[shown] + jitter, values[shown], ".", color="0.7", markersize=3)
    slope, level = np.polyfit(words, values, 1)
    ends = np.array([words.min(), words.max()])
    axes.plot(ends, level + slope * ends, "k-", linewidth=1.2)
    axes.set_xlabel("words of the answer", fontsize=LABEL)
    axes.set_ylabel("score", fontsize=LABEL)


Points = list[tuple[str, dict[str, Any], list[tuple[float, float]]]]
"""Kind of model, how it is drawn, and values on dev and test."""


def _split_points(o: Observations) -> Points:
    base = {name: one for name, one in o.dev.items() if name == BASE}
    looks: list[tuple[str, Any, Any, dict[str, Any]]] = [
        ("mixtures", o.cloud_dev, o.cloud_test, {"marker": "x", "color": "0.5"}),
        ("experts", o.experts, o.test, {"marker": "o", "color": "black"}),
        (BASE, base, o.test, {"marker": "s", "color": "black", "markerfacecolor": "white"}),
    ]
    found: Points = []
    for name, dev, test, look in looks:
        pairs = [(one.value, test[key].value) for key, one in dev.items() if key in test]
        if points := [(x, y) for x, y in pairs if x is not None and y is not None]:
            found.append((name, look, points))
    return found


def _splits(points: Points, axes: Axes) -> None:
    for name, look, pairs in points:
        x, y = zip(*pairs, strict=True)
        axes.plot(x, y, linestyle="none", markersize=5, label=name, **look)
    low, high = axes.get_xlim()
    axes.plot([low, high], [low, high], "--", color="0.6", linewidth=1, zorder=0)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("value on dev", fontsize=LABEL)
    axes.set_ylabel("value on test", fontsize=LABEL)
    axes.legend(fontsize=LABEL - 1, frameon=False)


def _canaries(honest: Floats, means: Mapping[str, float], axes: Axes) -> None:
    order = sorted(means, key=means.__getitem__)
    axes.plot([means[name] for name in order], range(len(order)), "kx")
    axes.set_yticks(range(len(order)), [name.replace("_", " ") for name in order], fontsize=LABEL - 1)
    axes.axvspan(*np.quantile(honest, [0.25, 0.75]), color="0.9", zorder=0)
    axes.axvline(float(honest.mean()), color="black", linewidth=1)
    axes.set_xlabel("mean score of canaries; line: mean honest answer,\nband: its middle half", fontsize=LABEL)
