"""Several utilities side by side: rank agreement, power and cost."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from pydantic import Field

from utilities.lab.checks.cost import cost
from utilities.lab.checks.paraphrases import FEWEST, rank_agreement
from utilities.lab.checks.power import items_needed, separation, signal_to_noise
from utilities.lab.finding import Closed
from utilities.lab.material import SearchPlan
from utilities.lab.scores import Scores

__all__ = ["Agreement", "Design", "Designs", "compare_designs"]


class Design(Closed):
    """One utility on the experts; part of `lab.json`."""

    name: str
    best: str | None
    """The expert that it ranks first."""
    values: dict[str, float | None]
    """Expert to its value; None if it has no score."""
    separation: float | None
    """Share of separable pairs of experts."""
    signal_to_noise: float | None
    items_needed: float | None
    """To detect a difference of 5 % of the range of its scores."""
    cost: dict[str, float | int | None] = Field(default_factory=dict)
    """Figures of `cost`: of one evaluation and of the search."""


class Agreement(Closed):
    """Two utilities, the same experts; part of `lab.json`."""

    first: str
    second: str
    tau: float | None
    """Kendall's tau-b of the experts' ranks; None if one of them has no ranks, or they scored different items."""
    low: float | None
    """Lower end of the 95 % interval over items."""
    high: float | None
    note: str = ""
    """Why there is no tau."""


class Designs(Closed):
    """Utilities side by side; part of `lab.json`."""

    designs: tuple[Design, ...]
    agreements: tuple[Agreement, ...]
    """One for every two."""


def compare_designs(
    designs: Mapping[str, Scores], plans: Mapping[str, SearchPlan] | None = None, seed: int = 0
) -> Designs:
    """Utilities on the same experts and items.

    Args:
        designs: Utility to the experts' scores.
        plans: Utility to its planned search; without one there is no cost.
        seed: Seed of the bootstrap.
    """
    plans = plans or {}
    rows = []
    for name, scores in designs.items():
        means = scores.means
        rows.append(
            Design(
                name=name,
                best=scores.models[int(np.nanargmax(means))] if np.isfinite(means).any() else None,
                values={m: float(v) if np.isfinite(v) else None for m, v in zip(scores.models, means, strict=True)},
                separation=separation(scores).value,
                signal_to_noise=signal_to_noise(scores).value,
                items_needed=items_needed(scores).value,
                cost=cost(scores, plans[name]).numbers if name in plans else {},
            )
        )
    pairs = combinations(designs.items(), 2)
    return Designs(designs=tuple(rows), agreements=tuple(_agreement(a, b, seed) for a, b in pairs))


def _agreement(one: tuple[str, Scores], other: tuple[str, Scores], seed: int) -> Agreement:
    (first, a), (second, b) = one, other
    models = [name for name in a.models if name in b.models]
    items = [name for name in a.items if name in set(b.items)]

    def none(why: str) -> Agreement:
        return Agreement(first=first, second=second, tau=None, low=None, high=None, note=why)

    if len(models) < FEWEST:
        return none(f"{len(models)} experts were scored by both, at least {FEWEST} are needed")
    if not items:
        return none("they scored different items")
    columns = [np.array([side.items.index(name) for name in items]) for side in (a, b)]
    rows = [np.array([side.models.index(name) for name in models]) for side in (a, b)]
    sides = [side.values[np.ix_(row, column)] for side, row, column in zip((a, b), rows, columns, strict=True)]
    estimate = rank_agreement(sides, tuple(a.clusters[k] for k in columns[0]), seed)
    if estimate is None:
        return none("one of them gives all experts the same value")
    return Agreement(first=first, second=second, tau=estimate.value, low=estimate.low, high=estimate.high)
