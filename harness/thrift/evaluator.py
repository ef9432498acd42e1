"""The one door for a search: particles in, values out, with as few items asked as the way of saving allows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.thrift.applies import Way
from harness.thrift.cost import Spending
from harness.thrift.informative import Scores, by_variance, from_hard_to_easy, mean_scores, scores_by_item_set
from harness.thrift.partial import Partial
from harness.thrift.pruning import Need, keep_best, prune
from harness.thrift.racing import Rules, race
from harness.thrift.stages import Stages, shuffled
from utilities.core import Evaluation, Model
from utilities.objective import ObjectiveKind
from utilities.tasks import Task

__all__ = ["Evaluator", "Found"]

STAGES = 8
"""An item set of 200 in stages of 25."""


class Found(NamedTuple):
    """What became of one particle."""

    value: float | None
    """What the search is told, by the objective; None where it is missing."""
    evaluation: Evaluation
    """The metric's, of all items; or, without a value, of those that were asked until it was stopped."""
    items: int
    """Items that it was asked."""
    complete: bool
    """Whether `value` is its value on all items, and may be remembered for other particles at the same place."""


class Evaluator:
    """Evaluates what a search asks for on dev, batch by batch.

    Which items to ask first is learned on the way. For exact pruning from every batch: the order decides what is saved
    and nothing else. For a race from the first batch alone, which is asked everything.

    Args:
        task: What is evaluated, with the measures that the objective needs (`with_companions`).
        way: How items are saved; `why_not` tells whether it may be.
        seed: Of the order of the items.
        objective: What the search is told.
        keep: How many of the best rows are needed, of a search that is told of no other.
        stages: In how many stages the items are asked.
        rules: When a race stops a particle.
    """

    def __init__(
        self,
        task: Task,
        way: Way,
        seed: int,
        *,
        objective: ObjectiveKind = "metric",
        keep: int = 1,
        stages: int = STAGES,
        rules: Rules | None = None,
    ) -> None:
        self.task, self.way, self.objective = task, way, objective
        self.spending = Spending()
        self._seed, self._keep, self._count, self._rules = seed, keep, stages, rules or Rules()
        self._stages = Stages.cut(task, "dev", stages, shuffled(task, "dev", seed), objective)
        self._learned = False
        self._before: dict[str, list[Scores]] = {}
        self._best: list[float] = []

    async def __call__(
        self, models: Sequence[Model], particles: Sequence[int], needs: Sequence[Need | None] | None = None
    ) -> list[Found]:
        """Evaluates a batch.

        Args:
            models: What is evaluated.
            particles: Their numbers, for the account.
            needs: For exact pruning, what the search must know of each (`swarm_needs`; of several at one place
                `strictest`); None for a search that only keeps the best.
        """
        partials = [Partial(self._stages, model) for model in models]
        told: list[float | None]
        if self.way == "exact" and needs is None:
            told = await keep_best(partials, self._best, self._keep)
        elif self.way == "exact" and needs is not None:
            told = await asyncio.gather(*(prune(one, need) for one, need in zip(partials, needs, strict=True)))
        elif self._learned:
            told = await race(partials, self._rules)
        else:
            told = await asyncio.gather(*(prune(one, None) for one in partials))
        found = [
            Found(value, one.evaluation(), one.items, one.complete) for value, one in zip(told, partials, strict=True)
        ]
        for particle, one in zip(particles, found, strict=True):
            self.spending.add(particle, one.items, self._stages.items)
        sure = [one.value for one in found if one.complete and one.value is not None]
        self._best = sorted([*self._best, *sure], reverse=True)[: self._keep]
        self.learn([one.evaluation for one in found])
        return found

    def learn(self, evaluations: Sequence[Evaluation]) -> None:
        """Learns from a batch which items to ask first. A race that goes on is given the records of its first batch."""
        if not evaluations or (self.way == "race" and self._learned):
            return
        scores = scores_by_item_set(self.task, "dev", evaluations, self.objective)
        if self.way == "race":
            orders = by_variance(scores, self._seed)
        else:  # what was known before counts as one model: some items were asked of nobody this time
            scores = {name: np.vstack([*self._before.get(name, ()), one]) for name, one in scores.items()}
            self._before = {name: [mean_scores(one)] for name, one in scores.items()}
            orders = from_hard_to_easy(scores, self._seed)
        if orders is not None:
            self._stages = Stages.cut(self.task, "dev", self._count, orders, self.objective)
        self._learned = True
