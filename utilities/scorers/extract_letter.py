# ruff: noqa: RUF001, RUF003  (characters that look alike are meant)
"""Which option a generated answer names: the extraction step of multiple choice by generation.

Known traps of simpler parsers, each a row in the tests: the "A" of "Answer", the article of "A patient", the "or" of
"A or B", the "C" of "vitamin C" where that is an option's own text, and options that contain one another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from string import ascii_uppercase
from typing import NamedTuple

from utilities.reply_text import SPACELESS, WORD, own_answer, plain_text, word_pattern

__all__ = ["ANSWER_IS", "conditional", "extract_letter"]

# Every option text found in a reply is replaced by one private character that stands for its letter, so that all rules
# see "Paris" and "C" alike, and never the letters inside an option's words ("vitamin C", "A and B only"). Keys that are
# no Latin letters ("2", "ب") are replaced by private characters of their own, which then are the only letters.
_TAG_A = 0xE000
_SHARED = chr(_TAG_A + 26)
"""Stands for a text that several options have; it is no option's letter."""
_TAGS = f"{chr(_TAG_A)}-{_SHARED}"
_KEY_A = 0xE020
_KEYS = f"{chr(_KEY_A)}-{chr(_KEY_A + 25)}"

_IS = r"(?:is|was|would be|should be|must be|will be|has to be|seems to be|appears to be|could be|might be|may be)"
_FILLER = (
    r"(?i:(?:the|option|choice|letter|number|most|likely|probably|definitely|clearly|certainly|simply|therefore|"
    r"thus|indeed|actually|either|both)[\s:(\['\"]{1,3}){0,4}"
)
_ENGLISH_IS = (
    rf"(?=[aocspgvAOCSPGV])\b(?i:answers?(?: (?:to|for|of) (?:this|that|the|your) \w+)?(?: {_IS})?"
    rf"|(?:option|choice|solution)(?: {_IS}|(?=:))|choose|pick|select|go with|going with|opt for|vote for|say)"
    rf"[\s:=>(\['\"-]{{1,5}}{_FILLER}"
)
_OTHER_NOT = (
    r"不|非|排除|没|沒|ない|なく|아니|아닌|ไม่|ليس"
    r"|\b(?:not|nicht|kein\w*|pas|no|non|nem|nie|niet|não|не|ni|weder|değil)\b"
)
_OTHER_IS = (
    r"(?:答案|正解|正确选项|正確選項|正确的?是|正確的?是|[應应]该?當?选|[應应]該?選|故选|故選|选择|選擇|我选|我選|答え|回答|解答|정답|답은|답:|คำตอบ|คําตอบ"
    r"|الجواب|الإجابة|الاجابة|उत्तर|(?<!\w)(?i:ответ|відповідь|antwort|lösung|respuesta|réponse|risposta|resposta|antwoord|"
    r"cevap|yanıt|odpowied[zź]|odpově[dď]|svar|vastaus|válasz|răspuns\w*|đáp án|jawaban\w*)\b)"
    rf"(?:(?!{_OTHER_NOT})[^\n.。!?！？;；,，{_TAGS}{_KEYS}]){{0,16}}?(?<![A-Za-z])"
)
ANSWER_IS = rf"(?:{_ENGLISH_IS}|{_OTHER_IS})"
"""Pattern of what announces a verdict ("The correct answer is", "Answer:", "答案是"); the verdict follows."""

_IF = r"\b(?:if|unless|provided|were it|in case)\b|如果|要是|只有|除非"
_CONDITION = re.compile(rf"(?<!\bthe )\bonly\b|{_IF}", re.IGNORECASE)
_CONDITION_AFTER = re.compile(
    rf"[^.,;!?\n。！？，]{{0,80}}?(?:(?<!\bthe )\bonly\b|(?:[,，] ?)?(?:{_IF}))", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"[.!?\n。！？]")


def conditional(text: str, start: int, end: int) -> bool:
    """Whether a statement at a place of a text is made under a condition ("would be A only in winter")."""
    before = _SENTENCE_END.split(text[max(0, start - 80) : start])[-1]
    return bool(_CONDITION.search(before) or _CONDITION_AFTER.match(text, end))


