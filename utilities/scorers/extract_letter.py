# ruff: noqa: RUF001, RUF003  (similar-looking characters are intended)
"""Extraction of the chosen option from a generated answer, for multiple choice by generation.

Known failures of simpler parsers, each covered by a test: the "A" of "Answer", the article of "A patient", the "or" of
"A or B", the "C" of "vitamin C" if that is an option's text, and options that contain one another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from string import ascii_uppercase
from typing import NamedTuple

from utilities.reply_text import SPACELESS, WORD, own_answer, plain_text, word_pattern

__all__ = ["ANSWER_IS", "conditional", "extract_letter"]

# Every option text in a reply is replaced by a private-use character for its letter, so that all rules treat "Paris"
# and "C" alike, and never match letters inside an option's words ("vitamin C", "A and B only"). Keys that
# are not Latin letters ("2", "ب") are replaced by other private-use characters, which then are the only letters.
_TAG_A = 0xE000
_SHARED = chr(_TAG_A + 26)
"""Tag of a text shared by several options; it is no option's letter."""
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
"""Pattern of the words before a verdict ("The correct answer is", "Answer:", "答案是")."""

_IF = r"\b(?:if|unless|provided|were it|in case)\b|如果|要是|只有|除非"
_CONDITION = re.compile(rf"(?<!\bthe )\bonly\b|{_IF}", re.IGNORECASE)
_CONDITION_AFTER = re.compile(
    rf"[^.,;!?\n。！？，]{{0,80}}?(?:(?<!\bthe )\bonly\b|(?:[,，] ?)?(?:{_IF}))", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"[.!?\n。！？]")


