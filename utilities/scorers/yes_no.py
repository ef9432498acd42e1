"""Verdicts: extraction of one of a few words (yes, no, neutral; true, false) from a generated answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Unpack

from utilities.core import Item, Outcome, Response, Score, scorer_registry
from utilities.errors import UserError
from utilities.prompt_format import PromptOptions
from utilities.reply_text import SPACELESS, own_answer, plain_text, word_pattern
from utilities.scorers.extract_letter import ANSWER_IS, conditional
from utilities.scorers.generation import GenerationScorer

__all__ = ["YesNo", "extract_yes_no"]

# Words that may follow a verdict without a comma: "No it is not", "Yes because ...", "Yes and no".
_FOLLOWS = r"(?:it|this|that|these|those|the|there|they|he|she|we|you|i|because|since|as|but|and|or|nor)\b"

# Denials are only searched if one of these occurs: a fast test that most replies fail.
_DENYING = ("not", "n't", "never", "neither", "nor ", "wrong", "incorrect")


class _Patterns(NamedTuple):
    answers: dict[str, str]
    """Maps lower-case words to the caller's spelling."""
    word: re.Pattern[str]
    stated: re.Pattern[str]
    leading: re.Pattern[str]
    joined: re.Pattern[str]
    denied: re.Pattern[str]


@lru_cache(maxsize=64)
def _compile(answers: tuple[str, ...]) -> _Patterns | None:
    lowered = {plain_text(answer).lower(): answer for answer in reversed(answers)}  # the first of equal words
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

    Case is ignored, and only complete words count: neither "not sure" nor "no evidence" contains a "no". Denied words
    are removed ("not yes", "yes is wrong"). The first rule with a match decides; if it matches two different words, the
    result is None:

    1. A word alone on the first line; further lines explain it, or answer another question.
    2. Statements: "the answer is yes", "Answer: no", `\boxed{no}`, "I would say no", except conditional ones.
    3. The first word of the reply: "No, because ...", "Yes it is". "Yes and no" contradicts itself.
    4. Conditional statements ("the answer would be yes only on Sundays").
    5. The only one of the words anywhere: "I think that is true."

    Reasoning and further self-generated questions are ignored, see `own_answer`.

    Args:
        text: The reply, with or without markdown, LaTeX or full-width letters.
        answers: The possible verdicts, such as `("true", "false")`.

    Returns:
        One of `answers`, in the caller's spelling, or None.
    """
    if (patterns := _compile(tuple(answers))) is None:
        return None
    normalized = plain_text(own_answer(text)).lower()
    first, separator, _ = normalized.partition("\n")
    if separator and (alone := patterns.answers.get(first.strip(" .!,:;()[]'\""))) is not None:
        return alone
    if any(map(normalized.__contains__, _DENYING)):
        normalized = patterns.denied.sub(" ", normalized)
    stated = list(patterns.stated.finditer(normalized))
    unconditional = [match for match in stated if not conditional(normalized, *match.span())]
    leading = [match] if (match := patterns.leading.match(normalized)) else []
    matches = unconditional or leading or stated
    named = {match[1] for match in matches or patterns.word.finditer(normalized)}
    named |= {joined[1] for match in matches if (joined := patterns.joined.match(normalized, match.end(1)))}
    return patterns.answers[named.pop()] if len(named) == 1 else None


@scorer_registry.register("yes_no")
class YesNo(GenerationScorer):
    """Accuracy of the verdict that a response states.

    Args:
        answers: The possible verdicts.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`.
        stop: As in `GenerationScorer`.
        options: As in `GenerationScorer`.

    Raises:
        UserError: The prompt does not exist, or an answer is not a text.
    """

    accuracy_like = True

    def __init__(
        self,
        answers: Sequence[str] = ("yes", "no", "neutral"),
        prompt: str = "bare",
        max_tokens: int = 10,
        stop: Sequence[str] = (),
        **options: Unpack[PromptOptions],
    ) -> None:
        super().__init__(prompt, max_tokens, stop, **options)
        if isinstance(answers, str) or not all(isinstance(answer, str) for answer in answers):
            raise UserError(f"answers={answers!r}: expected a list of words; in YAML, yes and no need quotes")
        self.answers = tuple(answers)

    def check(self, item: Item) -> str | None:
        """Requires an item whose answer is one of the verdicts."""
        gold = _gold(item)
        verdicts = {answer.casefold() for answer in self.answers}
        return None if gold.casefold() in verdicts else f"its answer {gold!r} is none of {', '.join(self.answers)}"

    def gold_text(self, item: Item) -> str:
        """The gold verdict."""
        return _gold(item)

    def score_one(self, item: Item, response: Response) -> Outcome:
        """1 if the response states the gold verdict and no other, else 0."""
        stated = extract_yes_no(response.text, self.answers)
        return Score(float(stated is not None and stated.casefold() == _gold(item).casefold()))


def _gold(item: Item) -> str:
    """The gold verdict: the text of the gold option, if the item has options."""
    return (item.choices or {}).get(item.answer or "", item.answer or "")
