"""Racing: a generation goes through the stages together, and who is behind by more than chance stops.

Races for choosing among models: Maron and Moore, "Hoeffding Races", 1994; with paired tests on common instances, as
here, Birattari et al., "A Racing Algorithm for Configuring Metaheuristics", 2002.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.thrift.paired import Paired, paired
from harness.thrift.partial import Partial

__all__ = ["Rules", "race"]


@dataclass(frozen=True)
class Rules:
    """When a particle is stopped."""

    level: float = 0.05
    """Chance to stop a particle, over all stages together, that all items would show to be as good as the leader."""
    least_items: int = 20
    """Common items before anybody is stopped."""

    def behind(self, difference: Paired | None, looks: int) -> bool:
        """Whether a difference to the leader is below zero by more than chance, at one of so many looks.

        The bound is that of Student's t over the clusters, the level shared by the looks (Bonferroni).
        """
        from scipy import stats

        if difference is None or difference.items < self.least_items or difference.clusters < 2:
            return False
        bound = float(stats.t.ppf(1 - self.level / looks, difference.clusters - 1))
        return difference.value < 0 and difference.value < -bound * difference.se


async def race(partials: Sequence[Partial], rules: Rules | None = None) -> list[float | None]:
    """Values of a generation, comparable with each other.

    Whoever reaches the end has its value on all items. One that was stopped has the value of the best of those plus
    their difference on the items that both were asked; it is always below that best one, so it can never be chosen.

    Args:
        partials: The generation, all at the beginning of the same stages.
        rules: When a particle is stopped.

    Returns:
        A value a particle; None where it is not comparable, or stopped when nobody was.
    """
    rules = rules or Rules()
    stages = len(partials[0].stages.stages) if partials else 0
    going = list(range(len(partials)))
    for stage in range(stages):
        await asyncio.gather(*(partials[k].ask(stage) for k in going))
        if stage == stages - 1:
            break
        leader = _leader([partials[k] for k in going])
        if leader is not None:
            going = [k for k in going if not rules.behind(paired(partials[k], leader), stages - 1)]
    return _values(partials)


def _leader(rivals: Sequence[Partial]) -> Partial | None:
    """The best on the items that all of them were asked, of equal ones the first; None where none has a value."""
    best = None
    for rival in rivals:
        if best is None:
            best = rival if paired(rival, rival) is not None else None
        elif (difference := paired(rival, best)) is not None and difference.value > 0:
            best = rival
    return best


def _values(partials: Sequence[Partial]) -> list[float | None]:
    known = [(value, one) for one in partials if (value := one.value()) is not None]
    best = max(known, key=lambda pair: pair[0], default=None)
    values: list[float | None] = []
    for one in partials:
        if one.complete:
            values.append(one.value())
        elif best is None or (difference := paired(one, best[1])) is None:
            values.append(None)
        else:
            values.append(min(best[0] + difference.value, float(np.nextafter(best[0], -math.inf))))
    return values
