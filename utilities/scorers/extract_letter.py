"""Which option a generated answer names: the extraction step of multiple choice by generation.

Known traps of simpler parsers, each a row in the tests: the "A" of "Answer", the article of "A patient", the "or" of
"A or B", the "C" of "vitamin C" where that is an option's own text, and options that contain one another.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from itertools import chain

__all__ = ["ANSWER_IS", "extract_letter", "plain_text"]

# Every option text found in a reply is replaced by one private character that stands for its letter, so that all rules
# see "Paris" and "C" alike, and never the letters inside an option's words ("vitamin C", "A and B only").
_TAG_A = 0xE000
_SHARED = chr(_TAG_A + 26)
"""Stands for a text that several options have; it is nobody's letter."""
_TAGS = f"{chr(_TAG_A)}-{_SHARED}"

_DROPPED = dict.fromkeys(map(ord, "*_`{}$\\")) | {0x2018: "'", 0x2019: "'", 0x2212: "-"}
_DROPPED |= dict.fromkeys(range(_TAG_A, _TAG_A + 27))
_LATEX_FONT = re.compile(r"\\(?:text|math)[a-z]*")

# A letter by itself. Before it no word (also "U.S.A", "N/A", "P(B)") and no degree sign ... The first condition only
# makes the pattern fail early within words.
_ALONE = r"(?![a-zA-Z][a-zA-Z])(?<![\w°])(?<!\w['/.&(-])(?<!° )"
# ... after it no word ("C-reactive", "I'm", "e.g") and no plus ("K+", "C++") ...
_ENDS = r"(?![\w°+#])(?!['/&-]\w)(?!\.\w\b)"
# ... and an "A" or "I" in front of a word is an article or a pronoun, unless it is a word that follows a letter.
_AFTER_LETTER = r"is|or|and|nor|but|because|since|[A-Z](?![\w'-])"
_NOT_ARTICLE = rf"(?!(?<=[Aa]) (?!(?:{_AFTER_LETTER}|was|can|would|should|must|seems)\b)[\w{_TAGS}])"
_NOT_PRONOUN = rf"(?!(?<=[Ii]) (?!(?:{_AFTER_LETTER})\b)[\w{_TAGS}])"
_CAPITAL = rf"[A-Z]{_ENDS}{_NOT_ARTICLE}{_NOT_PRONOUN}"
_LETTER = rf"[A-Za-z]{_ENDS}{_NOT_ARTICLE}{_NOT_PRONOUN}"
_NAME = rf"(?:[{_TAGS}]|{_LETTER})"

_IS = r"(?:is|was|would be|should be|must be|will be|has to be|seems to be|appears to be|could be|might be|may be)"
_FILLER = (
    r"(?i:(?:the|option|choice|letter|number|most|likely|probably|definitely|clearly|certainly|simply|therefore|"
    r"thus|indeed|actually|either|both)[\s:(\['\"]{1,3}){0,4}"
)
ANSWER_IS = (
    rf"(?=[aocspgvAOCSPGV])\b(?i:answers?(?: (?:to|for|of) (?:this|that|the|your) \w+)?(?: {_IS})?"
    rf"|(?:option|choice|solution)(?: {_IS}|(?=:))|choose|pick|select|go with|going with|opt for|vote for|say)"
    rf"[\s:=>(\['\"-]{{1,5}}{_FILLER}"
)
"""Pattern of what announces a verdict ("The correct answer is", "Answer:", "I would go with"); the verdict follows."""

