"""What a search maximises: a task's own value, or its smooth companion, which rewards luck less.

An accuracy of 400 items moves in steps of one item, and the best of a hundred accuracies is mostly a lucky one. The
probability of the gold answer moves with every item, so dev and test stay closer together. The companion is kept as a
measure beside each item's score: the metric stays what is reported, and stored records tell both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from utilities.combine import combine_evaluations
from utilities.core import Evaluation, Item, ItemResult, Model, Outcome, Reason, Response, Score, Scorer, Unscored
from utilities.errors import UserError
from utilities.tasks import Task

__all__ = ["ObjectiveKind", "WithCompanion", "as_objective", "choose_objective", "outcome_as", "with_companions"]

ObjectiveKind = Literal["metric", "smooth", "mix"]

SMOOTH = "smooth"
"""Name of the measure."""


class WithCompanion:
    """A scorer whose scores carry their smooth companion as the measure `smooth`.

    Args:
        scorer: Whose scores they are.
        companion: The companion. One that compares options as the scorer does reads the scorer's responses; another one
            asks the model at the same time.
    """

    def __init__(self, scorer: Scorer, companion: Scorer) -> None:
        self.scorer, self.companion = scorer, companion

    def check(self, item: Item) -> str | None:
        """What the scorer says of the item."""
        return self.scorer.check(item)

    async def __call__(self, model: Model, items: Sequence[Item]) -> Evaluation:
        """The scorer's evaluation, with the companion's scores as a measure."""
        if asks_nothing(self.scorer):
            evaluation = await self.scorer(model, items)
            answered = [k for k, r in enumerate(evaluation.results) if r.response.choice_logprobs is not None]
            told = await self.companion.score(
                [items[k] for k in answered], [evaluation.results[k].response for k in answered]
            )
            smooth: dict[int, Outcome] = dict(zip(answered, told, strict=True))
        else:
            evaluation, beside = await asyncio.gather(self.scorer(model, items), self.companion(model, items))
            smooth = {k: r.outcome for k, r in enumerate(beside.results)}
        results = tuple(_measured(r, smooth.get(k)) for k, r in enumerate(evaluation.results))
        return replace(evaluation, results=results)

    async def score(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Outcome]:
        """What the scorer says of the responses."""
        return await self.scorer.score(items, responses)


def _measured(result: ItemResult, smooth: Outcome | None) -> ItemResult:
    if not isinstance(result.outcome, Score) or not isinstance(smooth, Score):
        return result
    measures = {**result.outcome.measures, SMOOTH: smooth.value}
    return replace(result, outcome=replace(result.outcome, measures=measures))


def companion(scorer: Scorer) -> Scorer | None:
    """A scorer's smooth companion; None where it has none."""
    make: Callable[[], Scorer | None] | None = getattr(scorer, "companion", None)
    return None if make is None else make()


def asks_nothing(scorer: Scorer) -> bool:
    """Whether the companion of a scorer reads the scorer's own responses, so that it costs nothing."""
    from utilities.scorers.multiple_choice import MultipleChoice

    return isinstance(scorer, MultipleChoice)


def choose_objective(asked: ObjectiveKind | Literal["auto"], task: Task) -> ObjectiveKind:
    """The objective that is asked for, or, where that is left open, what suits the task.

    That is the smooth companion where every item set has one that asks the model nothing more, else the metric.

    Raises:
        UserError: A companion is asked for and an item set's scorer has none.
    """
    without = [name for name, s in task.item_sets.items() if companion(s.scorer) is None]
    if asked == "auto":
        free = not without and all(asks_nothing(s.scorer) for s in task.item_sets.values())
        return "smooth" if free else "metric"
    if asked != "metric" and without:
        raise UserError(
            f"--objective {asked}: the scorer of item set {without[0]!r} has no smooth companion (accuracies that are"
            " asked without a chat template have one); --objective metric is accepted"
        )
    return asked


def with_companions(task: Task, kind: ObjectiveKind) -> Task:
    """The task with the measure that the objective needs beside every score."""
    if kind == "metric":
        return task
    sets = {}
    for name, s in task.item_sets.items():
        smooth = companion(s.scorer)
        sets[name] = s if smooth is None else replace(s, scorer=WithCompanion(s.scorer, smooth))
    return replace(task, item_sets=sets)


def as_objective(evaluation: Evaluation, kind: ObjectiveKind, combine: Callable[..., Any]) -> Evaluation:
    """What the objective says of an evaluation of a task `with_companions`: the same items, scored by it.

    Args:
        evaluation: The metric's.
        kind: Which objective.
        combine: The task's way to make one number of its parts.
    """
    if kind == "metric":
        return evaluation
    leaves = {
        name: Evaluation.of([replace(r, outcome=outcome_as(r.outcome, kind)) for r in leaf.results])
        for name, leaf in evaluation.leaves.items()
    }
    return combine_evaluations(leaves, combine)


def outcome_as(outcome: Outcome, kind: ObjectiveKind) -> Outcome:
    """What the objective says of the metric's outcome of one item."""
    if kind == "metric" or not isinstance(outcome, Score):
        return outcome
    smooth = outcome.measures.get(SMOOTH)
    if smooth is None:
        return Unscored(Reason.NOT_APPLICABLE, "the score has no smooth companion")
    return Score(smooth if kind == "smooth" else (smooth + outcome.value) / 2)
