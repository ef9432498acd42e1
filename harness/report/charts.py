"""Figures of a report as SVG, drawn by hand: no script and no library, colours from the page's style sheet.

Every function returns markup in which foreign text is escaped. Sizes are in units of the view box.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from utilities.foreign_text import printable

__all__ = ["Mark", "Scale", "bars", "interval", "scatter", "search_over_time", "ticks", "trajectory", "watch"]

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 30, 40
LABELS = 176
"""Room at the right of the search over time for the names of the final test values."""
APART = 19
"""Smallest distance of two labels."""


class Scale(NamedTuple):
    """A linear scale from values to a coordinate."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The coordinate of a value, rounded for a short file."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


class Mark(NamedTuple):
    """A value with its 95 % interval."""

    name: str
    value: float
    low: float
    high: float
    kind: str
    """base, expert, initial or winner: the class in the style sheet."""


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers in an interval, at most `most` + 1."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    return [round(k * step, 10) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _range(values: Iterable[float], margin: float = 0.06) -> tuple[float, float]:
    found = list(values)
    low, high = min(found), max(found)
    pad = (high - low) * margin or max(abs(high) * 0.05, 0.01)
    return low - pad, high + pad


def _text(x: float, y: float, text: str, kind: str = "tick", anchor: str = "start") -> Markup:
    return Markup('<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>').format(
        round(x, 1), round(y, 1), kind, anchor, printable(text)
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(x1, y1, x2, y2, kind)


def _dot(x: float, y: float, kind: str, radius: float = 4, title: str = "") -> Markup:
    inner = Markup("<title>{}</title>").format(printable(title)) if title else ""
    return Markup('<circle cx="{}" cy="{}" r="{}" class="{}">{}</circle>').format(x, y, radius, kind, inner)


def _svg(width: float, height: float, label: str, parts: Iterable[Markup], kind: str = "chart") -> Markup:
    return Markup(
        '<svg viewBox="0 0 {} {}" class="{}" role="img" aria-label="{}" preserveAspectRatio="xMidYMid meet">{}</svg>'
    ).format(width, height, kind, printable(label), Markup("").join(parts))


def _axes(x: Scale, y: Scale, x_name: str, y_name: str) -> list[Markup]:
    parts = [_line(x.start, y(value), x.end, y(value), "grid") for value in ticks(y.low, y.high)]
    parts += [_text(x.start - 8, y(value) + 4, f"{value:g}", anchor="end") for value in ticks(y.low, y.high)]
    parts += [_text(x(value), y.start + 17, f"{value:g}", anchor="middle") for value in ticks(x.low, x.high, 7)]
    parts.append(_line(x.start, y.start, x.end, y.start, "axis"))
    parts.append(_text((x.start + x.end) / 2, y.start + 34, x_name, "name", "middle"))
    parts.append(_text(0, TOP - 16, y_name, "name"))
    return parts


def _spread(heights: Sequence[float], low: float, high: float) -> list[float]:
    """Label positions at least `APART` from each other, as near to their values as an order from above allows."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = list(heights)
    for before, k in zip([None, *order], order, strict=False):
        placed[k] = max(heights[k], low if before is None else placed[before] + APART)
    limit = high
    for k in reversed(order):
        placed[k] = min(placed[k], limit)
        limit = placed[k] - APART
    return placed


def search_over_time(
    scores: Sequence[tuple[float, float]], best: Sequence[tuple[float, float]], final: Sequence[Mark], metric: str
) -> Markup:
    """Every row of a search, the best so far, and at the right the final values on test with intervals.

    Args:
        scores: Evaluations and metric of each row, on dev.
        best: Evaluations and best metric so far.
        final: Values on test.
        metric: Name of the vertical axis.
    """
    ends = [end for mark in final for end in (mark.low, mark.high)]
    y = Scale(*_range([*(value for _, value in scores), *ends]), HEIGHT - BOTTOM, TOP)
    right = WIDTH - LABELS - (30 if final else 0) if final else WIDTH - RIGHT
    x = Scale(0, max(1.0, max(at for at, _ in scores)), LEFT, right)
    parts = _axes(x, y, "evaluations on dev", metric)
    parts += [_dot(x(at), y(value), "row", 2.4) for at, value in scores]
    path, level = "", None
    for at, value in best:
        path += f"M{x(at)} {y(value)}" if level is None else f"H{x(at)}V{y(value)}"
        level = value
    parts.append(Markup('<path d="{}" class="best"/>').format(f"{path}H{right}"))
    heights = _spread([y(mark.value) + 4 for mark in final], TOP + 8, HEIGHT - BOTTOM)
    for k, (mark, height) in enumerate(zip(final, heights, strict=True)):
        at = right + 14 + 10 * k
        parts.append(_line(at, y(mark.low), at, y(mark.high), f"whisker {mark.kind}"))
        parts.append(_dot(at, y(mark.value), mark.kind, 4.5, f"{mark.name} on test: {mark.value:.4f}"))
        parts.append(
            _text(right + 14 + 10 * len(final) + 2, height, f"{_short(mark.name, 14)} {mark.value:.3f}", mark.kind)
        )
    if final:
        parts.append(_text(right + 14, HEIGHT - BOTTOM + 17, "test"))
    label = f"{len(scores)} rows of the search on dev over {x.high:.0f} evaluations, best so far {best[-1][1]:.4f}"
    return _svg(WIDTH, HEIGHT, label, parts)


def scatter(points: Sequence[tuple[str, str, float, float]]) -> Markup:
    """Dev against test.

    Args:
        points: Name, kind, value on dev, value on test of each model.
    """
    x = Scale(*_range(dev for _, _, dev, _ in points), LEFT, WIDTH - RIGHT)
    y = Scale(*_range(test for _, _, _, test in points), HEIGHT - BOTTOM, TOP)
    parts = _axes(x, y, "value on dev", "value on test")
    low, high = max(x.low, y.low), min(x.high, y.high)
    if high > low:
        parts.append(_line(x(low), y(low), x(high), y(high), "equal"))
    labelled = [point for point in points if point[1] != "expert"]
    parts += [
        _dot(x(dev), y(test), kind, 5, f"{name}: dev {dev:.4f}, test {test:.4f}") for name, kind, dev, test in points
    ]
    heights = _spread([y(test) + 4 for _, _, _, test in labelled], TOP + 8, HEIGHT - BOTTOM - 4)
    for (name, kind, dev, _), height in zip(labelled, heights, strict=True):
        left = x(dev) > WIDTH * 0.7
        parts.append(_text(x(dev) + (-9 if left else 9), height, _short(name, 24), kind, "end" if left else "start"))
    return _svg(WIDTH, HEIGHT, f"value on dev against value on test of {len(points)} models", parts)


def trajectory(paths: Sequence[Sequence[tuple[float, float, float]]], trails: bool) -> Markup:
    """Rows of a search in a plane; the higher the value, the darker the dot.

    Args:
        paths: The two coordinates and the value of each row, by particle and in order.
        trails: Whether to connect the rows of a particle.
    """
    points = [point for path in paths for point in path]
    x = Scale(*_range(point[0] for point in points), LEFT, WIDTH - RIGHT)
    y = Scale(*_range(point[1] for point in points), HEIGHT - BOTTOM, TOP)
    shade = Scale(*_range(point[2] for point in points), 0.1, 1.0)
    parts = _axes(x, y, "first component", "second component")
    for path in paths if trails else ():
        line = " ".join(f"{'ML'[k > 0]}{x(a)} {y(b)}" for k, (a, b, _) in enumerate(path))
        parts.append(Markup('<path d="{}" class="trail"/>').format(line))
    dot = Markup('<circle cx="{}" cy="{}" r="4" class="dot-best" fill-opacity="{}"><title>{:.4f}</title></circle>')
    parts += [dot.format(x(a), y(b), shade(value), value) for a, b, value in points]
    return _svg(WIDTH, HEIGHT, f"{len(points)} rows of {len(paths)} particles in a plane", parts)


def watch(looks: Sequence[tuple[int, float | None, float | None]]) -> Markup:
    """The objective and the held-out value of the best row over iterations.

    Args:
        looks: Iteration, objective, held-out value.
    """
    values = [value for _, *pair in looks for value in pair if value is not None]
    height = 220
    y = Scale(*_range(values), height - BOTTOM, TOP)
    x = Scale(0, max(1, max(at for at, _, _ in looks)), LEFT, WIDTH - LABELS)
    parts = _axes(x, y, "iteration", "value on dev")
    ends = []
    for k, (name, kind) in enumerate((("objective", "best"), ("held-out items", "held")), 1):
        points = [(look[0], value) for look in looks if (value := look[k]) is not None]
        if points:
            path = " ".join(f"{'ML'[j > 0]}{x(at)} {y(value)}" for j, (at, value) in enumerate(points))
            parts.append(Markup('<path d="{}" class="{}"/>').format(path, kind))
            parts += [
                _dot(x(at), y(value), f"dot-{kind}", 3.5, f"{name}, iteration {at}: {value:.4f}")
                for at, value in points
            ]
            ends.append((name, y(points[-1][1]) + 4))
    heights = _spread([height for _, height in ends], TOP + 8, height - BOTTOM)
    parts += [_text(WIDTH - LABELS + 10, at, name) for (name, _), at in zip(ends, heights, strict=True)]
    return _svg(WIDTH, height, "objective and held-out value over iterations", parts)


def interval(mark: Mark, low: float, high: float) -> Markup:
    """One value with its interval on the scale of a table's column."""
    x = Scale(low, high, 4, 156)
    label = f"{mark.value:.4f}, 95 % interval {mark.low:.4f} to {mark.high:.4f}"
    parts = [_line(x(0), 0, x(0), 16, "axis")] if low < 0 < high else []
    parts += [_line(x(mark.low), 8, x(mark.high), 8, f"whisker {mark.kind}"), _dot(x(mark.value), 8, mark.kind, 4)]
    return _svg(160, 16, label, parts, "interval")


def bars(values: Mapping[str, float]) -> Markup:
    """Coefficients by name as horizontal bars, the largest first."""
    names = sorted(values, key=lambda name: -abs(values[name]))
    low, high = min(0.0, *values.values()), max(0.0, *values.values())
    x = Scale(low, high if high > low else low + 1, 190, WIDTH - 70)
    parts: list[Markup] = []
    for k, name in enumerate(names):
        top, (left, right) = 24 * k + 4, sorted((x(0), x(values[name])))
        kind = "bar" if values[name] >= 0 else "bar negative"
        parts.append(_text(178, top + 13, _short(name, 22), "tick", "end"))
        parts.append(
            Markup('<rect x="{}" y="{}" width="{}" height="16" rx="2" class="{}"/>').format(
                left, top, max(round(right - left, 1), 1), kind
            )
        )
        parts.append(_text(right + 6, top + 13, f"{values[name]:+.3f}", "tick number"))
    parts.append(_line(x(0), 0, x(0), 24 * len(names) + 4, "axis"))
    return _svg(WIDTH, 24 * len(names) + 6, "coefficients of the winner", parts)


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 3]}..."
