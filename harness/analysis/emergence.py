"""Correctness emergence: questions that no initial expert answers correctly, and particles do after the search.

N particles that guess solve nearly every question of k options: 1 - (1 - 1/k)^N. The shares are therefore reported
beside what guessers reach (exact), for as many particles as experts (exact, over all choices of them), and beside as
many random mixtures of the experts, which share the experts' knowledge but no search.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.analysis.result import Line
from harness.analysis.stored import Correctness
from utilities.standard_error import unanimous_se
from utilities.statistics import clustered_estimate

__all__ = ["BEFORE", "AFTER", "RANDOM", "at_least_one", "emergence_lines", "guessed", "more_often", "per_question"]

Floats = NDArray[np.float64]
BEFORE, AFTER, RANDOM = "experts", "particles", "random mixtures"
"""Groups of models."""
RESAMPLES = 1000
NORMAL = 1.96


def guessed(options: NDArray[np.int64], guessers: int) -> Floats:
    """The probability [items] that at least one of so many independent uniform guessers is right; nan if free."""
    with np.errstate(divide="ignore"):
        return np.where(options > 0, 1 - (1 - 1 / np.maximum(options, 1)) ** guessers, np.nan)


def at_least_one(right: NDArray[np.int64], models: int, chosen: int) -> Floats:
    """The probability [items] that `chosen` of the models, drawn without replacement, hold one of the `right` ones."""
    from scipy.stats import hypergeom

    return np.asarray(1 - hypergeom.pmf(0, models, right, min(chosen, models)))


def more_often(before: NDArray[np.int64], of: int, after: NDArray[np.int64], models: int) -> Floats:
    """The probability [items] that of `of` drawn models more are right after the search than were before.

    Args:
        before: [items], how many of `of` models are right.
        of: Models before.
        after: [items], how many of `models` are right.
        models: Models after; if there are fewer than `of`, shares are compared.
    """
    from scipy.stats import hypergeom

    if models < of:
        return np.asarray(after * of > before * models, dtype=np.float64)
    return np.asarray(hypergeom.sf(before, models, after, of))


def guessed_more_often(options: NDArray[np.int64], of: int) -> Floats:
    """The probability [items] that of two groups of `of` guessers the second has more right answers; nan if free."""
    from scipy.stats import binom

    p = 1 / np.maximum(options, 1)
    counts = np.arange(of + 1)[:, None]
    same = (binom.pmf(counts, of, p) ** 2).sum(0)
    return np.where(options > 0, (1 - same) / 2, np.nan)


def per_question(data: Correctness) -> dict[str, Floats]:
    """What is averaged, by name, [items]; `unsolved` is 1 where no expert is right."""
    before, after = data.right[BEFORE], data.right[AFTER]
    n, count = len(before), len(after)
    of_before, of_after = before.sum(0), after.sum(0)
    found = {
        "unsolved": (of_before == 0).astype(np.float64),
        "emerged": (of_after > 0).astype(np.float64),
        "emerged, as many particles as experts": at_least_one(of_after, count, n),
        "guessed": guessed(data.options, count),
        "guessed, as many as experts": guessed(data.options, min(n, count)),
        "surged": more_often(of_before, n, of_after, count),
        "guessed surge": guessed_more_often(data.options, n),
    }
    if RANDOM in data.right:
        mixed = data.right[RANDOM]
        found["random"] = (mixed.sum(0) > 0).astype(np.float64)
        found["random, as many as experts"] = at_least_one(mixed.sum(0), len(mixed), n)
        found["random surge"] = more_often(of_before, n, mixed.sum(0), len(mixed))
    return found


def emergence_lines(cells: Sequence[tuple[str, Correctness]]) -> list[Line]:
    """Shares over the questions of several searches; questions of one source are drawn together, over all seeds.

    Args:
        cells: Task and correctness of each search, all on the same split.

    Returns:
        Lines: emerged, and its difference to each control; the same for as many particles as experts, and for surge.
    """
    questions = [per_question(data) for _, data in cells]
    names = [name for name in questions[0] if all(name in one for one in questions)]
    joined = {name: np.concatenate([one[name] for one in questions]) for name in names}
    clusters = [f"{task}/{cluster}" for task, data in cells for cluster in data.clusters]
    unsolved = joined["unsolved"]
    everything = np.ones_like(unsolved)
    if not unsolved.any():
        return []
    lines = []
    for value, controls, of in (
        ("emerged", ("guessed", "random"), unsolved),
        (
            "emerged, as many particles as experts",
            ("guessed, as many as experts", "random, as many as experts"),
            unsolved,
        ),
        ("surged", ("guessed surge", "random surge"), everything),
    ):
        if value == "surged" and min(len(data.right[AFTER]) for _, data in cells) < 2:
            continue  # one model has no numbers to compare
        lines.append(_line(value, joined[value], of, clusters))
        for control in controls:
            if control in joined and not np.isnan(joined[control][of > 0]).any():
                mean = float(joined[control][of > 0].mean())
                lines.append(_line(f"{value} - {control}", joined[value] - joined[control], of, clusters, mean))
    return lines


def _line(label: str, values: Floats, of: Floats, clusters: Sequence[str], control: float | None = None) -> Line:
    def mean(index: NDArray[np.intp]) -> float:
        total = of[index].sum()
        return float((values[index] * of[index]).sum() / total) if total else float("nan")

    values = np.where(of > 0, values, 0.0)
    value, low, high = clustered_estimate(mean, clusters, resamples=RESAMPLES)
    used = [cluster for cluster, counts in zip(clusters, of, strict=True) if counts]
    if low is not None and np.ptp(values[of > 0]) == 0:  # no resample can differ
        half = NORMAL * unanimous_se(len(set(used)))
        low, high = value - half, value + half
    if low is not None and high is not None:
        low, high = max(0.0 if control is None else -1.0, low), min(1.0, high)
    return Line(label=label, value=value, low=low, high=high, control=control, n=int(of.sum()))
