"""The conclusion of a run as one plain sentence: better, not certainly better or worse; by how much; how sure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from harness.run_folder.result import Difference, Result
from utilities.core import Evaluation
from utilities.statistics import Combine, paired_difference

__all__ = ["Standing", "compared", "evaluation_conclusion", "search_conclusion", "standing"]

Standing = Literal["better", "not certainly better", "not certainly worse", "worse", "equal", "not known"]


def standing(difference: Difference) -> Standing:
    """What an interval says about the sign of a difference; "not certainly" if it contains 0."""
    value, low, high = difference.value, difference.low, difference.high
    if value is None or low is None or high is None:
        return "not known"
    if value == low == high == 0:
        return "equal"
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "not certainly better" if value >= 0 else "not certainly worse"


def compared(subject: str, reference: str, difference: Difference, where: str = "on test") -> str:
    """A sentence that compares two models, with the difference and its interval."""
    known = standing(difference)
    if known == "not known":
        return f"It is not known whether {subject} is better than {reference}: {difference.problem or 'no interval'}."
    if known == "equal":
        return f"{_start(subject)} and {reference} have the same score on every item {where}."
    interval = f"{difference.value:+.4f} {where}, 95 % interval {difference.low:+.4f} to {difference.high:+.4f}"
    if known in ("better", "worse"):
        return f"{_start(subject)} is {known} than {reference}: {interval}."
    return f"{_start(subject)} is {known} than {reference}: {interval}, which includes 0."


def search_conclusion(result: Result) -> str:
    """The conclusion of a search: its winner against the best initial expert on test."""
    winner = result.winner
    if winner.finalist == "best_initial":
        return (
            f"The search found nothing better than the best initial expert, {result.best_initial}: no mixture was"
            " better on the validation items."
        )
    difference = result.difference.get("winner_minus_best_initial")
    reference = f"the best initial expert, {result.best_initial}"
    if difference is None:
        return f"It is not known whether the winner is better than {reference}: the result has no paired difference."
    noise = result.noise.value if result.noise else None
    text = compared("the winner", reference, difference)
    if standing(difference) == "better" and noise is not None and abs(difference.value or 0.0) <= noise:
        return f"{text[:-1]}; but repeating an evaluation changes a value by {noise:.4f}, so this proves nothing."
    return text


def evaluation_conclusion(evaluations: Mapping[str, Evaluation], base: str, split: str, combine: Combine) -> str:
    """The conclusion of `evaluate`: the best expert against the base model on the same items.

    Args:
        evaluations: By the model's name.
        base: Name of the base model among them.
        split: The split, for the sentence.
        combine: Combination of the task.
    """
    values = {name: e.value for name, e in evaluations.items() if name != base and e.value is not None}
    if not values:
        return "No expert has a comparable value, so nothing can be concluded."
    best = max(values, key=values.__getitem__)
    among = f" of {len(values)} experts" if len(values) > 1 else " expert"
    subject = f"{best} ({values[best]:.4f}, the best{among})"
    if evaluations[base].problem:
        return f"{subject} cannot be compared with the base model: {evaluations[base].problem}."
    found = paired_difference(evaluations[best], evaluations[base], combine)
    difference = (
        Difference(value=None, low=None, high=None, problem="too few items were scored by both")
        if found is None
        else Difference(value=found.value, low=found.low, high=found.high)
    )
    text = compared(subject, "the base model", difference, f"on {split}")
    if len(values) == 1 or difference.value is None:
        return text
    return f"{text[:-1]}; it was chosen on the same items, so its lead is biased upwards."


def _start(text: str) -> str:
    """The text with a capital letter, if it begins with an article (names are left as they are)."""
    return text[0].upper() + text[1:] if text.startswith("the ") else text
