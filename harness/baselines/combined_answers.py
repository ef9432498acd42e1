"""Answers combined from those of several models, and scored like any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from utilities.combine import combine_evaluations
from utilities.core import Evaluation, Item, ItemResult, Response, Split
from utilities.tasks import ItemSet, Task

__all__ = ["CombineAnswers", "ModelResponses", "evaluate_combined", "stored_responses"]

ModelResponses = list[list[Response | None]]
"""[items][models]; None if a model gave no response."""
CombineAnswers = Callable[[ItemSet, Sequence[Item], ModelResponses], Sequence[Response | None]]
"""An item set, its items and all models' responses -> one response an item; None if there is none."""


def _results(task: Task, item_set: ItemSet, evaluation: Evaluation) -> dict[str, ItemResult]:
    """The results of one item set by item id; with `group_by` they are in several parts, "set:group"."""
    first = next(iter(task.item_sets))
    parts = {
        name: leaf for name, leaf in evaluation.leaves.items() if (name.partition(":")[0] or first) == item_set.name
    }
    return {result.item_id: result for leaf in parts.values() for result in leaf.results}


def stored_responses(task: Task, item_set: ItemSet, split: Split, evaluations: Sequence[Evaluation]) -> ModelResponses:
    """The responses of several evaluations of one split, [items][models]."""
    results = [_results(task, item_set, evaluation) for evaluation in evaluations]
    responses = [[of_model[item.id].response for of_model in results] for item in item_set.split(split)]
    return [[None if one.finish_reason == "unanswered" else one for one in row] for row in responses]


async def evaluate_combined(
    task: Task, split: Split, evaluations: Sequence[Evaluation], combine: CombineAnswers
) -> Evaluation:
    """The evaluation of the responses that `combine` returns for stored ones; no model is called.

    Args:
        task: Its scorers score the responses, and its combination makes one number of the item sets.
        split: The split of the evaluations.
        evaluations: One a model, with their results.
        combine: Selects or computes the responses of one item set.
    """
    parts: dict[str, Evaluation] = {}
    for s in task.item_sets.values():
        items = s.split(split)
        combined = combine(s, items, stored_responses(task, s, split, evaluations))
        answered = [(item, one) for item, one in zip(items, combined, strict=True) if one is not None]
        outcomes = iter(await s.scorer.score([item for item, _ in answered], [one for _, one in answered]))
        first = _results(task, s, evaluations[0])
        results = [  # without any response, the first model's reason for it is kept
            first[item.id] if one is None else replace(first[item.id], response=one, outcome=next(outcomes))
            for item, one in zip(items, combined, strict=True)
        ]
        parts |= s.parts(Evaluation.of(results), split)
    return combine_evaluations(parts, task.combine)