class _Patterns(NamedTuple):
    stated: re.Pattern[str]
    confirmed: re.Pattern[str]
    denied: re.Pattern[str]
    joined: re.Pattern[str]
    leading: re.Pattern[str]
    listed: re.Pattern[str]
    lone: re.Pattern[str]


def _compile(letter: str, capital: str, lone_small: str) -> _Patterns:
    """The patterns for options named by a character of the class `letter`; `capital` are those that stand in prose."""
    # A letter by itself. Before it no word (also "U.S.A", "N/A", "P(B)") and no degree sign ... The first condition
    # only makes the pattern fail early within words.
    alone = r"(?![a-zA-Z][a-zA-Z])(?<![\w°])(?<!\w['/.&(-])(?<!° )"
    # ... after it no word ("C-reactive", "I'm", "e.g") and no plus ("K+", "C++") ...
    ends = r"(?![\w°+#])(?!['/&-]\w)(?!\.\w\b)"
    # ... and an "A" or "I" in front of a word is an article or a pronoun, unless it is a word that follows a letter.
    after_letter = r"is|or|and|nor|but|because|since|[A-Z](?![\w'-])"
    prose = rf"[A-Za-z\u00c0-\u024f\d{_TAGS}]"
    not_article = rf"(?!(?<=[Aa]) (?!(?:{after_letter}|was|can|would|should|must|seems)\b){prose})"
    not_pronoun = rf"(?!(?<=[Ii]) (?!(?:{after_letter})\b){prose})"
    big = rf"{capital}{ends}{not_article}{not_pronoun}"
    small = rf"{letter}{ends}{not_article}{not_pronoun}"
    name = rf"(?:[{_TAGS}]|{small})"
    several = rf"{name}(?: ?[、,和或与與及] ?{name}){{0,25}}"
    return _Patterns(
        # "The answer is X", "Answer: X". "It is" announces letters only: what follows is too often an option's text.
        stated=re.compile(rf"{ANSWER_IS}({name})|(?=[iI])\b(?i:it(?:'s| {_IS}))[\s:(\['\"]{{1,3}}{_FILLER}({small})"),
        # "X is correct", "option X would be the best answer"; of "A or B is correct" both.
        confirmed=re.compile(
            rf"{alone}(?:({name})[)'\"]?(?:/|, |,? (?:and|or) )[(\['\"]?(?:option )?)?({name})[):.'\"]{{0,2}}"
            rf"(?: [{_TAGS}])?(?i: (?:is|must be|would be|should be|seems)"
            rf"(?: (?:the|also|most|only|clearly|definitely|probably|likely)){{0,3}} (?:correct|right|best|answer))\b"
        ),
        # "not A", "isn't A or B", "neither A nor B"; "A is wrong", "A, B and C are incorrect", "A is not the answer".
        # But "B is not a symptom" is no denial: it answers "which is not a symptom?".
        denied=re.compile(
            rf"(?i:\b(?:not|nor|neither|never|cannot|rather than|instead of|other than|except)|n't)"
            rf"(?i: (?:be|think|believe|that|it|is|the|answer|option|choice|either)){{0,4}} [(\['\"]?{name}"
            rf"(?:[)\]'\"]?,? (?:or|nor) [(\['\"]?{name})*[)\]]?"
            rf"|(?:不是|不选|不選|并非|並非|排除了?|而非|\b(?i:nicht|не|pas|niet)\b) ?{several}"
            rf"|{alone}{several} ?(?:选?项|選?項)?(?:都|均|也)?"
            r"(?:不对|不對|不正确|不正確|错|錯|ではな|は間違|は誤|은 틀|는 틀|가 아니|이 아니)"
            rf"|{alone}{name}(?:[)'\"]?(?:,|,? (?:and|or)) [(\['\"]?{name}){{0,25}}[):.'\"]{{0,2}}(?: [{_TAGS}])?"
            rf"(?i: (?:is|are|was|were|can be)(?: (?:both|all|also|clearly|simply))? (?:wrong|incorrect|ruled out)"
            rf"| ?(?:(?:is|are|was|were|can|could|would)(?: not|n't)|cannot)(?: be)?(?: the)?"
            rf" (?:correct|right|best|answer))\b"
        ),
        # What names a second option right after the first: "A or B", "A/B", "A, B", "A B".
        joined=re.compile(
            rf"[)\]'\"]?(?:(?: ?[,/&、和或] ?|,? (?:and|or|nor|oder|und|ou|et|o|y|или|и) )(?i:(?:option|choice) )?"
            rf"[(\['\"]?({name})| \(?({big}))"
        ),
        # "X." or "X because" at the beginning.
        leading=re.compile(
            rf"[\s(\['\"<>#:.,-]{{0,8}}({name})"
            rf"(?=$|[)\].,:;!?'\"<|/&\n、。]| ?[=>\u2013\u2014-]| \(| [A-Z](?![\w'-])| [{SPACELESS}]"
            rf"| (?:because|since|as|due)\b|(?<=[A-Z]) (?:or|and)\b)"
        ),
        # A later line "B. ..." after a leading "A".
        listed=re.compile(rf"\n[( -]{{0,3}}({letter})[).:]"),
        # Any capital, and "b)".
        lone=re.compile(rf"{alone}({big}{lone_small})"),
    )


