"""The letter parser of the paper's reference code, known to be wrong and kept for comparison only.

Numbers published with the reference were made with it, so a twin is needed to know how much of a difference is the
parser's. `utilities.scorers.extract_letter.extract_letter` is the one to use.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["legacy_letter"]


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
