"""Shared parts of scorers: the prompts of items, and the results of items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from utilities.core import Item, ItemResult, Response, Scorer, Unscored
from utilities.prompt_format import Example, PromptFormat

__all__ = ["PromptedScorer", "item_results"]


class PromptedScorer(Scorer):
    """A scorer that makes one prompt of each item; a subclass sets `prompt`."""

    prompt: PromptFormat

    @property
    def prompts(self) -> tuple[PromptFormat, ...]:
        """The formats of all prompts that it asks a model."""
        return (self.prompt,)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data that its prompts read."""
        return tuple(dict.fromkeys(name for one in self.prompts for name in one.template.columns))

    def gold_text(self, item: Item) -> str:
        """The correct answer as a response should state it, shown in examples; empty if there is none."""
        return item.answer or ""

    def show_examples(self, items: Sequence[Item]) -> None:
        """Sets the items that may be shown as answered examples, in order."""
        self.prompt = replace(self.prompt, examples=tuple(Example(item, self.gold_text(item)) for item in items))


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
