"""Numeric answers: the final number of a response against the gold number."""

from __future__ import annotations

from utilities.core import Item, Outcome, Response, Score, scorer_registry
from utilities.scorers.extract_number import extract_number, parse_number, same_number
from utilities.scorers.generation import GenerationScorer

__all__ = ["Numeric"]


@scorer_registry.register("numeric")
class Numeric(GenerationScorer):
    """Accuracy of the final number of a response. The arguments are those of `GenerationScorer`."""

    accuracy_like = True

    def check(self, item: Item) -> str | None:
        """Requires an item whose answer is a number."""
        if item.answer is None:
            return "the item has no answer"
        return None if parse_number(item.answer) is not None else f"its answer {item.answer!r} is no number"

    def score_one(self, item: Item, response: Response) -> Outcome:
        """1 if the numbers are equal, else 0; also 0 if the response has no number."""
        extracted, gold = extract_number(response.text), parse_number(item.answer or "")
        return Score(float(extracted is not None and gold is not None and same_number(extracted, gold)))
