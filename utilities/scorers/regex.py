"""A regular expression: does the response match, and does what it captures equal the gold answer?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from utilities.core import Item, Outcome, Reason, Response, Score, Unscored, scorer_registry
from utilities.deadline import deadline
from utilities.errors import UserError
from utilities.scorers.generation import GenerationScorer
from utilities.scorers.normalize import normalize_answer

__all__ = ["Regex"]


TIME_LIMIT_S = 1.0
"""Seconds that a pattern may take for one response, and for all texts that it is tried on before."""
TRIED = 40
"""Length of these texts: of a pattern that backtracks exponentially, more than it can finish."""


def _check_time(pattern: re.Pattern[str]) -> None:
    """Tries a pattern on texts that make nested repetitions backtrack.

    Raises:
        UserError: It does not end in time.
    """
    characters = list(dict.fromkeys(one for one in "aA1 -." + pattern.pattern if one.isprintable()))[:30]
    try:
        with deadline(TIME_LIMIT_S):
            for character in characters:
                pattern.search(character * TRIED + "\n\x00")
    except TimeoutError:
        raise UserError(
            f"scorer 'regex': the pattern {pattern.pattern[:80]!r} takes over {TIME_LIMIT_S:g} s on {TRIED} letters;"
            " write it without a repetition inside a repetition"
        ) from None


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
        _check_time(self.pattern)

    def check(self, item: Item) -> str | None:
        """An item without an answer cannot be compared with what a group captures."""
        return super().check(item) if self.pattern.groups else None

    def score_one(self, item: Item, response: Response) -> Outcome:
        """1 where the pattern finds what it should, else 0."""
        try:
            with deadline(TIME_LIMIT_S):
                found = list(self.pattern.finditer(response.text))
        except TimeoutError:
            return Unscored(Reason.TIME, f"the pattern took over {TIME_LIMIT_S:g} s")
        if not self.pattern.groups or not found:
            return Score(float(bool(found)))
        return Score(float(normalize_answer(found[-1].group(1) or "") == normalize_answer(item.answer or "")))
