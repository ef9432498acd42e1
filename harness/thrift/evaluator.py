"""The one door for a search: models in, values out, with as few items asked as the way of saving allows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from harness.thrift.bounds import why_unbounded
from harness.thrift.cost import Spending
from harness.thrift.informative import Scores, by_variance, from_hard_to_easy, mean_scores, scores_by_item_set
from harness.thrift.partial import Partial
from harness.thrift.pruning import Need, keep_best, prune
from harness.thrift.racing import Rules, race
from harness.thrift.stages import Stages, shuffled
from utilities.core import Evaluation, Model, Split
from utilities.errors import UserError
from utilities.tasks import Task

__all__ = ["Evaluator", "Found", "Way"]

Way = Literal["whole", "exact", "race"]
"""All items; exact pruning, with the results of all items; racing, with the chance of an error."""
STAGES = 8
"""An item set of 200 in stages of 25."""


class Found(NamedTuple):
    """What became of one particle."""

    value: float | None
    """What the search is told; None where it is missing."""
    evaluation: Evaluation
    """Of all items, or, without a value, of those that were asked until it was stopped."""
    items: int
    """Items that it was asked."""
    complete: bool
    """Whether `value` is its value on all items, and may be remembered for other particles at the same place."""


@dataclass(frozen=True)
class _Best:
    partial: Partial
    value: float


class Evaluator:
    """Evaluates what a search asks for, batch by batch.

    Which items to ask first is learned on the way. For exact pruning from every batch: the order decides what is saved
    and nothing else. For a race from the first batch alone, which is asked everything: the stages must be the same for
    all that are compared.

    Args:
        task: What is evaluated.
        way: How items are saved.
        seed: Of the order of the items.
        split: Of the task.
        stages: In how many stages the items are asked.
        rules: When a race stops a particle.

    Raises:
        UserError: Exact pruning of a task whose scores have no known bounds.
    """

    def __init__(
        self,
        task: Task,
        way: Way,
        seed: int,
        *,
        split: Split = "dev",
        stages: int = STAGES,
        rules: Rules | None = None,
    ) -> None:
        if way == "exact" and (problem := why_unbounded(task)) is not None:
            raise UserError(f"exact pruning does not apply to {task.name}: {problem}")
        self.task, self.way, self.split = task, way, split
        self.spending = Spending()
        self._seed, self._count, self._rules = seed, stages, rules or Rules()
        self._stages = Stages.cut(task, split, stages, shuffled(task, split, seed))
        self._learned = False
        self._before: dict[str, list[Scores]] = {}
        self._best: _Best | None = None

    def learn(self, evaluations: Sequence[Evaluation]) -> None:
        """Learns from a batch which items to ask first. A run that goes on gives it the records of its first batch.

        Args:
            evaluations: For a race, those of all items; the second time nothing is learned.
        """
        if self.way == "whole" or not evaluations or (self.way == "race" and self._learned):
            return
        scores = scores_by_item_set(self.task, self.split, evaluations)
        if self.way == "race":
            orders = by_variance(scores, self._seed)
        else:  # what was known before counts as one model: some items were asked of nobody this time
            scores = {name: np.vstack([*self._before.get(name, ()), one]) for name, one in scores.items()}
            self._before = {name: [mean_scores(one)] for name, one in scores.items()}
            orders = from_hard_to_easy(scores, self._seed)
        if orders is not None:
            self._stages = Stages.cut(self.task, self.split, self._count, orders)
        self._learned = True

    async def swarm(
        self, models: Sequence[Model], needs: Sequence[Need | None], particles: Sequence[int] | None = None
    ) -> list[Found]:
        """For `ParticleSwarm`, and any other search that compares a particle with its own best and the worst.

        With exact pruning; a particle that needs a value, and every one of the other ways, is asked everything.

        Args:
            models: The particles.
            needs: What the search needs of each, see `swarm_needs`; of several at one place see `strictest`.
            particles: Their numbers, for the account; by default the order.
        """
        partials = [Partial(self._stages, model) for model in models]
        if self.way == "exact":
            told = await asyncio.gather(*(prune(one, need) for one, need in zip(partials, needs, strict=True)))
        else:
            told = await self._finish(partials)
        return self._found(partials, told, particles)

    async def generation(self, models: Sequence[Model], particles: Sequence[int] | None = None) -> list[Found]:
        """For a search that compares the particles of a generation (CMA-ES): a race, from the second one on."""
        partials = [Partial(self._stages, model) for model in models]
        racing = self.way == "race" and self._learned
        told = await (race(partials, self._rules) if racing else self._finish(partials))
        return self._found(partials, told, particles)

    async def candidates(self, models: Sequence[Model], particles: Sequence[int] | None = None) -> list[Found]:
        """For a search that only keeps the best (random search): pruned against the best so far, or raced with it."""
        partials = [Partial(self._stages, model) for model in models]
        best = self._best
        if self.way == "exact":
            told = await keep_best(partials, best.value if best else None)
        elif self.way == "race" and self._learned:
            incumbent = best.partial.moved(self._stages) if best else None
            told = await race(partials, self._rules, incumbent)
        else:
            told = await self._finish(partials)
        return self._found(partials, told, particles)

    @staticmethod
    async def _finish(partials: Sequence[Partial]) -> list[float | None]:
        await asyncio.gather(*(one.finish() for one in partials))
        return [one.evaluation().value for one in partials]

    def _found(
        self, partials: Sequence[Partial], told: Sequence[float | None], particles: Sequence[int] | None
    ) -> list[Found]:
        found = [
            Found(value, one.evaluation(), one.items, one.complete) for one, value in zip(partials, told, strict=True)
        ]
        for k, (one, was) in enumerate(zip(partials, found, strict=True)):
            self.spending.add(k if particles is None else particles[k], one.items, self._stages.items)
            if was.complete and was.value is not None and (self._best is None or was.value > self._best.value):
                self._best = _Best(one, was.value)
        self.learn([was.evaluation for was in found if self.way == "exact" or was.value is not None])
        return found
