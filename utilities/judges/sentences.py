"""Sentence splitting, for claims without a model and for cutting long passages."""

# ruff: noqa: RUF001 - punctuation of other scripts that resembles ASCII is intended

from __future__ import annotations

import re

from utilities.prompts import WORD

__all__ = ["is_finished", "is_question", "sentences"]

_ABBREVIATIONS = frozenset(
    {"al", "approx", "ca", "capt", "cf", "col", "dr", "gen", "gov", "lt", "messrs", "mr", "mrs", "ms", "mt", "prof"}
    | {"rev", "sen", "sgt", "sr", "st", "vs"}
)
"""Abbreviations whose full stop ends no sentence; those with an inner stop (e.g., U.S.) match `_DOTTED`."""
_BEFORE_NUMBERS = frozenset(
    {"art", "ch", "eq", "fig", "figs", "max", "min", "no", "nos", "nr", "p", "para", "pp", "sec", "vol"}
)
"""Abbreviations whose full stop ends no sentence before a number: "no. 5", but not "The answer is no."."""
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}")
_OPENING = "\"'“‘«([*_"
_CLOSING = "\"'”’»)\\]」』）》*_"
_QUESTION = re.compile(rf"[?？؟][{_CLOSING}]*\s*\Z")
_FINISHED = re.compile(rf"[.!?…。！？｡؟۔।॥።][{_CLOSING}]*\s*\Z")
_END = re.compile(
    rf"[.!?…]+[{_CLOSING}]*(?=\s)"  # followed by white space, so not in 3.5 and a.com
    rf"|[。！？｡]+[{_CLOSING}]*"  # Chinese and Japanese use no spaces
    rf"|[؟۔।॥።]+[{_CLOSING}]*"  # Arabic, Urdu, Hindi, Amharic
)
_MARKER = re.compile(r"^(?:[-*+•‣–>#]+|\(?\d{1,3}[.)]|\(?[a-z]\))\s+", re.IGNORECASE)
"""Prefix of a list item or a heading."""


def sentences(text: str, longest: int | None = None) -> list[str]:
    """The sentences of `text` in order, each on one line, without list and heading markers.

    A line break ends a sentence too, because headings and list items often have no full stop; unwrap text of a fixed
    width first. Full stops of abbreviations, initials and numbers end no sentence.

    Args:
        text: Text in any script.
        longest: Maximum words; longer sentences are split into parts of this length.
    """
    result = []
    for line in text.splitlines():
        rest = " ".join(line.split())
        while rest != (bare := _MARKER.sub("", rest)):
            rest = bare
        start = 0
        for end in _END.finditer(rest):
            if not _is_inside(rest[start : end.start()], end.group(), rest[end.end() :]):
                result.append(rest[start : end.end()].strip())
                start = end.end()
        result.append(rest[start:].strip())
    parts = result if longest is None else [part for sentence in result for part in _parts(sentence, longest)]
    return [part for part in parts if any(character.isalnum() for character in part)]


def is_question(sentence: str) -> bool:
    """Whether a sentence is a question."""
    return _QUESTION.search(sentence) is not None


def is_finished(text: str) -> bool:
    """Whether a text ends with the end of a sentence."""
    return _FINISHED.search(text) is not None


def _parts(sentence: str, words: int) -> list[str]:
    """The sentence, split into parts of at most `words` words."""
    starts = [word.start() for word in WORD.finditer(sentence)][words::words]
    return [sentence[start:end].strip() for start, end in zip([0, *starts], [*starts, len(sentence)], strict=True)]


def _is_inside(before: str, stop: str, after: str) -> bool:
    """Whether a sentence continues after a full stop."""
    following = after.lstrip()[:1]
    if stop != ".":
        return following.islower()  # "Why?" he asked; well... perhaps
    word = before.rsplit(maxsplit=1)[-1].strip(_OPENING) if before.strip() else ""
    if word.casefold() in _BEFORE_NUMBERS and following.isdigit():
        return True
    initial = len(word) == 1 and word.isalpha() and word.isascii() and word != "I"  # World War I. It
    # Such a word may also end a sentence ("in the U.S. Germany ..."), which is ambiguous. Merging two claims is the
    # smaller error, because half a sentence is no claim.
    return initial or word.casefold() in _ABBREVIATIONS or _DOTTED.fullmatch(word) is not None
