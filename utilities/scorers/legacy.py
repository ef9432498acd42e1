"""The parsers of the paper's reference code, for comparison with its published numbers; each is known to be wrong.

They show how much of a difference from published numbers is due to the parser; `extract_letter` and `extract_number`
are the ones to use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from utilities.core import Item, Outcome, Response, Score, scorer_registry
from utilities.scorers.generation import GenerationScorer
from utilities.scorers.multiple_choice_generated import MultipleChoiceGenerated

__all__ = ["LegacyLetter", "LegacyNumber", "legacy_letter", "legacy_number"]


def legacy_letter(text: str, choices: Mapping[str, str]) -> str | None:
    """The first letter, in the order of `choices`, that occurs anywhere in the reply's first 5 characters.

    Where there is none, the same of the last 5 characters; then the first option whose text occurs anywhere, in any
    case and inside words too. So "Answer: C" is A, "B: Asia ..." is A, and so is "Ireland" where A is "land".

    Returns:
        A key of `choices`, or None where the reference returns "Z", its mark for a wrong answer. A "Z" that it finds as
        the letter of a 26th option remains a "Z".
    """
    for end in (text[:5], text[-5:]):
        for letter in choices:
            if letter in end:
                return letter
    lowered = text.lower()
    return next((letter for letter, option in choices.items() if option.lower() in lowered), None)


def legacy_number(text: str, gold: str, *, last_words: int | None = None) -> bool:
    """Whether the gold answer's characters occur anywhere in the reply.

    So 150 is right where 15 is asked for, 36000 is wrong where the file says 36,000, and a number on the way to the
    answer is as good as the answer.

    Args:
        text: The reply.
        gold: The gold answer as the file has it.
        last_words: Looks only at the reply's last words, parted by single spaces; the reference takes 5 of GSM8K's
            replies on dev and 10 on test. None looks at all of it, as the reference does for NLGraph.
    """
    text = text.strip()
    return gold in (text if last_words is None else " ".join(text.split(" ")[-last_words:]))


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

    accuracy_like = True

    def __init__(
        self, last_words: int | None = None, prompt: str = "bare", max_tokens: int = 10, stop: Sequence[str] = ()
    ) -> None:
        super().__init__(prompt, max_tokens, stop)
        self.last_words = last_words

    def score_one(self, item: Item, response: Response) -> Outcome:
        """1 where the reference would count the reply as right."""
        return Score(float(legacy_number(response.text, item.answer or "", last_words=self.last_words)))