_LATIN = _compile("[A-Za-z]", "[A-Z]", r"|[a-z](?=\))")
_SMALL = _compile("[A-Za-z]", "[A-Z]", r"|[b-hj-z](?![\w'-])|[a-z](?=\))")
_OTHER = _compile(f"[{_KEYS}]", f"[{_KEYS}]", "")

# The long patterns are tried only where a word of theirs occurs at all: most replies have none, and this is known fast.
_DENYING: tuple[str, ...] = (
    "not",
    "nor",
    "n't",
    "either",
    "never",
    "than",
    "instead",
    "except",
    "wrong",
    "correct",
    "ruled",
)
_DENYING += ("nicht", "не", "pas ", "niet", "不", "非", "排除", "错", "錯", "ではな", "間違", "誤", "틀", "아니")
_CONFIRMING = ("correct", "right", "best", "the answer")
_TAGGED = re.compile(rf"[{_TAGS}]")

# An option of such words only ("is" in a cloze test) would make every statement unreadable.
_STATEMENT_WORDS = frozenset(("the", "it", "is", "was", "be", "would", "should", "must", "answer", "option", "choice"))

# Where an option's text may begin and end: not inside a word, not inside a number ("5" in "3.5", "-5", "1,500").
_OPENS = r"(?:(?=\D)|(?<!\d[.,])(?<!-))"
_CLOSES = r"(?:(?<=\D)|(?![.,]\d))"
_CLOSES_NO = r"(?![\w-])(?! (?!because|since|as|it|this|that)\w)"
"""The option "no" is not the "no" of "no evidence"."""


