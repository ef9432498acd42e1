"""Variants of the published search: one list, each entry with other settings, another initial population, or reversed.

Rows of a search stay within the span of its initial population, so leaving experts out of that population leaves them
out of the search, and all variants share one engine and its cached evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.swarm.particle_swarm import ParticleSwarm
from harness.swarm.settings import SwarmSettings
from harness.swarm.update import Row, Rows, populate, velocities_to_others

__all__ = ["ABLATIONS", "DROPPED", "FULL", "SEARCHES", "WARM", "Found", "Reversed", "Variant", "started", "variants"]

SEARCHES = ("diversity", "weak-to-strong", "drop", "ablation", "modularity", "dual-use")
"""Analyses that need searches of their own."""
DROPPED = (0.2, 0.4, 0.6, 0.8)
DRAWS = 2
"""Random choices of the experts of a pool; each single expert is one."""
ABLATIONS: dict[str, dict[str, Any]] = {
    "no inertia": {"inertia": 0.0},
    "no cognitive term": {"cognitive": 0.0},
    "no social term": {"social": 0.0},
    "no repel term": {"repel": 0.0},
    "no restart": {"restart_patience": 10**9},
    "no decay": {"step_decay": 1.0},
    "no randomness": {"random_factors": False},
    "no crossover": {"crossover_max": 1e-9},  # copies of random experts in place of crossovers
}
FULL, WARM = "full search", "warm start with the best expert"


@dataclass(frozen=True)
class Found:
    """What a search found, and its cost."""

    row: Row
    """[columns]: the row with the best value in the eyes of the search."""
    positions: Rows
    """[particles, columns]: the last evaluated rows."""
    evaluations: int
    """Of dev; equal rows count once."""


Start = Callable[[Mapping[str, Found], np.random.Generator], Rows]
"""Makes an initial population [particles, experts] from what earlier variants found."""


@dataclass(frozen=True)
class Variant:
    """A search that differs from the published one."""

    analysis: str
    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the swarm."""
    start: Start | None = None
    """Initial population; by default that of the settings."""
    reverse: bool = False
    """Whether the search minimises the utility."""


class Reversed:
    """A search strategy that is given the negative of every value.

    Args:
        inner: The strategy.
    """

    def __init__(self, inner: ParticleSwarm) -> None:
        self._inner = inner

    @property
    def finished(self) -> str | None:
        """Why it cannot continue; None if it can."""
        return self._inner.finished

    def ask(self) -> Rows:
        """Rows to evaluate next, [rows, experts]."""
        return self._inner.ask()

    def tell(self, values: Sequence[float | None]) -> None:
        """Takes the values of the rows of the last `ask`."""
        self._inner.tell([None if value is None else -value for value in values])


def started(experts: int, swarm: SwarmSettings, seed: int, start: Rows | None) -> ParticleSwarm:
    """The published swarm at its beginning, with an initial population [particles, experts] of one's own or its own."""
    fresh = ParticleSwarm(experts, swarm, seed)
    if start is None:
        return fresh
    speed = velocities_to_others(start, np.random.default_rng([seed, 1]))
    return ParticleSwarm(
        experts, swarm, seed, replace(fresh.state, positions=start, personal_best=start, velocities=speed)
    )


def variants(only: Sequence[str], ranked: Sequence[int], swarm: SwarmSettings) -> list[Variant]:
    """The variants of some analyses, in an order in which each comes after those that it starts from.

    Args:
        only: Names of analyses.
        ranked: The experts by their value on dev, best first.
        swarm: Settings of the full search.
    """
    n = len(ranked)
    listed: list[Variant] = []
    for distinct in [a for a in range(1, n + 1) if n % a == 0] if "diversity" in only else []:
        name = f"{distinct} distinct, {n // distinct} of each"
        listed += [
            Variant("diversity", f"{name}, draw {draw}", {"particles": n}, _copies(n, distinct, draw))
            for draw in range({1: n, n: 1}.get(distinct, DRAWS))
        ]
    if {"weak-to-strong", "modularity"} & set(only) and n > 2:
        listed.append(Variant("weak-to-strong", "without the best expert", {}, _among(ranked[1:], n, swarm)))
    if "weak-to-strong" in only and n > 2:
        listed.append(
            Variant("weak-to-strong", "without the better half", {}, _among(ranked[(n + 1) // 2 :], n, swarm))
        )
    if "modularity" in only and n > 2:
        half = {"iterations": swarm.iterations // 2}
        listed.append(Variant("modularity", WARM, half, _joined(ranked[0], n)))
    if "drop" in only:
        listed += [
            Variant("drop", f"{setting} {share:g}", {setting: share})
            for setting in ("drop_iteration", "drop_particle")
            for share in DROPPED
        ]
    if "ablation" in only:
        listed += [Variant("ablation", name, changes) for name, changes in ABLATIONS.items()]
    if "dual-use" in only:
        listed.append(Variant("dual-use", "reversed utility", reverse=True))
    return listed


def _copies(experts: int, distinct: int, draw: int) -> Start:
    def start(found: Mapping[str, Found], rng: np.random.Generator) -> Rows:
        chosen = [draw] if distinct == 1 else np.sort(rng.choice(experts, distinct, replace=False))
        return np.repeat(np.eye(experts)[chosen], experts // distinct, axis=0)

    return start


def _among(members: Sequence[int], experts: int, swarm: SwarmSettings) -> Start:
    def start(found: Mapping[str, Found], rng: np.random.Generator) -> Rows:
        return populate(len(members), swarm.particles, swarm.crossover_max, rng) @ np.eye(experts)[list(members)]

    return start


def _joined(added: int, experts: int) -> Start:
    """The final population of the search without an expert, in which the expert takes the place of one particle."""

    def start(found: Mapping[str, Found], rng: np.random.Generator) -> Rows:
        rows = found["without the best expert"].positions.copy()
        rows[rng.integers(len(rows))] = np.eye(experts)[added]
        return rows

    return start
