"""What a search maximises: a task's own value, or its smooth form, which is less subject to selection bias.

An accuracy of 400 items moves in steps of one item, and the best of a hundred accuracies is mostly a lucky one. The
probability of the gold answer moves with every item, so dev and test stay closer together. The smooth score is stored
as a measure of each item's score: the metric stays what is reported, and stored records have both.
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

__all__ = [
    "ObjectiveKind",
    "WithSmoothScore",
    "as_objective",
    "choose_objective",
    "outcome_as",
    "smooth_scorer",
    "with_smooth_scores",
]

ObjectiveKind = Literal["metric", "smooth", "mix"]

SMOOTH = "smooth"
"""Name of the measure."""


class WithSmoothScore(Scorer):
    """A scorer whose scores carry the smooth score of the same item as the measure `smooth`.

    Args:
        scorer: Its scores are reported.
        smooth: Its scores become the measure. If it compares options as the scorer does, it reads the scorer's
            responses; otherwise it makes its own requests to the model at the same time.
    """

    def __init__(self, scorer: Scorer, smooth: Scorer) -> None:
        self.scorer, self.smooth = scorer, smooth
        self.judged, self.objectives = scorer.judged, scorer.objectives

    def check(self, item: Item) -> str | None:
        """The scorer's check."""
        return self.scorer.check(item)

    async def __call__(self, model: Model, items: Sequence[Item]) -> Evaluation:
        """The scorer's evaluation, with the smooth scores as a measure."""
        outcomes: dict[int, Outcome] = {}
        if is_free(self.scorer):
            evaluation = await self.scorer(model, items)
            answered = [k for k, r in enumerate(evaluation.results) if r.response.choice_logprobs is not None]
            responses = [evaluation.results[k].response for k in answered]
            scores = await self.smooth.score([items[k] for k in answered], responses)
            outcomes.update(zip(answered, scores, strict=True))
        else:
            evaluation, other = await asyncio.gather(self.scorer(model, items), self.smooth(model, items))
            outcomes.update((k, r.outcome) for k, r in enumerate(other.results))
        results = tuple(_measured(r, outcomes.get(k)) for k, r in enumerate(evaluation.results))
        return replace(evaluation, results=results)

    async def score(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Outcome]:
        """The scorer's scores of the responses."""
        return await self.scorer.score(items, responses)


def _measured(result: ItemResult, smooth: Outcome | None) -> ItemResult:
    if not isinstance(result.outcome, Score) or not isinstance(smooth, Score):
        return result
    measures = {**result.outcome.measures, SMOOTH: smooth.value}
    return replace(result, outcome=replace(result.outcome, measures=measures))


def smooth_scorer(scorer: Scorer) -> Scorer | None:
    """The smooth scorer of a scorer: its own, or the probability of the gold answer after the same prompt.

    Returns:
        None if there is none.
    """
    from utilities.scorers.generation import GenerationScorer  # here: naming the objectives needs no jinja
    from utilities.scorers.gold_logprob import GoldLogprob
    from utilities.scorers.multiple_choice import MultipleChoice

    if (own := scorer.smooth_scorer()) is not None or not scorer.accuracy_like:
        return own
    if isinstance(scorer, MultipleChoice):
        smooth = GoldLogprob(answer_by=scorer.answer_by, normalize=scorer.normalize, scale="probability")
    elif isinstance(scorer, GenerationScorer):
        smooth = GoldLogprob(scale="probability")
    else:
        return None
    smooth.prompt = scorer.prompt
    return smooth


def is_free(scorer: Scorer) -> bool:
    """Whether the smooth scorer reads the scorer's own responses, without further requests to the model."""
    from utilities.scorers.multiple_choice import MultipleChoice

    return isinstance(scorer, MultipleChoice)


def choose_objective(requested: ObjectiveKind | Literal["auto"], task: Task) -> ObjectiveKind:
    """The requested objective; of `auto`, smooth if every item set has it without further requests, else the metric.

    Raises:
        UserError: A smooth objective is requested and an item set's scorer has none.
    """
    without = [name for name, s in task.item_sets.items() if smooth_scorer(s.scorer) is None]
    if requested == "auto":
        free = not without and all(is_free(s.scorer) for s in task.item_sets.values())
        return "smooth" if free else "metric"
    if requested != "metric" and without:
        raise UserError(
            f"--objective {requested}: the scorer of item set {without[0]!r} has no smooth score (accuracies have one);"
            " --objective metric is accepted"
        )
    return requested


def with_smooth_scores(task: Task, kind: ObjectiveKind) -> Task:
    """The task whose scores carry the measure that the objective needs."""
    if kind == "metric":
        return task
    sets = {}
    for name, s in task.item_sets.items():
        smooth = smooth_scorer(s.scorer)
        sets[name] = s if smooth is None else replace(s, scorer=WithSmoothScore(s.scorer, smooth))
    return replace(task, item_sets=sets)


def as_objective(evaluation: Evaluation, kind: ObjectiveKind, combine: Callable[..., Any]) -> Evaluation:
    """The evaluation of the objective: the same items, scored by it.

    Args:
        evaluation: The metric's, of a task `with_smooth_scores`.
        kind: Which objective.
        combine: The task's combination of its parts into one number.
    """
    if kind == "metric":
        return evaluation
    leaves = {
        name: Evaluation.of([replace(r, outcome=outcome_as(r.outcome, kind)) for r in leaf.results])
        for name, leaf in evaluation.leaves.items()
    }
    return combine_evaluations(leaves, combine)


def outcome_as(outcome: Outcome, kind: ObjectiveKind) -> Outcome:
    """The objective's outcome of one item, from the metric's."""
    if kind == "metric" or not isinstance(outcome, Score):
        return outcome
    smooth = outcome.measures.get(SMOOTH)
    if smooth is None:
        return Unscored(Reason.NOT_APPLICABLE, "the score has no smooth measure")
    return Score(smooth if kind == "smooth" else (smooth + outcome.value) / 2)
