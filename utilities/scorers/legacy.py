"""The parsers of the paper's reference code, for comparison with its published numbers; both have known errors.

They show how much of a difference from published numbers is due to the parser; use `extract_letter` and
`extract_number` otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

from utilities.core import Item, Outcome, Response, Score, scorer_registry
from utilities.prompt_format import PromptOptions
from utilities.scorers.generation import GenerationScorer
from utilities.scorers.multiple_choice_generated import MultipleChoiceGenerated

__all__ = ["LegacyLetter", "LegacyNumber", "legacy_letter", "legacy_number"]


def legacy_letter(text: str, choices: Mapping[str, str]) -> str | None:
    """The first letter, in the order of `choices`, that occurs anywhere in the reply's first 5 characters.

    If there is none, the same in the last 5 characters; then the first option whose text occurs anywhere, ignoring
    case, also inside words. So "Answer: C" gives A, "B: Asia ..." gives A, and "Ireland" gives A if A is "land".

    Returns:
        A key of `choices`, or None if the reference returns "Z", its code for a wrong answer. The letter "Z" of a 26th
        option is returned as "Z".
    """
    for end in (text[:5], text[-5:]):
        for letter in choices:
            if letter in end:
                return letter
    lowered = text.lower()
    return next((letter for letter, option in choices.items() if option.lower() in lowered), None)


def legacy_number(text: str, gold: str, *, last_words: int | None = None) -> bool:
    """Whether the gold answer's characters occur anywhere in the reply.

    So 150 is correct if the answer is 15, 36000 is wrong if the file has 36,000, and a matching intermediate result
    is correct.

    Args:
        text: The reply.
        gold: The gold answer as in the file.
        last_words: Number of last words of the reply, split at single spaces, that are searched; in the reference 5
            for GSM8K on dev and 10 on test. None searches the full reply, as the reference does for NLGraph.
    """
    text = text.strip()
    return gold in (text if last_words is None else " ".join(text.split(" ")[-last_words:]))


@scorer_registry.register("legacy_letter")
class LegacyLetter(MultipleChoiceGenerated):
    """Multiple choice read from the first five characters of a reply ("Answer" counts as A)."""

    def score_one(self, item: Item, response: Response) -> Outcome:
        """1 if the reference code counts the reply as correct, else 0."""
        return Score(float(legacy_letter(response.text, item.choices or {}) == item.answer))


@scorer_registry.register("legacy_number")
class LegacyNumber(GenerationScorer):
    """Numbers found anywhere in a reply as a substring (15 in 150).

    Args:
        last_words: As in `legacy_number`.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`.
        stop: As in `GenerationScorer`.
        options: As in `GenerationScorer`.
    """

    accuracy_like = True

    def __init__(
        self,
        last_words: int | None = None,
        prompt: str = "bare",
        max_tokens: int = 10,
        stop: Sequence[str] = (),
        **options: Unpack[PromptOptions],
    ) -> None:
        super().__init__(prompt, max_tokens, stop, **options)
        self.last_words = last_words

    def score_one(self, item: Item, response: Response) -> Outcome:
        """1 if the reference code counts the reply as correct, else 0."""
        return Score(float(legacy_number(response.text, item.answer or "", last_words=self.last_words)))
