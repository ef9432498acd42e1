"""The probability of the gold answer: the smooth form of an accuracy."""

from __future__ import annotations

import math
from typing import Literal, Unpack, get_args

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
from utilities.prompt_format import PromptOptions
from utilities.registry import unknown_name
from utilities.scorers.multiple_choice import AnswerBy, MultipleChoice, Normalize

__all__ = ["GoldLogprob"]


Scale = Literal["log", "probability"]


@scorer_registry.register("gold_logprob")
class GoldLogprob(MultipleChoice):
    """Mean log-probability of the gold answer: among the options if there are any, else per token of its text.

    An accuracy changes in steps of one item and rewards chance; this score is smooth, so the gap between dev and test
    is smaller. Values are natural logarithms, at most 0 (best); guessing among four options gives ln(1/4).

    Args:
        prompt: As of `MultipleChoice`.
        answer_by: As of `MultipleChoice`.
        normalize: As of `MultipleChoice`.
        scale: `probability` takes the exponential of each item's value: the expected accuracy of a sampled answer (of a
            free answer, the geometric mean of its tokens' probabilities). It is in [0, 1] like an accuracy, so it can
            be combined like one, and a single confidently wrong item does not dominate the mean. A log-probability of
            -inf is probability 0 here; the logarithm has no score for it.
        options: As of `MultipleChoice`.
    """

    accuracy_like = False  # already smooth

    def __init__(
        self,
        prompt: str = "lettered",
        answer_by: AnswerBy = "letter",
        normalize: Normalize = "none",
        scale: Scale = "log",
        **options: Unpack[PromptOptions],
    ) -> None:
        super().__init__(prompt, answer_by, normalize, **options)
        if scale not in get_args(Scale):
            raise unknown_name("scale", str(scale), get_args(Scale))
        self.scale = scale

    def check(self, item: Item) -> str | None:
        """Requires an item with an answer."""
        return None if item.answer else "the item has no answer"

    def options(self, item: Item) -> list[str]:
        """The options, or the gold text alone."""
        return super().options(item) if item.choices else [f"{'' if self.prompt.chat else ' '}{item.answer}"]

    def gold_text(self, item: Item) -> str:
        """The gold option as options are compared, or the gold text."""
        return super().gold_text(item) if item.choices else item.answer or ""

    def choose(self, item: Item, answer: ChoiceLogprobs) -> Response | Unscored:
        """The most likely option; for a free answer the log-probability per token."""
        if item.choices:
            return super().choose(item, answer)
        values = (value / max(1, tokens) for value, tokens in zip(answer.logprobs, answer.tokens, strict=True))
        return Response(item.answer or "", choice_logprobs=tuple(values))

    def score_one(self, item: Item, response: Response) -> Outcome:
        """Log-probability of the gold option after a softmax over the options, or of the gold text per token."""
        values = self._values(item, response.choice_logprobs)
        if isinstance(values, Unscored):
            return values
        gold = values[list(item.choices).index(item.answer or "") if item.choices else 0]
        if self.scale == "probability" and gold == -math.inf and (not item.choices or max(values) > -math.inf):
            return Score(0.0)
        if not math.isfinite(gold):
            return Unscored(Reason.OUT_OF_RANGE, f"log-probability {gold} of the gold answer")
        if item.choices:
            top = max(values)
            gold -= top + math.log(sum(math.exp(value - top) for value in values))
        return Score(math.exp(gold) if self.scale == "probability" else gold)
