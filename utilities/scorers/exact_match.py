"""Exact match of a short answer: text, a number, or yes/no, depending on the gold answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack, get_args

from utilities.core import Item, Outcome, Response, Score, scorer_registry
from utilities.prompt_format import PromptOptions
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
        reads: What is extracted from a response: its first line as `text` (ignoring case, punctuation and articles),
            its final `number`, or its `yes_no`; `auto` depends on the item's gold answer.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`.
        stop: As in `GenerationScorer`.
        options: As in `GenerationScorer`.

    Raises:
        UserError: The prompt or the answer type does not exist.
    """

    accuracy_like = True

    def __init__(
        self,
        reads: Reads = "auto",
        prompt: str = "bare",
        max_tokens: int = 10,
        stop: Sequence[str] = (),
        **options: Unpack[PromptOptions],
    ) -> None:
        super().__init__(prompt, max_tokens, stop, **options)
        if reads not in get_args(Reads):
            raise unknown_name("reads", str(reads), get_args(Reads))
        self.reads = reads

    def check(self, item: Item) -> str | None:
        """Requires an item with an answer of the extracted type."""
        gold = (item.answer or "").strip()
        if self.reads == "number" and gold and parse_number(gold) is None:
            return f"its answer {gold!r} is no number"
        if self.reads == "yes_no" and gold and gold.casefold() not in YES_NO:
            return f"its answer {gold!r} is neither yes nor no"
        return super().check(item)

    def score_one(self, item: Item, response: Response) -> Outcome:
        """1 if the response states the gold answer, else 0."""
        gold = (item.answer or "").strip()
        if self.reads in {"auto", "yes_no"} and gold.casefold() in YES_NO:
            return Score(float(extract_yes_no(response.text, YES_NO) == gold.casefold()))
        number = parse_number(gold) if self.reads in {"auto", "number"} else None
        if number is not None:
            extracted = extract_number(response.text)
            return Score(float(extracted is not None and same_number(extracted, number)))
        first = next(iter(own_answer(response.text).splitlines()), "")
        return Score(float(normalize_answer(first) == normalize_answer(gold)))
