"""A regular expression: does the response match, and does what it captures equal the gold answer?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from utilities.core import Item, Outcome, Response, Score, scorer_registry
from utilities.errors import UserError
from utilities.scorers.generation import GenerationScorer
from utilities.scorers.normalize import normalize_answer

__all__ = ["Regex"]


@scorer_registry.register("regex")
class Regex(GenerationScorer):
    """Accuracy of what a pattern finds in a response.

    Args:
        pattern: Searched in the response. With a group, what the group captures (its last match) must be the gold
            answer; without one, any match is right and items need no answer.
        ignore_case: Whether case counts.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`.
        stop: As in `GenerationScorer`.

    Raises:
        UserError: The pattern is no regular expression, or there is no such prompt.
    """

    def __init__(
        self,
        pattern: str,
        ignore_case: bool = True,
        prompt: str = "bare",
        max_tokens: int = 10,
        stop: Sequence[str] = (),
    ) -> None:
        super().__init__(prompt, max_tokens, stop)
        try:
            self.pattern = re.compile(pattern, re.IGNORECASE if ignore_case else 0)
        except re.error as error:
            raise UserError(f"scorer 'regex': the pattern {pattern!r} is no regular expression: {error}") from error

    def check(self, item: Item) -> str | None:
        """An item without an answer cannot be compared with what a group captures."""
        return super().check(item) if self.pattern.groups else None

    def score_one(self, item: Item, response: Response) -> Outcome:
        """1 where the pattern finds what it should, else 0."""
        found = list(self.pattern.finditer(response.text))
        if not self.pattern.groups or not found:
            return Score(float(bool(found)))
        return Score(float(normalize_answer(found[-1].group(1) or "") == normalize_answer(item.answer or "")))
