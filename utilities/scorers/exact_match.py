"""Exact match of a short answer: words, a number, yes or no, whichever the gold answer is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from utilities.core import Item, Outcome, Response, Score, scorer_registry
from utilities.registry import unknown_name
from utilities.reply_text import own_answer
from utilities.scorers.extract_number import extract_number, parse_number, same_number
from utilities.scorers.generation import GenerationScorer
from utilities.scorers.normalize import normalize_answer
from utilities.scorers.yes_no import extract_yes_no

__all__ = ["ExactMatch"]

Reads = Literal["auto", "text", "number", "yes_no"]
YES_NO = ("yes", "no")


@scorer_registry.register("exact_match")
class ExactMatch(GenerationScorer):
    """Accuracy of short answers.

    Args:
        reads: What is read from a response: its first line as `text` (case, punctuation and articles do not count),
            its final `number`, or its `yes_no`; `auto` reads what the item's gold answer is.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`.
        stop: As in `GenerationScorer`.

    Raises:
        UserError: There is no such prompt, or no such kind of answer.
    """

    accuracy_like = True

    def __init__(
        self, reads: Reads = "auto", prompt: str = "bare", max_tokens: int = 10, stop: Sequence[str] = ()
    ) -> None:
        super().__init__(prompt, max_tokens, stop)
        if reads not in get_args(Reads):
            raise unknown_name("reads", str(reads), get_args(Reads))
        self.reads = reads

    def check(self, item: Item) -> str | None:
        """An item without an answer, or with one of another kind than is read, cannot be scored here."""
        gold = (item.answer or "").strip()
        if self.reads == "number" and gold and parse_number(gold) is None:
            return f"its answer {gold!r} is no number"
        if self.reads == "yes_no" and gold and gold.casefold() not in YES_NO:
            return f"its answer {gold!r} is neither yes nor no"
        return super().check(item)

    def score_one(self, item: Item, response: Response) -> Outcome:
        """1 where the response says the gold answer, else 0."""
        gold = (item.answer or "").strip()
        if self.reads in {"auto", "yes_no"} and gold.casefold() in YES_NO:
            return Score(float(extract_yes_no(response.text, YES_NO) == gold.casefold()))
        number = parse_number(gold) if self.reads in {"auto", "number"} else None
        if number is not None:
            given = extract_number(response.text)
            return Score(float(given is not None and same_number(given, number)))
        first = next(iter(own_answer(response.text).splitlines()), "")
        return Score(float(normalize_answer(first) == normalize_answer(gold)))
