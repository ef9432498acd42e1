"""Verdicts: yes, no or neutral, or any other few words."""

from __future__ import annotations

from collections.abc import Sequence

from utilities.core import Item, Outcome, Response, Score, scorer_registry
from utilities.errors import UserError
from utilities.scorers.generation import GenerationScorer
from utilities.scorers.yes_no import extract_yes_no

__all__ = ["YesNo"]


@scorer_registry.register("yes_no")
class YesNo(GenerationScorer):
    """Accuracy of the verdict that a response states.

    Args:
        answers: The words that are verdicts.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`.
        stop: As in `GenerationScorer`.

    Raises:
        UserError: There is no such prompt, or an answer that is no word.
    """

    bounds = (0.0, 1.0)
    accuracy_like = True

    def __init__(
        self,
        answers: Sequence[str] = ("yes", "no", "neutral"),
        prompt: str = "bare",
        max_tokens: int = 10,
        stop: Sequence[str] = (),
    ) -> None:
        super().__init__(prompt, max_tokens, stop)
        if isinstance(answers, str) or not all(isinstance(answer, str) for answer in answers):
            raise UserError(f"answers={answers!r}: expected a list of words; in YAML, yes and no need quotes")
        self.answers = tuple(answers)

    def check(self, item: Item) -> str | None:
        """An item whose answer is none of the verdicts cannot be scored here."""
        gold = _gold(item)
        known = {answer.casefold() for answer in self.answers}
        return None if gold.casefold() in known else f"its answer {gold!r} is none of {', '.join(self.answers)}"

    def score_one(self, item: Item, response: Response) -> Outcome:
        """1 where the response states the gold verdict and no other, else 0."""
        stated = extract_yes_no(response.text, self.answers)
        return Score(float(stated is not None and stated.casefold() == _gold(item).casefold()))


def _gold(item: Item) -> str:
    """The right verdict: the text of the right option where there are options."""
    return (item.choices or {}).get(item.answer or "", item.answer or "")
