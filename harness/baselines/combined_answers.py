"""An answer that is chosen, or made, of several models' answers, and scored like any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from utilities.combine import combine_evaluations
from utilities.core import Evaluation, Item, ItemResult, Response, Split
from utilities.tasks import ItemSet, Task

__all__ = ["Answers", "Choose", "answers_of", "evaluate_answers"]

Answers = list[list[Response | None]]
"""[items][models]: what each model answered to each item; None where no answer came."""
Choose = Callable[[ItemSet, Sequence[Item], Answers], Sequence[Response | None]]
"""The items of a set and all models' answers to them, to one answer an item; None where there is none."""


def _results(task: Task, item_set: ItemSet, evaluation: Evaluation) -> dict[str, ItemResult]:
    """The results of one item set by item; with `group_by` they lie in several parts, "set:group"."""
    first = next(iter(task.item_sets))
    parts = {
        name: leaf for name, leaf in evaluation.leaves.items() if (name.partition(":")[0] or first) == item_set.name
    }
    return {result.item_id: result for leaf in parts.values() for result in leaf.results}


def answers_of(task: Task, item_set: ItemSet, split: Split, evaluations: Sequence[Evaluation]) -> Answers:
    """The stored answers of several evaluations of one split."""
    found = [_results(task, item_set, evaluation) for evaluation in evaluations]
    told = [[results[item.id].response for results in found] for item in item_set.split(split)]
    return [[None if one.finish_reason == "unanswered" else one for one in row] for row in told]


async def evaluate_answers(task: Task, split: Split, evaluations: Sequence[Evaluation], choose: Choose) -> Evaluation:
    """The evaluation of the answers that `choose` makes of stored ones; no model is asked.

    Args:
        task: Its scorers score again, by `Scorer.score`, and its combination makes one number of the item sets.
        split: Of which the evaluations are.
        evaluations: One a model, with their results.
        choose: Chooses or makes the answers of one item set.
    """
    parts: dict[str, Evaluation] = {}
    for s in task.item_sets.values():
        items, answers = s.split(split), answers_of(task, s, split, evaluations)
        chosen = choose(s, items, answers)
        answered = [(item, one) for item, one in zip(items, chosen, strict=True) if one is not None]
        outcomes = iter(await s.scorer.score([item for item, _ in answered], [one for _, one in answered]))
        first = _results(task, s, evaluations[0])
        results = [
            # Where nobody answered, the first model's reason for it stays.
            first[item.id] if one is None else replace(first[item.id], response=one, outcome=next(outcomes))
            for item, one in zip(items, chosen, strict=True)
        ]
        parts |= s.parts(Evaluation.of(results), split)
    return combine_evaluations(parts, task.combine)