# "The answer is X", "Answer: X". "It is" announces letters only: too much that follows it is also some option's text.
_STATED = re.compile(rf"{ANSWER_IS}({_NAME})|(?=[iI])\b(?i:it(?:'s| {_IS}))[\s:(\['\"]{{1,3}}{_FILLER}({_LETTER})")
# "X is correct", "option X would be the best answer"; of "A or B is correct" both.
_CONFIRMED = re.compile(
    rf"{_ALONE}(?:({_NAME})[)'\"]?(?:/|, |,? (?:and|or) )[(\['\"]?(?:option )?)?({_NAME})[):.'\"]{{0,2}}(?: [{_TAGS}])?"
    rf"(?i: (?:is|must be|would be|should be|seems)"
    rf"(?: (?:the|also|most|only|clearly|definitely|probably|likely)){{0,3}} (?:correct|right|best|answer))\b"
)
# "not A", "isn't A or B", "neither A nor B"; "A is wrong", "A, B and C are incorrect", "A is not the answer". But "B is
# not a symptom" is no denial: it answers "which is not a symptom?".
_DENIED = re.compile(
    rf"(?i:\b(?:not|nor|neither|never|cannot|rather than|instead of|other than|except)|n't)"
    rf"(?i: (?:be|think|believe|that|it|is|the|answer|option|choice|either)){{0,4}} [(\['\"]?{_NAME}"
    rf"(?:[)\]'\"]?,? (?:or|nor) [(\['\"]?{_NAME})*[)\]]?"
    rf"|{_ALONE}{_NAME}(?:[)'\"]?(?:,|,? (?:and|or)) [(\['\"]?{_NAME}){{0,25}}[):.'\"]{{0,2}}(?: [{_TAGS}])?"
    rf"(?i: (?:is|are|was|were|can be)(?: (?:both|all|also|clearly|simply))? (?:wrong|incorrect|ruled out)"
    rf"| ?(?:(?:is|are|was|were|can|could|would)(?: not|n't)|cannot)(?: be)?(?: the)? (?:correct|right|best|answer))\b"
)
# The long patterns are tried only where a word of theirs occurs at all: most replies have none, and this is known fast.
_DENYING = ("not", "nor", "n't", "either", "never", "than", "instead", "except", "wrong", "correct", "ruled")
_CONFIRMING = ("correct", "right", "best", "the answer")
# What names a second option right after the first: "A or B", "A/B", "A, B", "A B".
_JOINED = re.compile(
    rf"[)\]'\"]?(?:(?: ?[,/&] ?|,? (?:and|or|nor) )(?i:(?:option|choice) )?[(\['\"]?({_NAME})| \(?({_CAPITAL}))"
)
# "X." or "X because" at the beginning.
_LEADING = re.compile(
    rf"[\s(\['\"<>#:.,-]{{0,8}}({_NAME})"
    rf"(?=$|[)\].,:;!?'\"<|/&\n]| ?[=>\u2013\u2014-]| \(| [A-Z](?![\w'-])"
    rf"| (?:because|since|as|due)\b|(?<=[A-Z]) (?:or|and)\b)"
)
# A later line "B. ..." after a leading "A".
_LISTED = re.compile(r"\n[( -]{0,3}([A-Za-z])[).:]")
# Any capital, and "b)".
_LONE = re.compile(rf"{_ALONE}({_CAPITAL}|[a-z](?=\)))")
_TAGGED = re.compile(rf"[{_TAGS}]")

# An option of such words only ("is" in a cloze test) would make every statement unreadable.
_STATEMENT_WORDS = frozenset(("the", "it", "is", "was", "be", "would", "should", "must", "answer", "option", "choice"))

# Where an option's text may begin and end: not inside a word, not inside a number ("5" in "3.5", "-5", "1,500").
_OPENS = re.compile(r"(?<!\w)(?:(?=\D)|(?<!\d[.,])(?<!-))")
_CLOSES = re.compile(r"(?!\w)(?:(?<=\D)|(?![.,]\d))")
_CLOSES_NO = re.compile(r"(?![\w-])(?! (?!because|since|as|it|this|that)\w)")
"""The option "no" is not the "no" of "no evidence"."""


def extract_letter(text: str, choices: Mapping[str, str]) -> str | None:
    r"""The letter of the option that a reply names, or None where it names none or more than one.

    An option is named by its letter or by its own text (whole words, in any case; of texts that contain one another,
    the longest). What a reply denies ("not A", "neither A nor B", "B is wrong") counts as not said: "not A, but B" is
    B. The first of these rules that finds anything decides; if it finds several options, or a letter that is no
    option's, the outcome is None:

    1. Statements: "the answer is X", "Answer: X", `\boxed{X}`, "I would go with X", "it is X", "X is correct". All of
       them must agree, so a reply that goes on to answer a second question names none.
    2. The beginning, where something ends it: "X.", "(X)", "X: ...", "X because ...". If the next letter begins a later
       line, it is the list of options repeated, which names none.
    3. The only letter of the options that stands by itself anywhere: a capital, or a lower-case one with a bracket. "A"
       and "I" in front of a word are prose ("A patient with ...", "I think").
    4. The only option whose text occurs.

    Args:
        text: The reply, with or without markdown, LaTeX or full-width letters.
        choices: Letter (`A` to `Z`) to option text. Texts that are equal, or but for case, name none of
            their options.

    Returns:
        A key of `choices`, or None.
    """
    if (bare := text.strip(" \n.()*")) in choices:
        return bare  # the most frequent reply, and no rule says otherwise
    tags, searched = _prepare(tuple(choices.items()))
    said = plain_text(text)
    folded = _fold(said)
    said = tags.get(_trim(folded)) or _tag_options(said, folded, searched)
    if any(map(folded.__contains__, _DENYING)):
        said = _DENIED.sub(" ", said)
    # Letters that are no option's do not count in the third rule: a "T cell" is not a fifth option.
    named = _statements(said) or _leading(said) or _lone_letters(said) & choices.keys() or _option_texts(said)
    return named.pop() if len(named) == 1 and named <= choices.keys() else None


