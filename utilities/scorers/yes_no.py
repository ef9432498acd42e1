"""Verdicts: which of a few words (yes, no, neutral; true, false) a generated answer states."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from utilities.core import Item, Outcome, Response, Score, scorer_registry
from utilities.errors import UserError
from utilities.scorers.extract_letter import ANSWER_IS, plain_text
from utilities.scorers.generation import GenerationScorer

__all__ = ["YesNo", "extract_yes_no"]

# Words that may follow a verdict without a comma: "No it is not", "Yes because ...", "Yes and no".
_FOLLOWS = r"(?:it|this|that|these|those|the|there|they|he|she|we|you|i|because|since|as|but|and|or|nor)\b"

# What is denied is looked for only where one of these occurs at all: most replies have none, and this is known fast.
_DENYING = ("not", "n't", "never", "neither", "nor ", "wrong", "incorrect")


class _Patterns(NamedTuple):
    given: dict[str, str]
    """Word in lower case to the word as it was given."""
    word: re.Pattern[str]
    stated: re.Pattern[str]
    leading: re.Pattern[str]
    joined: re.Pattern[str]
    denied: re.Pattern[str]


@lru_cache(maxsize=64)
def _compile(answers: tuple[str, ...]) -> _Patterns | None:
    given = {plain_text(answer).lower(): answer for answer in reversed(answers)}  # of equal ones, the first
    given.pop("", None)
    if not given:
        return None
    either = "|".join(re.escape(word) for word in sorted(given, key=len, reverse=True))
    # Not within a word or a compound ("not", "yes-man", "yes/no"), and not the "no" of "no evidence".
    word = rf"(?<!\w)(?<!\w['/-])({either})(?!\w)(?!['/-]\w)(?!(?<=\bno) (?!{_FOLLOWS})\w)"
    denied = (
        rf"(?:\b(?!{word})(?:not|never|neither|nor|cannot)|n't)"
        rf"(?: (?:be|think|say|believe|that|it|is|the|answer|either|really|necessarily|simply|quite|an?)){{0,4}}"
        rf" ['\"(]?{word}(?:,? (?:or|nor) {word})*"
        rf"|{word}['\")]? (?:is|was|would be)(?: clearly| simply)?"
        rf" (?:wrong|incorrect|not (?:the )?(?:correct|right|answer))"
    )
    patterns = (
        word,
        rf"{ANSWER_IS}{word}",
        rf"[\s(\['\"<>#:.,-]{{0,8}}{word}(?=$|[^\w\s]|\n| [^\w]| {_FOLLOWS})",
        rf"['\")]?[\s.,;:!?&/-]*(?:(?:and|or|but|nor)[\s,]+)?(?:also )?['\"(]?{word}",
        denied,
    )
    return _Patterns(given, *map(re.compile, patterns))


def extract_yes_no(text: str, answers: Sequence[str] = ("yes", "no", "neutral")) -> str | None:
    r"""The word that a reply states as its verdict, or None where it states none or contradicts itself.

    Words count in any case, and only as whole words: "not sure" is no "no", and neither is the "no" of "no evidence".
    What is denied counts as not said ("not yes", "yes is wrong"). The first of these rules that finds anything decides;
    if it finds two different words, the outcome is None:

    1. Statements: "the answer is yes", "Answer: no", `\boxed{no}`, "I would say no".
    2. The word that the reply begins with: "No, because ...", "Yes it is". "Yes and no" contradicts itself.
    3. The only one of the words anywhere: "I think that is true."

    Args:
        text: The reply, with or without markdown, LaTeX or full-width letters.
        answers: The words to look for, such as `("true", "false")`.

    Returns:
        One of `answers`, as it is written there, or None.
    """
    if (patterns := _compile(tuple(answers))) is None:
        return None
    said = plain_text(text).lower()
    if any(map(said.__contains__, _DENYING)):
        said = patterns.denied.sub(" ", said)
    if not (matches := list(patterns.stated.finditer(said))):
        leading = patterns.leading.match(said)
        matches = [leading] if leading else []
    named = {match[1] for match in matches or patterns.word.finditer(said)}
    named |= {joined[1] for match in matches if (joined := patterns.joined.match(said, match.end(1)))}
    return patterns.given[named.pop()] if len(named) == 1 else None


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
