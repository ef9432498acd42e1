"""Multiple choice by log-likelihood: the option that the model finds most likely is its answer."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, get_args

from utilities.core import (
    ChoiceLogprobs,
    Evaluation,
    Item,
    ItemResult,
    Model,
    Outcome,
    Reason,
    Score,
    Unscored,
    Usage,
    scorer_registry,
)
from utilities.prompts import load_prompt, prompt_hash
from utilities.registry import unknown_name

__all__ = ["MultipleChoice"]

AnswerBy = Literal["text", "letter"]
Normalize = Literal["none", "length"]

PREPARED_KEPT = 4
"""Item sequences whose prompts are remembered: a scorer is asked about dev and test of one item set in turn."""


@scorer_registry.register("multiple_choice")
class MultipleChoice:
    """Accuracy of the most likely option.

    Args:
        prompt: Name of the template in `prompts/`; it sees `question` and `choices`.
        answer_by: `text` scores each option's own words after the prompt; `letter` scores its letter, for prompts
            that list the options.
        normalize: `none` compares summed log-probabilities; `length` divides by the option's length in characters,
            so that long options are not at a disadvantage (`acc` and `acc_norm` of lm-evaluation-harness).

    Raises:
        UserError: There is no such prompt, or no such value of an option.
    """

    def __init__(
        self,
        prompt: str = "lettered",
        answer_by: AnswerBy = "letter",
        normalize: Normalize = "none",
    ) -> None:
        # Options come from task files written by hand: a misspelled one must not quietly mean the other.
        for option, value, known in (("answer_by", answer_by, AnswerBy), ("normalize", normalize, Normalize)):
            if value not in get_args(known):
                raise unknown_name(option, str(value), get_args(known))
        self.prompt, self.answer_by, self.normalize = load_prompt(prompt), answer_by, normalize
        self._prepared: OrderedDict[int, tuple[tuple[Item, ...], list[str], list[list[str]]]] = OrderedDict()

    def check(self, item: Item) -> str | None:
        """An item without options cannot be scored here."""
        return None if item.choices else "the item has no choices"

    async def __call__(self, model: Model, items: Sequence[Item]) -> Evaluation:
        """The share of items whose gold option is the most likely one; ties go to the first option."""
        prompts, options = self._prepare(items)
        answers = await model.choice_logprobs(prompts, options)
        start = time.perf_counter()
        results = [
            self._result(item, prompt, answer) for item, prompt, answer in zip(items, prompts, answers, strict=True)
        ]
        return Evaluation.of(results, Usage(requests=len(items), seconds=time.perf_counter() - start))

    def _prepare(self, items: Sequence[Item]) -> tuple[list[str], list[list[str]]]:
        """Prompts and options of an item set, made once and given to every particle as the same objects."""
        known, now = self._prepared.get(id(items)), tuple(items)
        if known is not None and known[0] == now:  # a list may have been changed since
            self._prepared.move_to_end(id(items))
            return known[1], known[2]
        prompts = [self.prompt.render(question=item.question, choices=item.choices) for item in items]
        options = [
            [f" {text}" for text in (item.choices or {})]
            if self.answer_by == "letter"
            else [f" {text}" for text in (item.choices or {}).values()]
            for item in items
        ]
        self._prepared[id(items)] = (now, prompts, options)
        self._prepared.move_to_end(id(items))
        while len(self._prepared) > PREPARED_KEPT:
            self._prepared.popitem(last=False)
        return prompts, options

    def _result(self, item: Item, prompt: str, answer: ChoiceLogprobs | Unscored) -> ItemResult:
        cluster, hashed = item.source or item.id, prompt_hash(prompt)
        if isinstance(answer, Unscored):
            return ItemResult(item.id, cluster, hashed, answer.raw, answer)
        chosen, outcome = self.choose(item, answer)
        return ItemResult(item.id, cluster, hashed, chosen, outcome, answer.logprobs)

    def choose(self, item: Item, answer: ChoiceLogprobs) -> tuple[str, Outcome]:
        """The letter chosen, and its score: 1 for the gold letter, else 0."""
        choices = item.choices or {}
        values: Sequence[float] = answer.logprobs
        if len(values) != len(choices):
            return "", Unscored(Reason.MALFORMED, f"{len(values)} log-probabilities of {len(choices)} options")
        if not all(value == value and value != float("inf") for value in values):
            return "", Unscored(Reason.MALFORMED, f"log-probabilities are not numbers: {values}")
        if self.normalize == "length":
            lengths = [1] * len(choices) if self.answer_by == "letter" else [len(text) for text in choices.values()]
            values = [value / length for value, length in zip(values, lengths, strict=True)]
        chosen = list(choices)[max(range(len(values)), key=values.__getitem__)]
        return chosen, Score(1.0 if chosen == item.answer else 0.0)
