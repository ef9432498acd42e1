"""Plurality votes over the experts' answers.

In `prediction_merge` all experts vote and no data is used; in `top_k_vote` the three that are best on dev, a comparison
that the reviewers of the paper asked for. Inference costs one model for each voting expert.
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
"""Experts of `top_k_vote`: the smallest number with a majority."""
SHORT = 5
"""Maximum number of words of a gold answer for which two answers can be expected to be equal."""
YES_NO = ("yes", "no")


def why_no_vote(items: Sequence[Item]) -> str | None:
    """The reason why answers to these items cannot be counted; None if they can.

    Votes need options, or gold answers that are a number, yes or no, or a few words: no two experts write the same
    free text.
    """
    for item in items:
        if not item.choices and not (item.answer or "").strip():
            return f"item {item.id!r} has neither options nor a right answer, so answers cannot be compared"
        if not item.choices and len(normalize_answer(item.answer or "").split()) > SHORT:
            return f"the answer to item {item.id!r} is longer than {SHORT} words, so answers are hardly ever the same"
    return None


def ballot(item: Item, response: Response) -> str | Fraction | None:
    """The vote of a response: a letter, a number, yes or no, or its first line; None if none can be read.

    The kind of the item's gold answer (not its value) determines which is read, as in scorers.
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
    """The first response with the most frequent vote.

    Args:
        item: Of the responses.
        responses: One an expert, in the order that breaks ties (value on dev, then position); None if an expert did not
            answer.

    Returns:
        A response of an expert, so that it is scored like any other; the first response if no vote can be read; None if
        no expert answered.
    """
    answered = [response for response in responses if response is not None]
    ballots = [ballot(item, response) for response in answered]
    counts = Counter(one for one in ballots if one is not None)
    if not counts:
        return next(iter(answered), None)
    most = max(counts.values())
    winner = next(k for k, one in enumerate(ballots) if one is not None and counts[one] == most)
    return answered[winner]