def conditional(text: str, start: int, end: int) -> bool:
    """Whether the statement at `start` to `end` is conditional ("would be A only in winter")."""
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
    """The patterns for options named by a character of the class `letter`; `capital` is the class in prose."""
    # A separate letter. Before it no word (also "U.S.A", "N/A", "P(B)") and no degree sign ... The first condition
    # only makes the pattern fail early within words.
    alone = r"(?![a-zA-Z][a-zA-Z])(?<![\w°])(?<!\w['/.&(-])(?<!° )"
    # ... after it no word ("C-reactive", "I'm", "e.g") and no plus ("K+", "C++") ...
    ends = r"(?![\w°+#])(?!['/&-]\w)(?!\.\w\b)"
    # ... and an "A" or "I" before a word is an article or a pronoun, except before the words in `after_letter`.
    after_letter = (
        r"is|or|and|nor|but|because|since|[A-Z](?![\w'-])|(?:oder|und|ou|et|o|y|e|lub|veya|atau)(?= [A-Z](?![\w'-]))"
    )
    prose = rf"[A-Za-z\u00c0-\u024f\d{_TAGS}]"
    not_article = rf"(?!(?<=[Aa]) (?!(?:{after_letter}|was|can|would|should|must|seems)\b){prose})"
    not_pronoun = rf"(?!(?<=[Ii]) (?!(?:{after_letter})\b){prose})"
    big = rf"{capital}{ends}{not_article}{not_pronoun}"
    small = rf"{letter}{ends}{not_article}{not_pronoun}"
    name = rf"(?:[{_TAGS}]|{small})"
    several = rf"{name}(?: ?[、,和或与與及] ?{name}){{0,25}}"
    return _Patterns(
        # "The answer is X", "Answer: X". "It is" applies to letters only, because an option's text often follows it.
        stated=re.compile(rf"{ANSWER_IS}({name})|(?=[iI])\b(?i:it(?:'s| {_IS}))[\s:(\['\"]{{1,3}}{_FILLER}({small})"),
        # "X is correct", "option X would be the best answer"; of "A or B is correct" both.
        confirmed=re.compile(
            rf"{alone}(?:({name})[)'\"]?(?:/|, |,? (?:and|or) )[(\['\"]?(?:option )?)?({name})[):.'\"]{{0,2}}"
            rf"(?: [{_TAGS}])?(?i: (?:is|must be|would be|should be|seems)"
            rf"(?: (?:the|also|most|only|clearly|definitely|probably|likely)){{0,3}} (?:correct|right|best|answer))\b"
        ),
        # "not A", "isn't A or B", "neither A nor B"; "A is wrong", "A, B and C are incorrect", "A is not the answer".
        # "B is not a symptom" is not a denial: it answers "which is not a symptom?".
        denied=re.compile(
            rf"(?i:\b(?:not|nor|neither|never|cannot|rather than|instead of|other than|except)|n't)"
            rf"(?i: (?:be|think|believe|that|it|is|the|answer|option|choice|either)){{0,4}} [(\['\"]?{name}"
            rf"(?:[)\]'\"]?,? (?:or|nor) [(\['\"]?{name})*[)\]]?"
            rf"|(?:不是|不选|不選|并非|並非|排除了?|而非|ไม่ใช่(?:ข้อ)?|ليست?|ليس|(?<!\w)לא|\b(?i:nicht|не|pas|niet)\b"
            rf"|\b(?i:não|no|non|nie) (?i:é|es|è|jest)\b(?i: (?:a|o|la|el|il|opção|opción|opzione)\b){{0,2}})"
            rf" ?{several}"
            rf"|{alone}{several} ?(?:选?项|選?項)?(?:都|均|也)?"
            r"(?:不对|不對|不正确|不正確|错|錯|ではな|は間違|は誤|은 틀|는 틀|[가이은는] 아니|नहीं|गलत|değil)"
            rf"|{alone}{name}(?:[)'\"]?(?:,|,? (?:and|or)) [(\['\"]?{name}){{0,25}}[):.'\"]{{0,2}}(?: [{_TAGS}])?"
            rf"(?i: (?:is|are|was|were|can be)(?: (?:both|all|also|clearly|simply))? (?:wrong|incorrect|ruled out)"
            rf"| ?(?:(?:is|are|was|were|can|could|would)(?: not|n't)|cannot)(?: be)?(?: the)?"
            rf" (?:correct|right|best|answer))\b"
        ),
        # A second option directly after the first: "A or B", "A/B", "A, B", "A B".
        joined=re.compile(
            rf"[)\]'\"]?(?:(?: ?[,/&、和或] ?|,? (?:and|or|nor|oder|und|ou|et|o|y|e|lub|veya|atau"
            r"|или|и|או|أو|หรือ|또는|या) )(?i:(?:option|choice) )?"
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

# The long patterns are only tried if one of their words occurs: a fast test that most replies fail.
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
_DENYING += ("ไม่ใช่", "ليس", "לא", "não", "no es", "non è", "nie ", "नहीं", "गलत", "değil")
_DENYING += ("nicht", "не", "pas ", "niet", "不", "非", "排除", "错", "錯", "ではな", "間違", "誤", "틀", "아니")
_CONFIRMING = ("correct", "right", "best", "the answer")
_TAGGED = re.compile(rf"[{_TAGS}]")

# An option of such words only ("is" in a cloze test) would match in every statement.
_STATEMENT_WORDS = frozenset(("the", "it", "is", "was", "be", "would", "should", "must", "answer", "option", "choice"))

# Boundaries of an option's text: not inside a word, not inside a number ("5" in "3.5", "-5", "1,500").
_OPENS = r"(?:(?=\D)|(?<!\d[.,])(?<!-))"
_CLOSES = r"(?:(?<=\D)|(?![.,]\d))"
_CLOSES_NO = r"(?![\w-])(?! (?!because|since|as|it|this|that)\w)"
"""The option "no" is not the "no" of "no evidence"."""


def extract_letter(text: str, choices: Mapping[str, str]) -> str | None:
    r"""The key of the option that a reply names, or None if it names none or several.

    An option is named by its letter or by its text (whole words, ignoring case; of nested texts the longest). Denied
    options ("not A", "neither A nor B", "B is wrong") are removed: "not A, but B" gives B. The first rule with a match
    decides; if it matches several options, or a letter of no option, the result is None:

    1. An option alone on the first line; further lines explain it, or answer another question.
    2. Statements: "the answer is X", "Answer: X", `\boxed{X}`, "I would go with X", "it is X", "X is correct". All of
       them must agree, except conditional ones ("A would be correct only in winter").
    3. The beginning, with a delimiter: "X.", "(X)", "X: ...", "X because ...". If the next letter begins a later
       line, it is the list of options repeated, which names none.
    4. Conditional statements.
    5. The only separate option letter anywhere: a capital, or a lower-case one with a bracket. "A" and "I" before a
       word are prose ("A patient with ...", "I think").
    6. The only option whose text occurs.

    Reasoning and further self-generated questions are ignored, see `own_answer`.

    Args:
        text: The reply, with or without markdown, LaTeX or full-width letters.
        choices: Key to option text. Keys are letters of any script, numbers or short words; lower-case Latin letters
            equal capitals. Texts that are equal except for case name none of their options.

    Returns:
        A key of `choices`, or None.
    """
    text = own_answer(text)
    if (bare := text.strip(" \n.()*")) in choices:
        return bare  # fast path for the most frequent reply, consistent with all rules
    options = _prepare(tuple(choices.items()))
    normalized = plain_text(text, options.characters)
    normalized = options.tags.get(_trim(_fold(normalized))) or _tag_options(normalized, options)
    patterns = options.patterns
    lowered = normalized.lower()
    if any(map(lowered.__contains__, _DENYING)):
        normalized = patterns.denied.sub(" ", normalized)
    unconditional, conditioned = _statements(normalized, lowered, patterns)
    # The fifth rule ignores letters of no option, such as in "T cell".
    named = (
        _first_line(normalized, patterns)
        or unconditional
        or _leading(normalized, patterns)
        or conditioned
        or {_letter(name) for name in patterns.lone.findall(normalized)} & options.keys.keys()
        or {_letter(tag) for tag in _TAGGED.findall(normalized)}
    )
    return options.keys.get(named.pop()) if len(named) == 1 else None


class _Options(NamedTuple):
    keys: dict[str, str]
    """Maps the capital that represents an option in the patterns to the option's key."""
    tags: dict[str, str]
    """Maps folded option texts to tags."""
    searched: tuple[tuple[str, str, re.Pattern[str]], ...]
    """Texts to search in a reply, longest first: the folded text, its tag, and its pattern."""
    patterns: _Patterns
    key_pattern: re.Pattern[str] | None
    """Pattern of keys that are not Latin letters; None if they are."""
    key_tags: dict[str, str]
    characters: frozenset[str]
    """All characters of the keys."""


def _fold(text: str) -> str:
    """Lower case with the same length as `text`; only "İ" would become two characters."""
    return text.replace("İ", "I").lower()


def _trim(folded: str) -> str:
    return folded.rstrip(".").strip()


@lru_cache(maxsize=4096)  # a run parses replies to the same few hundred items for every particle
def _prepare(choices: tuple[tuple[str, str], ...]) -> _Options:
    """Patterns and tags for the replies to an item with these options."""
    keys = [key.strip(" ().:[]") or key for key, _ in choices]
    latin = all(len(key) == 1 and key.isascii() and key.isalpha() for key in keys) and len(
        {*map(str.upper, keys)}
    ) == len(keys)
    letters = [key.upper() for key in keys] if latin else list(ascii_uppercase[: len(keys)])
    plain = [_fold(plain_text(key, frozenset(key))) for key in keys]
    tags: dict[str, str] = {}
    for letter, (_, option) in zip(letters, choices, strict=False):
        folded = _trim(_fold(plain_text(option)))
        # An option text that is a letter or a key ("C" as the text of A) would conflict with that letter.
        if re.fullmatch(r"[\W_]*[a-z]?[\W_]*", folded) is None and folded not in plain:
            tags[folded] = _SHARED if folded in tags else chr(_TAG_A + ord(letter) - ord("A"))
    texts = [pair for pair in tags.items() if not _STATEMENT_WORDS.issuperset(re.findall(r"\w+", pair[0]))]
    searched = tuple((text, tag, _text_pattern(text)) for text, tag in sorted(texts, key=lambda pair: -len(pair[0])))
    key_pattern = None
    if not latin:
        either = "|".join(map(re.escape, sorted(filter(None, plain), key=len, reverse=True)))
        spaceless = rf"(?<=[是为為選选：:案は이은])(?:{either})|" if re.match(rf"[{SPACELESS}]", plain[0]) else ""
        # Not within a number or a word, and not a separate word in prose ("in 2 towns", the Russian "В").
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
    """Matches complete occurrences of an option's text."""
    if option == "no":
        return re.compile(rf"(?<!\w){option}{_CLOSES_NO}")
    if re.match(rf"[{SPACELESS}]", option):
        return re.compile(word_pattern(option))
    return re.compile(rf"(?<!\w){_OPENS}{re.escape(option)}(?!{WORD}){_CLOSES}")


def _tag_options(text: str, options: _Options) -> str:
    """Replaces every option text, and every key that is not a Latin letter, by its private-use character."""
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
    """The letter for a letter or a private-use character; a shared tag becomes `[`."""
    if name < chr(_TAG_A):
        return name.upper()
    return chr(ord(name) - (_KEY_A if name >= chr(_KEY_A) else _TAG_A) + ord("A"))


def _named_at(match: re.Match[str], patterns: _Patterns) -> set[str]:
    """The letters of a match's groups, and one joined to them by "or", "and", a comma or a space."""
    names = [name for name in match.groups() if name]
    if joined := patterns.joined.match(match.string, match.end(match.lastindex or 0)):
        names.append(joined[joined.lastindex or 0])
    return {_letter(name) for name in names}


def _statements(normalized: str, lowered: str, patterns: _Patterns) -> tuple[set[str], set[str]]:
    """Letters in unconditional and in conditional statements."""
    matches = list(patterns.stated.finditer(normalized))
    if any(map(lowered.__contains__, _CONFIRMING)):
        matches += patterns.confirmed.finditer(normalized)
    unconditional: set[str] = set()
    conditioned: set[str] = set()
    for match in matches:
        (conditioned if conditional(normalized, *match.span()) else unconditional).update(_named_at(match, patterns))
    return unconditional, conditioned


def _leading(normalized: str, patterns: _Patterns) -> set[str]:
    if not (match := patterns.leading.match(normalized)):
        return set()
    named = _named_at(match, patterns)
    if listed := patterns.listed.search(normalized, match.end()):
        following = _letter(listed[1])
        if chr(ord(following) - 1) in named:
            named.add(following)
    return named


def _first_line(normalized: str, patterns: _Patterns) -> set[str]:
    """The option that is alone on the first of several lines, by letter, text or both."""
    line, separator, _ = normalized.partition("\n")
    if not separator or len(line) > 8 or re.fullmatch(r"[\s(\['\"<>#.,:;)\]!-]*", line):
        return set()
    bare = re.sub(r"[\s(\['\"<>#.,:;)\]!-]", "", line)
    named = {_letter(name) for name in bare}
    is_name = all(
        name >= chr(_TAG_A) or (patterns is not _OTHER and name in ascii_uppercase and len(bare) <= 2) for name in bare
    )
    return named if is_name and len(named) == 1 and _leading(normalized, patterns) in (named, set()) else set()
