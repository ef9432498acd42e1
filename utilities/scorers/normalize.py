"""Normalisation of answers before comparison."""

from __future__ import annotations

import re
import string
import unicodedata

__all__ = ["normalize_answer"]

ARTICLES = frozenset({"a", "an", "the"})

_DASHES = str.maketrans("\u2212\u2013", "--")  # minus and en dash, which both occur in numbers
# Except marks between two digits, and a number's leading sign or point.
_MARKS = re.compile(
    rf"[{re.escape(string.punctuation)}](?<!(?<=\d).(?=\d))(?<!(?<![\w.])-(?=\.?\d))(?<!(?<![\w.])\.(?=\d))"
)
_DROPPED = frozenset({"Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Cf"})  # punctuation and invisible characters


def normalize_answer(text: str) -> str:
    """The answer in lower case, without punctuation and English articles, with single spaces between words.

    The steps are those of SQuAD's evaluation (Rajpurkar et al. 2016, section 6.1), with three differences:

    - Text is first normalised to Unicode NFKC and case-folded, and punctuation of every script is removed, so that
      full-width letters, composed accents, `ß` and `ss` or curly quotes make no difference. Combining marks are kept:
      without them Hindi or Thai words would change.
    - Marks in numbers are kept: in SQuAD 3.5 becomes 35, -7 becomes 7, and 10:30 becomes 1030.
    - A step with an empty result is skipped, so that "A" and "+" are answers and differ from an empty one.
    """
    text = unicodedata.normalize("NFKC", text).casefold().translate(_DASHES)
    bare = _MARKS.sub("", text)
    if not bare.isascii():
        bare = "".join(char for char in bare if unicodedata.category(char) not in _DROPPED)
        bare = unicodedata.normalize("NFKC", bare)  # case folding may decompose letters and accents
    words = bare.split() or text.split()
    return " ".join([word for word in words if word not in ARTICLES] or words)
