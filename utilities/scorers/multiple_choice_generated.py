"""Multiple choice by generation, as in the paper: the letter is extracted from the generated answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from utilities.core import Item, Outcome, Response, Score, scorer_registry
from utilities.prompt_format import PromptOptions
from utilities.scorers.extract_letter import extract_letter
from utilities.scorers.generation import GenerationScorer

__all__ = ["MultipleChoiceGenerated"]


@scorer_registry.register("multiple_choice_generated")
class MultipleChoiceGenerated(GenerationScorer):
    """Accuracy of the option that the response names.

    The arguments are those of `GenerationScorer`; by default the prompt lists the options, because letters
    need it.
    """

    accuracy_like = True

    def __init__(
        self, prompt: str = "lettered", max_tokens: int = 10, stop: Sequence[str] = (), **options: Unpack[PromptOptions]
    ) -> None:
        super().__init__(prompt, max_tokens, stop, **options)

    def check(self, item: Item) -> str | None:
        """Requires an item with options."""
        return None if item.choices else "the item has no choices"

    def gold_text(self, item: Item) -> str:
        """The letter of the gold option if the prompt lists the options, else its text."""
        letter = item.answer or ""
        return letter if "choices" in self.prompt.template.source else (item.choices or {}).get(letter, "")

    def score_one(self, item: Item, response: Response) -> Outcome:
        """1 if the response names the gold option and no other, else 0."""
        return Score(float(extract_letter(response.text, item.choices or {}) == item.answer))
