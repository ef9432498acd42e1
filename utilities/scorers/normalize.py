"""What may differ between two answers that are the same: writing, not content."""

from __future__ import annotations

import re
import string
import unicodedata

__all__ = ["normalize_answer"]

ARTICLES = frozenset({"a", "an", "the"})

_DASHES = str.maketrans("\u2212\u2013", "--")  # minus and en dash: both stand in numbers
# Not those between two digits, nor the sign or the point that a number begins with.
_MARKS = re.compile(
    rf"[{re.escape(string.punctuation)}](?<!(?<=\d).(?=\d))(?<!(?<![\w.])-(?=\.?\d))(?<!(?<![\w.])\.(?=\d))"
)
_DROPPED = frozenset({"Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Cf"})  # punctuation, and signs that nobody sees


def normalize_answer(text: str) -> str:
    """The answer in lower case, without punctuation and English articles, its words parted by single spaces.

    The steps are those of SQuAD's evaluation (Rajpurkar et al. 2016, section 6.1), with three differences:

    - Text is brought to Unicode's NFKC and case-folded first, and punctuation of every script goes, so that full-width
      letters, composed accents, `ß` and `ss` or curly quotes make no difference. Combining marks stay: without them
      Hindi or Thai would be other words.
    - The marks of numbers stay: for SQuAD 3.5 is 35, -7 is 7, and 10:30 is 1030.
    - A step that would leave nothing is left out, so that "A" and "+" stay answers and differ from none.
    """
    text = unicodedata.normalize("NFKC", text).casefold().translate(_DASHES)
    bare = _MARKS.sub("", text)
    if not bare.isascii():
        bare = "".join(char for char in bare if unicodedata.category(char) not in _DROPPED)
        bare = unicodedata.normalize("NFKC", bare)  # case folding can take letters and accents apart again
    words = bare.split() or text.split()
    return " ".join([word for word in words if word not in ARTICLES] or words)
