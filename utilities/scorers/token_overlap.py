"""Free answers scored by how far their words are those of the gold answer."""

from __future__ import annotations

from utilities.core import Item, Outcome, Response, Score, scorer_registry
from utilities.scorers.generation import GenerationScorer
from utilities.scorers.token_f1 import token_f1

__all__ = ["TokenF1"]


@scorer_registry.register("token_f1")
class TokenF1(GenerationScorer):
    """Mean token-level F1 of the responses' first lines. The arguments are those of `GenerationScorer`."""

    bounds = (0.0, 1.0)
    accuracy_like = True

    def score_one(self, item: Item, response: Response) -> Outcome:
        """F1 of the response's first line, 0 to 1: base models go on after their answer."""
        first = next(iter(response.text.strip().splitlines()), "")
        return Score(token_f1(first, item.answer or ""))
