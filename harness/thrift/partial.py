"""A particle's evaluation in progress: the stages that it was asked, and what that comes to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from harness.thrift.stages import Stages
from utilities.core import Evaluation, ItemResult, Model, Score, Usage
from utilities.objective import as_objective, outcome_as

__all__ = ["Partial"]


class Partial:
    """One particle on its way through the stages.

    Args:
        stages: What is asked.
        model: The particle.
    """

    def __init__(self, stages: Stages, model: Model) -> None:
        self.stages, self._model = stages, model
        self.left = list(range(len(stages.stages)))
        """Numbers of the stages that it was not asked."""
        self.found: dict[str, dict[str, ItemResult]] = {name: {} for name in stages.task.item_sets}
        """Results by item set and item id."""
        self._usage = {name: Usage() for name in stages.task.item_sets}
        self._whole: Evaluation | None = None
        self._value: float | None = None

    @property
    def items(self) -> int:
        """Items that it was asked."""
        return sum(len(results) for results in self.found.values())

    @property
    def complete(self) -> bool:
        """Whether it was asked all items."""
        return not self.left

    async def ask(self, stage: int) -> None:
        """Asks one stage more, all its item sets at the same time.

        Raises:
            ValueError: It was asked this stage before.
        """
        self.left.remove(stage)
        asked, sets = self.stages.stages[stage], self.stages.task.item_sets
        told = await asyncio.gather(*(sets[name].scorer(self._model, items) for name, items in asked.items()))
        self._keep(dict(zip(asked, told, strict=True)))

    async def finish(self) -> None:
        """Asks all that is left. Of a particle that was asked nothing, in one piece, as the task itself does."""
        if len(self.left) == len(self.stages.stages):
            sets = self.stages.task.item_sets
            self.left = []
            told = await asyncio.gather(*(s.scorer(self._model, s.split(self.stages.split)) for s in sets.values()))
            self._keep(dict(zip(sets, told, strict=True)))
        await asyncio.gather(*(self.ask(stage) for stage in tuple(self.left)))

    def _keep(self, told: Mapping[str, Evaluation]) -> None:
        for name, evaluation in told.items():
            self.found[name] |= {result.item_id: result for result in evaluation.results}
            self._usage[name] += evaluation.usage

    def score(self, item_set: str, item: str) -> float | None:
        """The objective's score of an item; None where it was not asked, or could not be scored."""
        result = self.found[item_set].get(item)
        outcome = None if result is None else outcome_as(result.outcome, self.stages.objective)
        return outcome.value if isinstance(outcome, Score) else None

    def value(self) -> float | None:
        """The objective on all items; None where it is not comparable, or not all were asked."""
        self.evaluation()
        return self._value

    def evaluation(self) -> Evaluation:
        """The metric's evaluation: what the task's own would be, where all items were asked.

        Else an evaluation without a value, whose problem is that it was stopped, with the results that are there.
        """
        if self._whole is not None:
            return self._whole
        task, split = self.stages.task, self.stages.split
        joined: dict[str, Evaluation] = {}
        for name, s in task.item_sets.items():
            results = [self.found[name][item.id] for item in s.split(split) if item.id in self.found[name]]
            joined[name] = Evaluation.of(results, self._usage[name])
        if self.complete:
            self._whole = task.joined(joined, split)
            self._value = as_objective(self._whole, self.stages.objective, task.combine).value
            return self._whole
        problem = f"stopped after {self.items} of {self.stages.items} items"
        parts: dict[str, Evaluation] = {}
        for name, s in task.item_sets.items():
            parts |= {
                part: replace(one, value=None, se=None, problem=problem)
                for part, one in s.parts(joined[name], split).items()
            }
        n, missing = sum(one.n for one in parts.values()), sum(one.n_unscored for one in parts.values())
        usage = sum(self._usage.values(), Usage())
        if len(parts) == 1:
            return replace(next(iter(parts.values())), usage=usage)
        return Evaluation(None, None, n, missing, usage, problem, parts=parts)
