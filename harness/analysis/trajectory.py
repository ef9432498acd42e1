"""`trajectory.png` and `.svg`: the particles over iterations, in two views.

On the left the plane of the first two principal components of all evaluated rows of coefficients; on the right the plot
of the paper, two single entries of the mixed LoRA weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis.stored import Particles, particles_of
from harness.run_folder.read import Run
from harness.session.settings import stored_settings
from harness.swarm.update import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

__all__ = ["Plane", "principal_plane", "two_entries", "write_trajectory"]

DPI = 150
Floats = NDArray[np.float64]


class Plane(NamedTuple):
    """Points of rows in a plane."""

    points: Floats
    """[rows, 2]"""
    share: float
    """Share of the rows' variance in this plane."""


def principal_plane(rows: Rows) -> Plane:
    """Rows [rows, columns] in the plane of their first two principal components.

    The largest entry of each component is positive, so that equal rows have equal signs.
    """
    centred = rows - rows.mean(0)
    _, sizes, components = np.linalg.svd(centred, full_matrices=False)
    components = np.vstack([components, np.zeros((2, rows.shape[1]))])[:2]
    largest = np.abs(components).argmax(1)
    signs = np.where(components[range(2), largest] < 0, -1.0, 1.0)
    total = float(np.square(sizes).sum())
    share = float(np.square(sizes[:2]).sum()) / total if total else 1.0
    return Plane(centred @ (components * signs[:, None]).T, share)


def two_entries(run: Run, rows: Rows) -> tuple[str, Floats]:
    """The first two entries [rows, 2] of the first mixed tensor, and its name, read from the experts' files.

    Raises:
        UserError: An expert or the base model is not where it was.
    """
    import torch

    from harness.experts.files import resolve
    from harness.experts.pool import open_pool

    settings = stored_settings(run.document["settings"])
    trusted = settings.engine_settings.trust_remote_code
    base = resolve(settings.base_spec, code=trusted)
    pool = open_pool(settings.expert_specs, base, check_values=False, trust_remote_code=trusted)
    pool = pool.grouped(settings.granularity)
    groups, count = len(pool.grouping.groups), len(pool.names)
    parts = rows.reshape(len(rows), groups, -1)[:, :, :count]  # the base model's column holds no weights
    name, mixed = next(pool.mix(torch.from_numpy(np.ascontiguousarray(parts.reshape(len(rows), -1)))))
    return name, mixed.reshape(len(rows), -1)[:, :2].numpy()


def write_trajectory(run: Run, folder: Path, *, entries: bool = True) -> list[Path]:
    """Writes `trajectory.png` and `trajectory.svg` of a search.

    Args:
        run: A search.
        folder: Where the files go.
        entries: Whether to draw the entries of the weights too, which reads the experts' files.

    Raises:
        UserError: The rows cannot be read, or with `entries` the experts.
    """
    from matplotlib.figure import Figure  # not pyplot, which keeps figures in memory and selects a GUI backend

    data = particles_of(run)
    plane = principal_plane(data.rows)
    named = run.result.experts if run.result else []
    swarm = bool(run.iterations[-1].best)
    figure = Figure(figsize=(11 if entries else 6, 4.6), dpi=DPI, layout="constrained")
    axes = list(figure.subplots(1, 2 if entries else 1, squeeze=False)[0])
    mark = _draw(axes[0], data, plane.points, swarm)
    axes[0].set_title(
        f"principal components of the rows ({plane.share:.0%} of their variance)", loc="left", fontsize=10
    )
    axes[0].set_xlabel("first component")
    axes[0].set_ylabel("second component")
    for k, name in enumerate(named[: (data.iterations == 0).sum()]):
        axes[0].annotate(name, plane.points[k], xytext=(4, 3), textcoords="offset points", fontsize=6.5, color="0.35")
    if entries:
        tensor, points = two_entries(run, data.rows)
        _draw(axes[1], data, points, swarm)
        axes[1].set_title(f"two entries of {tensor}"[-70:], loc="left", fontsize=8)
        axes[1].set_xlabel("first entry")
        axes[1].set_ylabel("second entry")
    figure.colorbar(mark, ax=axes, label="metric on dev", shrink=0.85)
    paths = [folder / f"trajectory.{kind}" for kind in ("png", "svg")]
    for path in paths:
        temporary = path.with_name(path.name + ".new")
        figure.savefig(temporary, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else None)
        temporary.replace(path)
    return paths


def _draw(axes: Axes, data: Particles, points: Floats, swarm: bool) -> PathCollection:
    """Draws rows coloured by value; particles of a swarm as lines, its last rows as squares."""
    if swarm:
        for particle in np.unique(data.particles):
            path = points[data.particles == particle]
            axes.plot(path[:, 0], path[:, 1], color="0.8", linewidth=0.7, zorder=1)
    last = data.iterations == data.iterations.max()
    looks: tuple[dict[str, Any], ...] = ({"s": 14}, {"s": 40, "marker": "s", "edgecolors": "black", "linewidths": 0.6})
    low, high = data.values.min(), data.values.max()
    for of, look in zip((~last, last), looks, strict=True):
        mark = axes.scatter(
            points[of, 0], points[of, 1], c=data.values[of], cmap="viridis", vmin=low, vmax=high, zorder=2, **look
        )
    axes.spines[["top", "right"]].set_visible(False)
    return mark
