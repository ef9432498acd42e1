"""Verdicts: which of a few words (yes, no, neutral; true, false) a generated answer states."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from utilities.core import Item, Outcome, Response, Score, scorer_registry
from utilities.errors import UserError
from utilities.reply_text import SPACELESS, own_answer, plain_text, word_pattern
from utilities.scorers.extract_letter import ANSWER_IS, conditional
from utilities.scorers.generation import GenerationScorer

__all__ = ["YesNo", "extract_yes_no"]

# Words that may follow a verdict without a comma: "No it is not", "Yes because ...", "Yes and no".
_FOLLOWS = r"(?:it|this|that|these|those|the|there|they|he|she|we|you|i|because|since|as|but|and|or|nor)\b"

# Denials are searched only if one of these occurs at all: most replies have none, and this is known fast.
_DENYING = ("not", "n't", "never", "neither", "nor ", "wrong", "incorrect")


class _Patterns(NamedTuple):
    answers: dict[str, str]
    """Word in lower case to the word as the caller writes it."""
    word: re.Pattern[str]
    stated: re.Pattern[str]
    leading: re.Pattern[str]
    joined: re.Pattern[str]
    denied: re.Pattern[str]


@lru_cache(maxsize=64)
def _compile(answers: tuple[str, ...]) -> _Patterns | None:
    lowered = {plain_text(answer).lower(): answer for answer in reversed(answers)}  # of equal ones, the first
    lowered.pop("", None)
    if not lowered:
        return None
    # Not within a word or a compound ("not", "yes-man", "yes/no"), and not the "no" of "no evidence".
    either = "|".join(word_pattern(word) for word in sorted(lowered, key=len, reverse=True))
    word = rf"({either})(?!(?<=\bno) (?!{_FOLLOWS})[a-z\u00c0-\u024f])"
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
        rf"[\s(\['\"<>#:.,-]{{0,8}}{word}(?=$|[^\w\s]|\n| [^\w]| {_FOLLOWS}|[{SPACELESS}])",
        rf"['\")]?[\s.,;:!?&/-]*(?:(?:and|or|but|nor)[\s,]+)?(?:also )?['\"(]?{word}",
        denied,
    )
    return _Patterns(lowered, *map(re.compile, patterns))


def extract_yes_no(text: str, answers: Sequence[str] = ("yes", "no", "neutral")) -> str | None:
    r"""The word that a reply states as its verdict, or None if it states none or contradicts itself.

    Words count in any case, and only as whole words: "not sure" is no "no", and neither is the "no" of "no evidence".
    What is denied counts as not said ("not yes", "yes is wrong"). The first of these rules that finds anything decides;
    if it finds two different words, the outcome is None:

    1. A word alone on the first line; further lines explain it, or answer another question.
    2. Statements: "the answer is yes", "Answer: no", `\boxed{no}`, "I would say no", but for those under a condition.
    3. The word that the reply begins with: "No, because ...", "Yes it is". "Yes and no" contradicts itself.
    4. Statements under a condition ("the answer would be yes only on Sundays").
    5. The only one of the words anywhere: "I think that is true."

    Thoughts and further questions that the model asks itself are not read, see `own_answer`.

    Args:
        text: The reply, with or without markdown, LaTeX or full-width letters.
        answers: The words to look for, such as `("true", "false")`.

    Returns:
        One of `answers`, as the caller writes it, or None.
    """
    if (patterns := _compile(tuple(answers))) is None:
        return None
    said = plain_text(own_answer(text)).lower()
    first, separator, _ = said.partition("\n")
    if separator and (alone := patterns.answers.get(first.strip(" .!,:;()[]'\""))) is not None:
        return alone
    if any(map(said.__contains__, _DENYING)):
        said = patterns.denied.sub(" ", said)
    stated = list(patterns.stated.finditer(said))
    sure = [match for match in stated if not conditional(said, *match.span())]
    leading = [match] if (match := patterns.leading.match(said)) else []
    matches = sure or leading or stated
    named = {match[1] for match in matches or patterns.word.finditer(said)}
    named |= {joined[1] for match in matches if (joined := patterns.joined.match(said, match.end(1)))}
    return patterns.answers[named.pop()] if len(named) == 1 else None


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
    """The right verdict: the text of the right option, if the item has options."""
    return (item.choices or {}).get(item.answer or "", item.answer or "")
