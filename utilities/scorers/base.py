"""Shared functions of scorers: the variables of a prompt, and the results of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from utilities.core import Item, ItemResult, Response, Scorer, Unscored

__all__ = ["item_results", "prompt_variables"]


def prompt_variables(item: Item) -> Mapping[str, Any]:
    """The variables of a template for an item, without its answer."""
    return {"question": item.question, "choices": item.choices or {}, "preamble": item.preamble or ""}


async def item_results(
    scorer: Scorer, items: Sequence[Item], hashes: Sequence[str], answers: Sequence[Response | Unscored]
) -> list[ItemResult]:
    """Scores a model's answers, one result per item; a missing answer keeps its reason.

    Args:
        scorer: The scorer; its method `score` is called.
        items: The items.
        hashes: Hash of each prompt.
        answers: Response of each item, or the reason for its absence.
    """
    answered = [(item, answer) for item, answer in zip(items, answers, strict=True) if isinstance(answer, Response)]
    scored = iter(await scorer.score([item for item, _ in answered], [response for _, response in answered]))
    results = []
    for item, hashed, answer in zip(items, hashes, answers, strict=True):
        response = Response(answer.raw, finish_reason="unanswered") if isinstance(answer, Unscored) else answer
        outcome = answer if isinstance(answer, Unscored) else next(scored)
        results.append(ItemResult(item.id, item.source or item.id, hashed, response, outcome))
    return results
