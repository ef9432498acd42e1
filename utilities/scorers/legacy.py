"""Twins of the paper's reference parsers, for comparison with its published numbers; each is known to be wrong."""

from __future__ import annotations

from collections.abc import Sequence

from utilities.core import Item, Outcome, Response, Score, scorer_registry
from utilities.scorers.generation import GenerationScorer
from utilities.scorers.legacy_letter import legacy_letter
from utilities.scorers.legacy_number import legacy_number
from utilities.scorers.multiple_choice_generated import MultipleChoiceGenerated

__all__ = ["LegacyLetter", "LegacyNumber"]


@scorer_registry.register("legacy_letter")
class LegacyLetter(MultipleChoiceGenerated):
    """Multiple choice read from the first five characters of a reply ("Answer" counts as A)."""

    def score_one(self, item: Item, response: Response) -> Outcome:
        """1 where the reference would count the reply as right."""
        return Score(float(legacy_letter(response.text, item.choices or {}) == item.answer))


@scorer_registry.register("legacy_number")
class LegacyNumber(GenerationScorer):
    """Numbers found anywhere in a reply as a substring (15 in 150).

    Args:
        last_words: As in `legacy_number`: looks only at the last words of a reply.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`.
        stop: As in `GenerationScorer`.
    """

    bounds = (0.0, 1.0)
    accuracy_like = True

    def __init__(
        self, last_words: int | None = None, prompt: str = "bare", max_tokens: int = 10, stop: Sequence[str] = ()
    ) -> None:
        super().__init__(prompt, max_tokens, stop)
        self.last_words = last_words

    def score_one(self, item: Item, response: Response) -> Outcome:
        """1 where the reference would count the reply as right."""
        return Score(float(legacy_number(response.text, item.answer or "", last_words=self.last_words)))
