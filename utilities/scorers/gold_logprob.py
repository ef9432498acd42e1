"""The probability of the gold answer: the smooth form of an accuracy."""

from __future__ import annotations

import math
from typing import Literal, get_args

from utilities.core import (
    ChoiceLogprobs,
    Item,
    Outcome,
    Reason,
    Response,
    Score,
    Unscored,
    scorer_registry,
)
from utilities.registry import unknown_name
from utilities.scorers.multiple_choice import AnswerBy, MultipleChoice, Normalize

__all__ = ["GoldLogprob"]


Scale = Literal["log", "probability"]


@scorer_registry.register("gold_logprob")
class GoldLogprob(MultipleChoice):
    """Mean log-probability of the gold answer: among the options if there are any, else per token of its text.

    An accuracy moves in steps of one item and rewards luck; this moves with every item, so dev and test stay closer
    together. Values are at most 0 and natural logarithms; the best is 0, and guessing among four options is ln(1/4).

    Args:
        prompt: As of `MultipleChoice`.
        answer_by: As of `MultipleChoice`.
        normalize: As of `MultipleChoice`.
        scale: `probability` takes the exponential of each item's value: the accuracy to be expected if the model drew
            its answer (of a free answer, the geometric mean of its tokens' probabilities). Between 0 and 1 as an
            accuracy is, so that it is combined as one, and no single item that is certainly wrong decides the mean.
    """

    accuracy_like = False  # it is smooth itself

    def __init__(
        self,
        prompt: str = "lettered",
        answer_by: AnswerBy = "letter",
        normalize: Normalize = "none",
        scale: Scale = "log",
    ) -> None:
        super().__init__(prompt, answer_by, normalize)
        if scale not in get_args(Scale):
            raise unknown_name("scale", str(scale), get_args(Scale))
        self.scale = scale

    def check(self, item: Item) -> str | None:
        """An item without an answer cannot be scored here."""
        return None if item.answer else "the item has no answer"

    def options(self, item: Item) -> list[str]:
        """The options, or the gold text alone."""
        return super().options(item) if item.choices else [f" {item.answer}"]

    def choose(self, item: Item, answer: ChoiceLogprobs) -> Response | Unscored:
        """The most likely option; of a free answer the log-probability a token."""
        if item.choices:
            return super().choose(item, answer)
        values = (value / max(1, tokens) for value, tokens in zip(answer.logprobs, answer.tokens, strict=True))
        return Response(item.answer or "", choice_logprobs=tuple(values))

    def score_one(self, item: Item, response: Response) -> Outcome:
        """Log-probability of the gold option after a softmax over the options, or of the gold text a token."""
        values = self._values(item, response.choice_logprobs)
        if isinstance(values, Unscored):
            return values
        gold = values[list(item.choices).index(item.answer or "") if item.choices else 0]
        if not math.isfinite(gold):
            return Unscored(Reason.OUT_OF_RANGE, f"log-probability {gold} of the gold answer")
        if item.choices:
            top = max(values)
            gold -= top + math.log(sum(math.exp(value - top) for value in values))
        return Score(math.exp(gold) if self.scale == "probability" else gold)
