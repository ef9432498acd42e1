"""Multiple choice by log-likelihood: the most likely option is the model's answer."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, Unpack, get_args

from utilities.core import (
    ChoiceLogprobs,
    Evaluation,
    Item,
    Model,
    Outcome,
    Reason,
    Response,
    Score,
    Unscored,
    Usage,
    scorer_registry,
)
from utilities.prompt_format import PromptOptions, prompt_format
from utilities.prompts import prompt_hash
from utilities.registry import unknown_name
from utilities.scorers.base import PromptedScorer, item_results

__all__ = ["MultipleChoice"]

AnswerBy = Literal["text", "letter"]
Normalize = Literal["none", "length"]

PREPARED_KEPT = 32
"""Maximum number of item sequences whose prompts are cached: dev and test of an item set, and their parts."""


@scorer_registry.register("multiple_choice")
class MultipleChoice(PromptedScorer):
    """Accuracy of the most likely option.

    Args:
        prompt: Name, file or text of the template, see `load_prompt`.
        answer_by: `text` scores each option's text after the prompt; `letter` scores its letter, for prompts that list
            the options.
        normalize: `none` compares summed log-probabilities; `length` divides by the option's length in characters, so
            that long options have no disadvantage (`acc` and `acc_norm` of lm-evaluation-harness).
        options: `chat`, `system_prompt` and `few_shot`, see `PromptOptions`; in a chat, each option is scored as the
            assistant's message.

    Raises:
        UserError: The prompt does not exist, or an option has an invalid value.
    """

    accuracy_like = True

    def __init__(
        self,
        prompt: str = "lettered",
        answer_by: AnswerBy = "letter",
        normalize: Normalize = "none",
        **options: Unpack[PromptOptions],
    ) -> None:
        # Task files are written by hand: a misspelled value must not silently mean the other one.
        for option, value, choices in (("answer_by", answer_by, AnswerBy), ("normalize", normalize, Normalize)):
            if value not in get_args(choices):
                raise unknown_name(option, str(value), get_args(choices))
        self.prompt, self.answer_by, self.normalize = prompt_format(prompt, **options), answer_by, normalize
        self._prepared: OrderedDict[int, tuple[tuple[Item, ...], list[str], list[str], list[list[str]]]] = OrderedDict()

    def check(self, item: Item) -> str | None:
        """Requires an item with options."""
        return None if item.choices else "the item has no choices"

    async def __call__(self, model: Model, items: Sequence[Item]) -> Evaluation:
        """The share of items whose gold option is the most likely one; ties go to the first option."""
        prompts, hashes, options = self._prepare(items)
        answers = await model.choice_logprobs(prompts, options)
        start = time.perf_counter()
        responses = [
            answer if isinstance(answer, Unscored) else self.choose(item, answer)
            for item, answer in zip(items, answers, strict=True)
        ]
        results = await item_results(self, items, hashes, responses)
        return Evaluation.of(results, Usage(requests=len(items), seconds=time.perf_counter() - start))

    def choose(self, item: Item, answer: ChoiceLogprobs) -> Response | Unscored:
        """The letter of the most likely option, with the log-probabilities of all options."""
        values = self._values(item, answer.logprobs)
        if isinstance(values, Unscored):
            return values
        chosen = list(item.choices or {})[max(range(len(values)), key=values.__getitem__)]
        return Response(chosen, choice_logprobs=tuple(answer.logprobs))

    async def score(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Outcome]:
        """1 if the most likely option is the gold option, else 0."""
        return [self.score_one(item, response) for item, response in zip(items, responses, strict=True)]

    def score_one(self, item: Item, response: Response) -> Outcome:
        """The score of one item, from the stored log-probabilities of its options."""
        values = self._values(item, response.choice_logprobs)
        if isinstance(values, Unscored):
            return values
        best = max(range(len(values)), key=values.__getitem__)
        return Score(1.0 if list(item.choices or {})[best] == item.answer else 0.0)

    def _values(self, item: Item, logprobs: Sequence[float] | None) -> Sequence[float] | Unscored:
        """The compared values: log-probabilities, normalised if configured."""
        choices = item.choices or {}
        expected = len(choices) or 1  # a free answer has a single value, see `GoldLogprob`
        if logprobs is None:
            return Unscored(Reason.NOT_APPLICABLE, "the response has no log-probabilities of options")
        if len(logprobs) != expected:
            return Unscored(Reason.MALFORMED, f"{len(logprobs)} log-probabilities of {expected} options")
        if not all(value == value and value != float("inf") for value in logprobs):
            return Unscored(Reason.MALFORMED, f"log-probabilities are not numbers: {tuple(logprobs)}")
        if self.normalize == "none" or not choices:
            return logprobs
        lengths = [1] * len(choices) if self.answer_by == "letter" else [len(text) for text in choices.values()]
        return [value / length for value, length in zip(logprobs, lengths, strict=True)]

    def _prepare(self, items: Sequence[Item]) -> tuple[list[str], list[str], list[list[str]]]:
        """Prompts, their hashes and options of an item set, cached: the same objects for every particle."""
        cached, now = self._prepared.get(id(items)), tuple(items)
        if cached is not None and cached[0] == now:  # the list may have changed
            self._prepared.move_to_end(id(items))
            return cached[1:]
        prompts = [self.prompt.render(item) for item in items]
        options = [self.options(item) for item in items]
        hashes = [prompt_hash(prompt) for prompt in prompts]
        self._prepared[id(items)] = (now, prompts, hashes, options)
        self._prepared.move_to_end(id(items))
        while len(self._prepared) > PREPARED_KEPT:
            self._prepared.popitem(last=False)
        return prompts, hashes, options

    def options(self, item: Item) -> list[str]:
        """The continuations of the prompt that are compared; an assistant's message begins without a blank."""
        choices = item.choices or {}
        blank = "" if self.prompt.chat else " "
        return [f"{blank}{text}" for text in (choices if self.answer_by == "letter" else choices.values())]

    def gold_text(self, item: Item) -> str:
        """The letter or the text of the gold option, as options are compared."""
        choices = item.choices or {}
        return (item.answer or "") if self.answer_by == "letter" else choices.get(item.answer or "", "")
