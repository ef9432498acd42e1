"""Plurality votes over the experts' answers: they are combined where they answer, not where their weights are.

`prediction_merge` lets all experts vote and sees no data; `top_k_vote` the three that are best on dev, which is the
vote that reviewers of the paper missed. Both need the answers of every expert that votes, so that they cost a model an
expert when they are used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from utilities.core import Item, Response
from utilities.scorers.extract_letter import extract_letter
from utilities.scorers.extract_number import extract_number, parse_number
from utilities.scorers.normalize import normalize_answer
from utilities.scorers.yes_no import extract_yes_no

__all__ = ["TOP_K", "ballot", "vote", "why_no_vote"]

TOP_K = 3
"""Experts of `top_k_vote`: the fewest that can outvote one another."""
SHORT = 5
"""Words of a gold answer up to which two answers can be expected to be the same."""
YES_NO = ("yes", "no")


def why_no_vote(items: Sequence[Item]) -> str | None:
    """Why answers to these items cannot be counted, in words; None where they can.

    They can where there are options, or where the right answer is a number, yes or no, or a few words: no two experts
    write the same free text.
    """
    for item in items:
        if not item.choices and not (item.answer or "").strip():
            return f"item {item.id!r} has neither options nor a right answer, so answers cannot be the same"
        if not item.choices and len(normalize_answer(item.answer or "").split()) > SHORT:
            return f"the answer to item {item.id!r} is longer than {SHORT} words, so answers are hardly ever the same"
    return None


def ballot(item: Item, response: Response) -> str | Fraction | None:
    """What a response votes for: a letter, a number, yes or no, or its first line; None where none can be read.

    Which of them is read is told by the kind of the item's gold answer, as scorers do, and not by its value.
    """
    if item.choices:
        return extract_letter(response.text, item.choices)
    gold = (item.answer or "").strip()
    if parse_number(gold) is not None:
        return extract_number(response.text)
    if gold.casefold() in YES_NO:
        return extract_yes_no(response.text, YES_NO)
    first = next(iter(response.text.strip().splitlines()), "")
    return normalize_answer(first) or None


def vote(item: Item, responses: Sequence[Response | None]) -> Response | None:
    """The response that wins: of those that cast the most frequent ballot, the first.

    Args:
        item: What was asked.
        responses: One an expert, those that break ties first (by value on dev, then by order); None where an expert did
            not answer.

    Returns:
        A response of an expert, so that it is scored like any other; where nothing can be read the first one's; None
        where nobody answered.
    """
    answered = [response for response in responses if response is not None]
    ballots = [ballot(item, response) for response in answered]
    counts = Counter(one for one in ballots if one is not None)
    if not counts:
        return next(iter(answered), None)
    most = max(counts.values())
    winner = next(k for k, one in enumerate(ballots) if one is not None and counts[one] == most)
    return answered[winner]
