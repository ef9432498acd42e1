"""A regular expression: the response must match, and the captured text must equal the gold answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Unpack

from utilities.core import Item, Outcome, Reason, Response, Score, Unscored, scorer_registry
from utilities.deadline import deadline
from utilities.errors import UserError
from utilities.prompt_format import PromptOptions
from utilities.reply_text import own_answer
from utilities.scorers.generation import GenerationScorer
from utilities.scorers.normalize import normalize_answer

__all__ = ["Regex"]


TIME_LIMIT_S = 1.0
"""Maximum seconds of a pattern for one response, and for all test strings together."""
TRIED = 40
"""Length of the test strings, sufficient to detect exponential backtracking."""


def _check_time(pattern: re.Pattern[str]) -> None:
    """Tests a pattern on strings that trigger backtracking of nested repetitions.

    Raises:
        UserError: The pattern exceeds the time limit.
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
        pattern: Searched in the response's own answer, see `own_answer`. With a group, the captured text of the last
            match must equal the gold answer; without one, any match is correct and items need no answer.
        ignore_case: Whether case is ignored.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`.
        stop: As in `GenerationScorer`.
        options: As in `GenerationScorer`.

    Raises:
        UserError: The pattern is not a regular expression or is too slow, or the prompt does not exist.
    """

    def __init__(
        self,
        pattern: str,
        ignore_case: bool = True,
        prompt: str = "bare",
        max_tokens: int = 10,
        stop: Sequence[str] = (),
        **options: Unpack[PromptOptions],
    ) -> None:
        super().__init__(prompt, max_tokens, stop, **options)
        try:
            self.pattern = re.compile(pattern, re.IGNORECASE if ignore_case else 0)
        except re.error as error:
            raise UserError(f"scorer 'regex': the pattern {pattern!r} is no regular expression: {error}") from error
        _check_time(self.pattern)

    def check(self, item: Item) -> str | None:
        """Requires an item with an answer if the pattern has a group."""
        return super().check(item) if self.pattern.groups else None

    def score_one(self, item: Item, response: Response) -> Outcome:
        """1 if the pattern matches and its group, if any, captures the gold answer, else 0."""
        try:
            with deadline(TIME_LIMIT_S):
                matches = list(self.pattern.finditer(own_answer(response.text)))
        except TimeoutError:
            return Unscored(Reason.TIME, f"the pattern took over {TIME_LIMIT_S:g} s")
        if not self.pattern.groups or not matches:
            return Score(float(bool(matches)))
        return Score(float(normalize_answer(matches[-1].group(1) or "") == normalize_answer(item.answer or "")))
