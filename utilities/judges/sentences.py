"""Sentences of a text: what is checked where no model takes the text apart, and where long passages are cut."""

# ruff: noqa: RUF001 - the punctuation of other scripts is meant, where it looks like that of ASCII

from __future__ import annotations

import re

from utilities.prompts import WORD

__all__ = ["is_finished", "is_question", "sentences"]

_ABBREVIATIONS = frozenset(
    {"al", "approx", "ca", "capt", "cf", "col", "dr", "gen", "gov", "lt", "messrs", "mr", "mrs", "ms", "mt", "prof"}
    | {"rev", "sen", "sgt", "sr", "st", "vs"}
)
"""Words whose full stop ends no sentence, titles mostly; those with a stop inside (e.g., U.S.) are known by it."""
_BEFORE_NUMBERS = frozenset(
    {"art", "ch", "eq", "fig", "figs", "max", "min", "no", "nos", "nr", "p", "para", "pp", "sec", "vol"}
)
"""Words whose full stop ends no sentence where a number follows: "no. 5", and not "The answer is no."."""
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}")
_OPENING = "\"'“‘«([*_"
_CLOSING = "\"'”’»)\\]」』）》*_"
_QUESTION = re.compile(rf"[?？؟][{_CLOSING}]*\s*\Z")
_FINISHED = re.compile(rf"[.!?…。！？｡؟۔।॥።][{_CLOSING}]*\s*\Z")
_END = re.compile(
    rf"[.!?…]+[{_CLOSING}]*(?=\s)"  # followed by white space: the stops of 3.5 and a.com end nothing
    rf"|[。！？｡]+[{_CLOSING}]*"  # Chinese and Japanese set none
    rf"|[؟۔।॥።]+[{_CLOSING}]*"  # Arabic, Urdu, Hindi, Amharic
)
_MARKER = re.compile(r"^(?:[-*+•‣–>#]+|\(?\d{1,3}[.)]|\(?[a-z]\))\s+", re.IGNORECASE)
"""What a line of a list or a heading begins with."""


def sentences(text: str, longest: int | None = None) -> list[str]:
    """The sentences of `text` in their order, each on one line, without the marks of lists and headings.

    A line's end ends a sentence too, as headings and the entries of lists often have no full stop; so a text wrapped at
    a fixed width is best unwrapped before. Full stops of abbreviations, initials and numbers end none.

    Args:
        text: In any script.
        longest: Sentences of more words come in parts of so many.
    """
    found = []
    for line in text.splitlines():
        rest = " ".join(line.split())
        while rest != (bare := _MARKER.sub("", rest)):
            rest = bare
        start = 0
        for end in _END.finditer(rest):
            if not _is_inside(rest[start : end.start()], end.group(), rest[end.end() :]):
                found.append(rest[start : end.end()].strip())
                start = end.end()
        found.append(rest[start:].strip())
    parts = found if longest is None else [part for sentence in found for part in _parts(sentence, longest)]
    return [part for part in parts if any(character.isalnum() for character in part)]


def is_question(sentence: str) -> bool:
    """Whether a sentence asks."""
    return _QUESTION.search(sentence) is not None


def is_finished(text: str) -> bool:
    """Whether a text ends where a sentence does."""
    return _FINISHED.search(text) is not None


def _parts(sentence: str, words: int) -> list[str]:
    """The sentence itself, or runs of `words` words of it."""
    starts = [word.start() for word in WORD.finditer(sentence)][words::words]
    return [sentence[start:end].strip() for start, end in zip([0, *starts], [*starts, len(sentence)], strict=True)]


def _is_inside(before: str, stop: str, after: str) -> bool:
    """Whether a sentence goes on behind a full stop."""
    following = after.lstrip()[:1]
    if stop != ".":
        return following.islower()  # "Why?" he asked; well... perhaps
    word = before.rsplit(maxsplit=1)[-1].strip(_OPENING) if before.strip() else ""
    if word.casefold() in _BEFORE_NUMBERS and following.isdigit():
        return True
    initial = len(word) == 1 and word.isalpha() and word.isascii() and word != "I"  # World War I. It
    # Such a word may well stand last ("in the U.S. Germany ..."), and nobody can tell; two claims taken for one are the
    # smaller harm, as half a sentence is no claim at all.
    return initial or word.casefold() in _ABBREVIATIONS or _DOTTED.fullmatch(word) is not None