def extract_letter(text: str, choices: Mapping[str, str]) -> str | None:
    r"""The letter of the option that a reply names, or None where it names none or more than one.

    An option is named by its letter or by its own text (whole words, in any case; of texts that contain one another,
    the longest). What a reply denies ("not A", "neither A nor B", "B is wrong") counts as not said: "not A, but B" is
    B. The first of these rules that finds anything decides; if it finds several options, or a letter that is no
    option's, the outcome is None:

    1. An option alone on the first line; further lines explain it, or answer another question.
    2. Statements: "the answer is X", "Answer: X", `\boxed{X}`, "I would go with X", "it is X", "X is correct". All of
       them must agree, but for those under a condition ("A would be correct only in winter").
    3. The beginning, where something ends it: "X.", "(X)", "X: ...", "X because ...". If the next letter begins a later
       line, it is the list of options repeated, which names none.
    4. Statements under a condition.
    5. The only letter of the options that stands by itself anywhere: a capital, or a lower-case one with a bracket. "A"
       and "I" in front of a word are prose ("A patient with ...", "I think").
    6. The only option whose text occurs.

    Thoughts and further questions that the model asks itself are not read, see `own_answer`.

    Args:
        text: The reply, with or without markdown, LaTeX or full-width letters.
        choices: Key to option text. Keys are letters of any script, numbers or short words; lower-case Latin letters
            are the same as capitals. Texts that are equal, or but for case, name none of their options.

    Returns:
        A key of `choices`, or None.
    """
    text = own_answer(text)
    if (bare := text.strip(" \n.()*")) in choices:
        return bare  # the most frequent reply, and no rule says otherwise
    options = _prepare(tuple(choices.items()))
    said = plain_text(text, options.characters)
    said = options.tags.get(_trim(_fold(said))) or _tag_options(said, options)
    patterns = options.patterns
    lowered = said.lower()
    if any(map(lowered.__contains__, _DENYING)):
        said = patterns.denied.sub(" ", said)
    sure, conditioned = _statements(said, lowered, patterns)
    # Letters that are no option's do not count in the fifth rule: a "T cell" is not a fifth option.
    named = (
        _first_line(said, patterns)
        or sure
        or _leading(said, patterns)
        or conditioned
        or {_letter(name) for name in patterns.lone.findall(said)} & options.keys.keys()
        or {_letter(tag) for tag in _TAGGED.findall(said)}
    )
    return options.keys.get(named.pop()) if len(named) == 1 else None


class _Options(NamedTuple):
    keys: dict[str, str]
    """The capital that stands for an option in the patterns, to the option's key."""
    tags: dict[str, str]
    """Folded option text to its tag."""
    searched: tuple[tuple[str, str, re.Pattern[str]], ...]
    """Texts to look for within a reply, longest first: the folded text, its tag, and its pattern."""
    patterns: _Patterns
    key_pattern: re.Pattern[str] | None
    """What finds keys that are no Latin letters; None if they are."""
    key_tags: dict[str, str]
    characters: frozenset[str]
    """All characters of the keys."""


def _fold(text: str) -> str:
    """Lower case, of the same length as `text`: this capital alone becomes two characters."""
    return text.replace("İ", "I").lower()


def _trim(folded: str) -> str:
    return folded.rstrip(".").strip()


@lru_cache(maxsize=4096)  # a run reads replies to the same few hundred items for every particle
def _prepare(choices: tuple[tuple[str, str], ...]) -> _Options:
    """What is searched in the replies to an item with these options."""
    keys = [key.strip(" ().:[]") or key for key, _ in choices]
    latin = all(len(key) == 1 and key.isascii() and key.isalpha() for key in keys) and len(
        {*map(str.upper, keys)}
    ) == len(keys)
    letters = [key.upper() for key in keys] if latin else list(ascii_uppercase[: len(keys)])
    plain = [_fold(plain_text(key, frozenset(key))) for key in keys]
    tags: dict[str, str] = {}
    for letter, (_, option) in zip(letters, choices, strict=False):
        folded = _trim(_fold(plain_text(option)))
        # An option that is itself a letter or a key ("C" as the text of A) would contradict every use of that letter.
        if re.fullmatch(r"[\W_]*[a-z]?[\W_]*", folded) is None and folded not in plain:
            tags[folded] = _SHARED if folded in tags else chr(_TAG_A + ord(letter) - ord("A"))
    texts = [pair for pair in tags.items() if not _STATEMENT_WORDS.issuperset(re.findall(r"\w+", pair[0]))]
    searched = tuple((text, tag, _text_pattern(text)) for text, tag in sorted(texts, key=lambda pair: -len(pair[0])))
    key_pattern = None
    if not latin:
        either = "|".join(map(re.escape, sorted(filter(None, plain), key=len, reverse=True)))
        spaceless = rf"(?<=[是为為選选：:案は이은])(?:{either})|" if re.match(rf"[{SPACELESS}]", plain[0]) else ""
        # Not within a number or a word, and not a word of its own in prose ("in 2 towns", the Russian "В").
        key_pattern = re.compile(
            rf"{spaceless}(?<![\w°])(?<!\d[.,:/-])(?<![-/$€£])(?:{either})(?!{WORD}|[%°]|[.,:/-]\d| ?[€$%])"
            r"(?! (?!(?:is|was|or|and|nor|but|because|since|as|due|или|и|потому)\b)[a-zα-ωа-я])",
            re.IGNORECASE,
        )
    key_tags = {key: chr(_KEY_A + k) for k, key in enumerate(plain)}
    names = dict(zip(letters, (key for key, _ in choices), strict=False))
    patterns = _OTHER if key_pattern else _SMALL if "".join(keys).islower() else _LATIN
    return _Options(names, tags, searched, patterns, key_pattern, key_tags, frozenset("".join(keys)))


