"""`compare.png`: for every task, each method's gain over the reference, and its cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from harness.compare.result import Compared, Verdict
from harness.compare.statistics import shown_reference, summary
from harness.display.tables import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

__all__ = ["write_figure"]

Cost = Literal["seconds", "evaluations"]

DPI = 150

LOOKS: dict[Verdict | Literal["reference"], dict[str, Any]] = {
    "better": {"marker": "^", "color": "black", "markerfacecolor": "black"},
    "worse": {"marker": "v", "color": "black", "markerfacecolor": "white"},
    "tie": {"marker": "o", "color": "0.5", "markerfacecolor": "0.5"},
    "reference": {"marker": "D", "color": "black", "markerfacecolor": "0.8"},
}
"""Verdicts differ in shape and fill, so that the figure can be read without colours."""


class _Point(NamedTuple):
    method: str
    gain: float
    low: float
    high: float
    verdict: Verdict | Literal["reference"]
    test: float | None
    """Value on all items that the method scored; `gain` uses the items that both methods scored."""
    cost: float


def write_figure(compared: Compared, path: Path, cost: Cost = "seconds") -> None:
    """Writes a PNG with one row per task: intervals on the left, gain against cost on the right. Writes atomically.

    It shows paired differences to the reference with 95 % intervals (`Versus`). Intervals of the values themselves
    would be misleading: they may overlap although the methods differ significantly on the same items.

    Args:
        compared: Results. The row of a task without differences to the reference is empty.
        path: The file to write.
        cost: Cost of one run of a method: wall seconds, or full dev evaluations.
    """
    from matplotlib.figure import Figure  # not pyplot, which keeps figures in memory and selects a GUI backend
    from matplotlib.gridspec import GridSpec
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    reference = shown_reference(compared)
    points = {task: _points(compared, task, reference, cost) for task in compared.tasks}
    heights = [max(3.2, 0.8 + 0.24 * len(of)) if of else 0.6 for of in points.values()]
    figure = Figure(figsize=(12, sum(heights) + 0.7), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.15))
    grid = GridSpec(len(points), 2, figure=figure, height_ratios=heights, width_ratios=[1.15, 1])
    scattered = []
    for row, (task, of) in enumerate(points.items()):
        left, right = figure.add_subplot(grid[row, 0]), figure.add_subplot(grid[row, 1])
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
        if not of:
            for axes in (left, right):
                axes.set_axis_off()
            left.text(0, 0.5, f"{task}: nothing could be compared", transform=left.transAxes)
            continue
        _intervals(left, of, task, str(reference))
        scattered.append((right, of, _costs(right, of, cost, str(reference))))
    figure.legend(handles=_legend(), loc="outside lower center", ncols=len(LOOKS), frameon=False, fontsize=9)
    figure.suptitle(f"{compared.engine}, {compared.model}, budget {compared.budget} evaluations", fontsize=10)
    figure.draw_without_rendering()  # computes positions in pixels
    figure.set_layout_engine("none")
    for axes, of, labels in scattered:
        _part(axes, of, labels)
    temporary = path.with_name(path.name + ".new")
    figure.savefig(temporary, format="png", dpi=DPI)
    temporary.replace(path)


def _points(compared: Compared, task: str, reference: str | None, cost: Cost) -> list[_Point]:
    """The methods by increasing gain, including the reference with a gain of 0."""
    outcomes = {
        method: summary(of)
        for method in compared.methods
        if (of := [one for one in compared.outcomes if one.method == method and one.task == task])
    }
    points = []
    for v in compared.versus:
        if v.task == task and v.reference == reference:
            row = outcomes[v.method]
            points.append(_Point(v.method, v.difference, v.low, v.high, v.verdict, row.test, getattr(row, cost)))
    if points and reference is not None:
        row = outcomes[reference]
        points.append(_Point(reference, 0.0, 0.0, 0.0, "reference", row.test, getattr(row, cost)))
    return sorted(points, key=lambda point: point.gain)


def _intervals(axes: Axes, points: Sequence[_Point], task: str, reference: str) -> None:
    axes.axvline(0, color="0.4", linewidth=1, linestyle="--", zorder=0)
    for height, point in enumerate(points):
        looks = LOOKS[point.verdict]
        axes.plot([point.low, point.high], [height, height], color=looks["color"], linewidth=1.4)
        axes.plot(point.gain, height, markersize=6, linestyle="none", **looks)
        axes.text(1.01, height, number(point.test), transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.text(1.01, len(points), "test", transform=axes.get_yaxis_transform(), va="center", fontsize=8, style="italic")
    axes.set_yticks(range(len(points)), [point.method for point in points], fontsize=9)
    axes.set_ylim(-0.7, len(points) - 0.3)
    axes.set_title(task, loc="left", fontweight="bold")
    axes.set_xlabel(f"test, difference to {reference} (95 % interval)")


def _costs(axes: Axes, points: Sequence[_Point], cost: Cost, reference: str) -> list[Annotation]:
    axes.axhline(0, color="0.4", linewidth=1, linestyle="--", zorder=0)
    for point in points:
        axes.plot(point.cost, point.gain, markersize=6, linestyle="none", **LOOKS[point.verdict])
    # linear below 1, because methods without selection cost 0 evaluations
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(-0.15, max(10.0, max(point.cost for point in points)) * 6)
    axes.margins(y=0.08)
    axes.set_xlabel(f"{'wall seconds' if cost == 'seconds' else 'dev evaluations'} of one run of the method")
    axes.set_ylabel(f"test, difference to {reference}")
    return [
        axes.annotate(
            point.method,
            (point.cost, point.gain),
            textcoords="offset points",
            xytext=(6, 0),
            fontsize=7.5,
            va="center",
        )
        for point in points
    ]


def _part(axes: Axes, points: Sequence[_Point], labels: Sequence[Annotation]) -> None:
    """Places every label as near to its point as possible without overlapping points, lines or other labels."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import Bbox, IdentityTransform

    at = axes.transData.transform([(point.cost, point.gain) for point in points])
    frame, pixels = axes.get_window_extent(), DPI / 72
    zero = axes.transData.transform((0, 0))[1]
    occupied = [Bbox.from_extents(x - 8, y - 8, x + 8, y + 8) for x, y in at]
    occupied.append(Bbox.from_extents(frame.x0, zero - 1, frame.x1, zero + 1))  # line of the reference
    for (x, y), label in reversed(list(zip(at, labels, strict=True))):
        wide, high = label.get_window_extent().size
        places = [(dx, side * step * high / 2) for step in range(80) for side in (1, -1) for dx in (12, -12 - wide)]
        for dx, dy in places:
            box = Bbox.from_bounds(x + dx, y + dy - high / 2, wide, high)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in occupied):
                label.set_position((dx / pixels, dy / pixels))
                occupied.append(box)
                if dy:  # a thin line leads from the label to its point
                    end = x + (dx if dx > 0 else -12)
                    line = Line2D([x, end], [y, y + dy], transform=IdentityTransform(), color="0.7", lw=0.6, zorder=0)
                    axes.add_artist(line)
                break


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D

    return [Line2D([], [], linestyle="none", label=name, **looks) for name, looks in LOOKS.items()]
