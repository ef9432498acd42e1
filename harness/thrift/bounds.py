"""Between which numbers a particle's value lies, whatever it would answer to the items that it was not asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from harness.thrift.partial import Partial
from utilities.core import Score
from utilities.objective import ObjectiveKind
from utilities.tasks import Task

__all__ = ["UNKNOWN", "Bounds", "value_bounds", "why_unbounded"]


class Bounds(NamedTuple):
    """The lowest and the highest value that can still come out."""

    low: float
    high: float


UNKNOWN = Bounds(-math.inf, math.inf)


def why_unbounded(task: Task, objective: ObjectiveKind = "metric") -> str | None:
    """Why nothing can be pruned exactly on a task, in words; None where it can."""
    if objective != "metric":
        return f"the objective is {objective}, and only the metric's best and worst scores are known"
    for name, s in task.item_sets.items():
        if getattr(s.scorer, "bounds", None) is None:
            kind = type(s.scorer).__name__
            return f"item set {name!r} is scored by {kind}, whose best and worst scores are not known"
    return None


def value_bounds(partial: Partial) -> Bounds:
    """Bounds of the value: all items that are left at their worst, and at their best score.

    They hold in floating point too: sums are rounded once (`fsum`), and every combination of `utilities.combine` rises
    with each of its parts at every step of its arithmetic; so where all items were asked both bounds are the value.

    Items that were not asked are taken to be such as can be scored. A particle that has an unscored item has no bounds,
    nor has one with a score that its scorer should not have given.
    """
    stages = partial.stages
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    known: dict[str, list[float]] = {}
    rest: dict[str, int] = {}
    limits: dict[str, tuple[float, float]] = {}
    for name, s in stages.task.item_sets.items():
        low, high = getattr(s.scorer, "bounds", None) or UNKNOWN
        for item in s.split(stages.split):
            part = s.part(item)
            limits[part] = (low, high)
            scores = known.setdefault(part, [])
            result = partial.found[name].get(item.id)
            if result is None:
                rest[part] = rest.get(part, 0) + 1
            elif isinstance(result.outcome, Score) and low <= result.outcome.value <= high:
                scores.append(result.outcome.value)
            else:
                return UNKNOWN
    for part, scores in known.items():
        left, (low, high) = rest.get(part, 0), limits[part]
        lows[part], highs[part] = _mean(scores, left, low), _mean(scores, left, high)
    low, high = _combined(stages.task, lows), _combined(stages.task, highs)
    return Bounds(-math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high)


def _mean(scores: list[float], left: int, each: float) -> float:
    """The mean of `scores` and of so many more, `each` the same."""
    if left and math.isinf(each):
        return each
    return math.fsum([*scores, *[each] * left]) / (len(scores) + left)


def _combined(task: Task, values: Mapping[str, float]) -> float:
    """As `combine_evaluations` does it; nan where the combination has no meaning for these values."""
    if len(values) == 1:
        return next(iter(values.values()))
    return float(task.combine({name: np.asarray(value) for name, value in values.items()}))