def plain_text(text: str) -> str:
    r"""Text without markdown and LaTeX marks, runs of blanks and empty lines; `\boxed` becomes "answer:".

    Compatibility forms become plain ones (NFKC), such as full-width letters and colons.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    if "\\" in text:
        text = _LATEX_FONT.sub(" ", text.replace("\\boxed", " answer: "))
    lines = (" ".join(line.split()) for line in text.translate(_DROPPED).splitlines())
    return "\n".join(filter(None, lines))


def _fold(text: str) -> str:
    """Lower case, of the same length as `text`: this capital alone becomes two characters."""
    return text.replace("İ", "I").lower()


def _trim(folded: str) -> str:
    return folded.rstrip(".").strip()


@lru_cache(maxsize=4096)  # a run asks about the same few hundred items for every particle
def _prepare(choices: tuple[tuple[str, str], ...]) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """Folded option text to tag, and those of them to look for within a reply, longest first."""
    tags: dict[str, str] = {}
    for letter, option in choices:
        folded = _trim(_fold(plain_text(option)))
        # An option that is itself a letter ("C" as the text of A) would contradict every use of that letter.
        is_letter = re.fullmatch(r"[\W_]*[a-z]?[\W_]*", folded) is not None
        if not is_letter and len(letter) == 1 and "A" <= letter <= "Z":
            tags[folded] = _SHARED if folded in tags else chr(_TAG_A + ord(letter) - ord("A"))
    searched = [pair for pair in tags.items() if not _STATEMENT_WORDS.issuperset(re.findall(r"\w+", pair[0]))]
    return tags, tuple(sorted(searched, key=lambda pair: -len(pair[0])))


def _tag_options(text: str, folded: str, options: tuple[tuple[str, str], ...]) -> str:
    """The text with every option's text replaced by its tag; `folded` is the text in lower case."""
    for option, tag in options:
        if option in folded:
            text = _replace(text, folded, option, tag)
            folded = _fold(text)
    return text


def _replace(text: str, folded: str, option: str, tag: str) -> str:
    """The text with every whole occurrence of one option replaced, in time linear in the text."""
    closes = _CLOSES_NO if option == "no" else _CLOSES
    pieces, done, start = [], 0, folded.find(option)
    while start >= 0:
        end = start + len(option)
        if _OPENS.match(folded, start) and closes.match(folded, end):
            pieces += [text[done:start], tag]
            done, start = end, folded.find(option, end)
        else:
            start = folded.find(option, start + 1)
    return "".join(pieces) + text[done:]


def _letter(name: str) -> str:
    """The letter that a letter or a tag stands for; a shared tag becomes `[`."""
    return name.upper() if name < chr(_TAG_A) else chr(ord(name) - _TAG_A + ord("A"))


def _named_at(match: re.Match[str]) -> set[str]:
    """The letters of a match's groups, and one joined to them by "or", "and", a comma or a blank."""
    names = [name for name in match.groups() if name]
    if joined := _JOINED.match(match.string, match.end(match.lastindex or 0)):
        names.append(joined[joined.lastindex or 0])
    return {_letter(name) for name in names}


def _statements(said: str) -> set[str]:
    matches = _STATED.finditer(said)
    if any(map(said.lower().__contains__, _CONFIRMING)):
        matches = chain(matches, _CONFIRMED.finditer(said))
    return set().union(*map(_named_at, matches))


def _leading(said: str) -> set[str]:
    if not (match := _LEADING.match(said)):
        return set()
    named = _named_at(match)
    if listed := _LISTED.search(said, match.end()):
        following = listed[1].upper()
        if chr(ord(following) - 1) in named:
            named.add(following)
    return named


def _lone_letters(said: str) -> set[str]:
    return {_letter(name) for name in _LONE.findall(said)}


def _option_texts(said: str) -> set[str]:
    return {_letter(tag) for tag in _TAGGED.findall(said)}