def _text_pattern(option: str) -> re.Pattern[str]:
    """Every whole occurrence of an option's text."""
    if option == "no":
        return re.compile(rf"(?<!\w){option}{_CLOSES_NO}")
    if re.match(rf"[{SPACELESS}]", option):
        return re.compile(word_pattern(option))
    return re.compile(rf"(?<!\w){_OPENS}{re.escape(option)}(?!{WORD}){_CLOSES}")


def _tag_options(text: str, options: _Options) -> str:
    """The text with every option's text, and every key that is no Latin letter, replaced by its private character."""
    folded = _fold(text)
    for option, tag, pattern in options.searched:
        if option in folded:
            places = [found.span() for found in pattern.finditer(folded)]
            text, folded = _replaced(text, places, tag), _replaced(folded, places, tag)
    if options.key_pattern is not None:
        tags = options.key_tags
        text = " ".join(
            re.split(" +", options.key_pattern.sub(lambda found: f" {tags[_fold(found[0])]} ", text))
        ).strip()
    return text


def _replaced(text: str, places: list[tuple[int, int]], tag: str) -> str:
    pieces, done = [], 0
    for start, end in places:
        pieces += [text[done:start], tag]
        done = end
    return "".join(pieces) + text[done:]


def _letter(name: str) -> str:
    """The letter that a letter or a private character stands for; a shared tag becomes `[`."""
    if name < chr(_TAG_A):
        return name.upper()
    return chr(ord(name) - (_KEY_A if name >= chr(_KEY_A) else _TAG_A) + ord("A"))


def _named_at(match: re.Match[str], patterns: _Patterns) -> set[str]:
    """The letters of a match's groups, and one joined to them by "or", "and", a comma or a blank."""
    names = [name for name in match.groups() if name]
    if joined := patterns.joined.match(match.string, match.end(match.lastindex or 0)):
        names.append(joined[joined.lastindex or 0])
    return {_letter(name) for name in names}


def _statements(said: str, lowered: str, patterns: _Patterns) -> tuple[set[str], set[str]]:
    """What is stated, and what is stated under a condition."""
    matches = list(patterns.stated.finditer(said))
    if any(map(lowered.__contains__, _CONFIRMING)):
        matches += patterns.confirmed.finditer(said)
    sure: set[str] = set()
    conditioned: set[str] = set()
    for match in matches:
        (conditioned if conditional(said, *match.span()) else sure).update(_named_at(match, patterns))
    return sure, conditioned


def _leading(said: str, patterns: _Patterns) -> set[str]:
    if not (match := patterns.leading.match(said)):
        return set()
    named = _named_at(match, patterns)
    if listed := patterns.listed.search(said, match.end()):
        following = _letter(listed[1])
        if chr(ord(following) - 1) in named:
            named.add(following)
    return named


def _first_line(said: str, patterns: _Patterns) -> set[str]:
    """The option that the first of several lines consists of, by letter, text or both."""
    line, separator, _ = said.partition("\n")
    if not separator or len(line) > 8 or re.fullmatch(r"[\s(\['\"<>#.,:;)\]!-]*", line):
        return set()
    bare = re.sub(r"[\s(\['\"<>#.,:;)\]!-]", "", line)
    named = {_letter(name) for name in bare}
    is_name = all(
        name >= chr(_TAG_A) or (patterns is not _OTHER and name in ascii_uppercase and len(bare) <= 2) for name in bare
    )
    return named if is_name and len(named) == 1 and _leading(said, patterns) in (named, set()) else set()
