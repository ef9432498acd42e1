# ruff: noqa: RUF001  (similar-looking characters are intended)
r"""Extraction and exact parsing of numbers in answers.

`extract_number` finds the final number of a reply, `parse_number` parses a gold answer that is a single number. Both
return a `Fraction`, so that 0.5, 1/2 and 50e-2 are equal.

Notations and their values:

| written | value | reason |
|---|---|---|
| `1,234.50`, `1{,}234.50` | 1234.5 | commas that group thousands |
| `1.234,5`, `1.234.567` | 1234.5, 1234567 | unambiguous continental notation; `1.234` alone is a decimal |
| `12 500`, `12'500`, `1,50,000` | 12500, 12500, 150000 | thousands with spaces, apostrophes, and Indian grouping |
| `1,2`, `0,125` | 1.2, 0.125 | a single comma that does not group thousands is a decimal comma |
| `-7`, `-$5`, `+3` | -7, -5, 3 | a sign is adjacent to its number and follows no digit or letter |
| `3/4`, `\frac{3}{4}`, `½`, `3/4ths` | 3/4 | `3/0` is not a number |
| `3 1/2`, `3½`, `3\frac{1}{2}` | 7/2 | mixed numbers |
| `1e3`, `1 \times 10^3`, `1·10³` | 1000 | |
| `50%` | 50 | never 0.5: accepting both values would accept wrong answers |
| `5kg`, `5 kg`, `5.`, `x=5`, `005`, `30^\circ` | 5, 30 | followed by a unit |
| `3\sqrt{2}`, `10-3`, `2**10`, `2x`, `5 million`, `x > 5`, `3 of 4`, `±3` | none | part of an expression |
| `(3, 4)`, `3 or 4`, `x = 3, y = 4`, `2 hours 30 minutes` | none | more than one number |
| `5!`, `0.333...` | none | a factorial or an exclamation; `3.5!`, `$5!`, `2024!`, `5 !`, `¡5!` are exclamations |
| `B12`, `x_1`, `3rd`, `cm^2`, `10²` | none | names, ordinals and exponents |
| `10:30`, `12/05/2024`, `1.2.3`, `1,2,3` | none | times, dates, versions, lists without spaces |
| `two` | none | |

Digits of any script and all dashes used as a minus sign are accepted.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from utilities.reply_text import own_answer

__all__ = ["extract_number", "parse_number", "same_number"]

MAX_LENGTH = 400
"""Maximum characters of a number, and maximum absolute exponent of ten.

This exceeds the range of a double; 1e999999999 as an exact number would not fit into memory.
"""

FACTORIAL_DIGITS = 3
"""Digits of the largest number whose factorial is written with `!`."""

_BLANK = r"[ \u00a0\u2009\u202f]"
_NAME = r"\dA-Za-zÀ-ÖØ-öø-ɏ_"  # Latin script only: Chinese, Japanese and Thai have no space before a number

_RUN = r"""(?:
      (?!0)\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)   # 1,234,567.5
    | (?!0)\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?(?!\d)   # 1,50,000
    | (?!0)\d{1,3}(?:[ \u00a0\u2009\u202f]\d{3})+(?:[.,]\d+)?(?![\d/]|[ ]?/)   # 1 234,5
    | (?!0)\d{1,3}(?:'\d{3})+(?:[.,]\d+)?(?!\d)   # 1'234.5
    | \d{1,3}(?:\.\d{3})+,\d+                   # 1.234,5
    | \d{1,3}(?:\.\d{3}){2,}(?!\d)              # 1.234.567
    | \d+(?:[.,]\d+)?                           # 12  12.5  12,5
    | (?<!\.)\.\d+                              # .5
)"""

_NUMBER = rf"""
    (?=[-+.\d])                                 # changes nothing, but passes over the letters quickly
    (?P<number>
    (?:(?<![{_NAME})\]])(?P<sign>[-+])[$€£¥₹]?)?
    (?<![{_NAME}^])(?<![\^_]\{{)(?<!\d[.,:/])   # not inside a name, an exponent, an index, a date or a time
    (?:(?P<whole>\d+)[ \u00a0](?=\d+/\d))?
    (?P<top>{_RUN})
    (?:
        [ ]?/[ ]?(?P<bottom>{_RUN})
      | (?:[eE]|[ ]?(?:[\u00d7\u00b7\u22c5\u2219x*]|\\times|\\cdot)[ ]?10[ ]?(?:\^|\*\*)[ ]?[{{(]?)
        (?P<exponent>[-+]?\d+)[}})]?
      | (?!(?i:st|nd|rd|th)\b)
    )
    )
    (?![.,:/]?\d|[⁰¹²³⁴-⁹]|[ ]?\^)
"""

# Repetitions are bounded and alternatives are exclusive, so matching takes linear time.
_COMMAND = r"\\[A-Za-z]+\b|\\[^A-Za-z]"  # LaTeX's
_STATED = rf"""
    # of "3 + 4 = 7" the right-hand side, within a sentence and with names of one letter
    (?:(?:{_COMMAND}|[^\w\n=\\.,;]|[.,;](?!\s)|\d|\b(?<!\\)[A-Za-z]\b){{0,60}}=){{0,3}}
    (?:{_COMMAND}|[^\w.+\\-]|\b(?:about|approximately|around|exactly|roughly)\b){{0,40}}
    {_NUMBER}
"""
_STATEMENT = re.compile(
    r"""(?<!\#)\#{4}(?!\#|\s{0,3}\d+[.)][ ]+\S)  # the end of a GSM8K solution, but not the heading "#### 1. First"
      | \\boxed\s?\{
      | (?i:answer)\W{0,4}?(?::|=|\b(?i:is|equals)\b)""",
    re.VERBOSE,
)
_STATED_NUMBER = re.compile(_STATED, re.VERBOSE)
_ANY_NUMBER = re.compile(_NUMBER, re.VERBOSE)
_WHOLE_NUMBER = re.compile(rf"[$€£¥₹]?[ ]?(?:{_NUMBER})[ ]?[$€£¥₹%]?\.?", re.VERBOSE)
_THOUSANDS = re.compile(r"(?!0)(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3})(?:\.\d+)?")
_FRACTION = re.compile(
    r"(?:(\w) ?)?(?:\\[cdt]?frac ?(?:\{\s*([-+]?[\d.,]+)\s*\}|(\d))(?:\{\s*([\d.,]+)\s*\}|(\d))|([¼-¾⅐-⅞↉]))"
)
_DEGREES = re.compile(r"\^ ?\{? ?\\circ ?\}?")
_SIGNS = str.maketrans(
    {"\u2212": "-", "\uff0d": "-", "\ufe63": "-", "\u2013": "-", "\u2044": "/", "\u2215": "/", "\u2019": "'"}
    | {"\u066b": ".", "\u066c": ",", "\uff0e": ".", "\uff05": "%", "\uff04": "$"}
)
_POWER_OF_TEN = re.compile(r"(?<=10)[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")

# Contexts in which a number is part of a larger expression: on its right ...
_GOES_ON = re.compile(
    r"""[ ]?(?:\*\*?\d|\*[ ]\$?\d)
      | [a-z]?[ ]?(?:[√∛∜πℼ]|(?:pi|sqrt)\b|\\(?:sqrt|pi|cdot|times|div|pm|[cdt]?frac|log|ln|sin|cos|tan|mathrm\{i\})\b)
      | \((?=[\w(+-]) | [.,]\(\d
      | [ ]?[×⋅·∙÷±] | [ ]?[~～〜][ ]?\d | [ ]?%[ ]of[ ][$€£¥₹]?\d
      | [ ]?[-+][ ]?(?:[$€£¥₹]?\.?\d|[a-z]\b|\\[a-z])
      | [ ]?/[ ]?(?:\d|\(|[a-z]\b(?![ ]?[a-z]))
      | [ ](?:times|plus|minus|over|(?:divided|multiplied)[ ]by|to|(?:out[ ])?of)[ ][$€£¥₹]?[-(]?\.?\d
      | [ ](?:mod(?:ulo)?|choose)[ ]\d | [ ]:[ ]\d | (?-i:[CP])\d | [ ]?[≤≥] | [ ][<>]=?[ ]
      | [ ](?:to[ ]the[ ]power|squared|cubed|factorial|sqrt)\b | [ ]?(?:\.{2,3}|…)[ ]?-?\d
      | [ ]?[xX][ ]?\d | [xyzni]\b | (?-i:[abepqruvwzkKMBT])\b | [ ]?(?:bn|mln)\b | [ ](?-i:k)\b
      | '\d | _\d | (?:[ \u00a0\u2009\u202f])\d{3}(?!\d)
      | [ ]?(?:thousand|million|billion|trillion|hundred|lakh|crore|dozen)s?\b | [ ]tens\b
      | [ ]?(?:mio|mrd|millionen|milliarden|millions?|milliards?|millones)\b
      | [ ]?(?:mil|mila|mille|tausend|mil[jy]ons?|milioni|milyon|milyar|milh[õã]\w*|juta|ribu|triệu)\b
      | [ ]?(?:тыс|млн|млрд|миллион|миллиард|लाख|करोड़|พัน|หมื่น|แสน|ล้าน)
      | [ ]?[百千万萬億亿兆백천만억조]
      | [ ](?:or|and|oder|und|ou|et|o|e|y|или|и|lub|veya|أو|या)[ ](?:[a-z][ ]?=[ ]?)?[$€£¥₹]?-?\d
      | [ ]?(?:或|和|与|與|と|または|또는|หรือ)[ ]?-?\d | ,[ ][a-z][ ]?=[ ]?-?\d | ;[ ]-?\d
      | ,[ ][$€£¥₹]?-?\d[\d.]{0,20}(?:,?[ ](?:or|and)[ ]|,[ ]-?\d|[ ]?\.?[ ]?(?:\n|$))""",
    re.VERBOSE | re.IGNORECASE,
)
# ... on its left ...
_GOES_BEFORE = re.compile(
    r"""(?:(?:\d[ ]?!{1,2}|[\d)\]}²³]|(?<![\w'])[a-z][ ]?)[ ]?(?:\*\*|[-+*×⋅·∙÷/±^~～〜]|\\(?:times|cdot|div|pm)\b)
      [ ]?[$€£¥₹]?
      | [√∛∜±∓⌊⌈][ ]?\(?
      | \\(?:sqrt|[cdt]?frac|binom)(?:\[\d+\])?[\[{\s]* | \^[ ]?[{(]{0,2}[ ]? | !=[ ]? | \d[.,]\(
      | \\?\b(?:log|ln|sqrt|sin|cos|tan|exp)(?:_\{?\w{1,3}\}?)?[ ]?[({]?
      | \\[cdt]?frac[ ]?\{[^{}]{1,24}\}\{[ ]? | \d[ \u00a0\u2009\u202f] | \d[ ]?[xX][ ]
      | \d[ ](?:or|and|oder|und|ou|et|o|e|y|или|и|lub|veya|أو|या)[ ][$€£¥₹]?
      | \d[ ]?(?:或|和|与|與|と|または|또는|หรือ)[ ]?
      | \d[ ](?:times|plus|minus|over|mod(?:ulo)?|choose|(?:divided|multiplied)[ ]by|to|of)[ ][$€£¥₹]?
      | \d[ ]?%[ ]of[ ][$€£¥₹]?
      | \b(?:half|third|quarter|root|square|cube|sum|product)[ ]of[ ][$€£¥₹]? | \b(?:twice|double)[ ]
      | \b(?:hundred|thousand|million)[ ](?:and[ ])?
      | \d[ ]:[ ] | [≤≥]=?[ ]? | (?::|\b(?:is|be))[ ]?[<>]=?[ ]? | \d,?[ ](?:(?:or|and)[ ])?[a-z][ ]?=[ ]?
      | \\(?:times|cdot|div|pm|[lg]eq?|neq?|approx)\b[ ]? | [\w)][ ]?[≤≥≠±]=?[ ]? | [\w)][ ][<>]=?[ ]
      | \bbetween[ ][$€£¥₹]?[\d.,]+[ ]and[ ][$€£¥₹]? )$""",
    re.VERBOSE | re.IGNORECASE,
)
# ... or may be a factorial: after a whole number of few digits, `!` is that or the end of a sentence.
_FACTORIAL = re.compile(r"!{1,2}(?!!)|[ ]!{1,2}[ ]?[-+*/=×⋅·÷^)]")
# ... or one of several in brackets or of a compound quantity, or an absolute value.
_COMPOUND = re.compile(
    r"""\d[ ]?(?:hours?|hrs?|h|minutes?|mins?|years?|weeks?|days?|feet|foot|ft|pounds?|lbs?|dollars?|euros?
    |km|kilomet(?:er|re)s?|m|met(?:er|re)s?|kg|kilograms?|lit(?:er|re)s?|l)
    (?:,|,?[ ]and)?[ ]\d+
    [ ]?(?:minutes?|mins?|seconds?|secs?|months?|weeks?|days?|inch|inches|in|ounces?|oz|cents?|pence
    |m|s|met(?:er|re)s?|cm|centimet(?:er|re)s?|mm|g|grams?|ml)\b | \d[ ]?h\d\d\b
    | \|-?[\d.,/]+\|""",
    re.VERBOSE | re.IGNORECASE,
)
_PAIR = re.compile(
    r"(?:[(\[{]|\\\{)[ ]?-?[\d./]+(?:(?:[ ]?[,;][ ]|;|,(?!\d{3}(?!\d)|\d\d,))-?[\d./]+){1,20}[ ]?\\?[)\]}]"
)


def extract_number(text: str) -> Fraction | None:
    r"""The final number of a reply.

    A number that is stated as the answer (`The answer is 42`, `Answer: 42`, `#### 42`, `\boxed{42}`) takes precedence;
    of several stated ones the last counts, because models correct themselves at the end. Only symbols, words such as
    `about`, or the left-hand side of an equation may be between statement and number: "the answer is the sum of 3 and
    4, 7" gives the last number. Without a statement the last number counts, as in lm-evaluation-harness's
    `flexible-extract` for GSM8K: "12 apples and 3" gives 3.

    Returns:
        The number, or None if there is none, or if the selected one cannot be parsed (3/0, 1e999999999).
    """
    text = _in_plain_signs(own_answer(text))
    stated = [found for mark in _STATEMENT.finditer(text) if (found := _STATED_NUMBER.match(text, mark.end()))]
    ends = [found for found in stated if text[found.start() - 4 : found.start()] == "####"]
    if len(ends) > 1:  # a solution has one end: later ones belong to further questions
        stated = ends[:1]
    numbers = stated or list(_ANY_NUMBER.finditer(text))
    return _value(numbers[-1]) if numbers and not _is_part(numbers[-1]) else None


def parse_number(text: str) -> Fraction | None:
    """Parses a text that is a single number, such as a gold answer; a currency sign, `%` or a full stop is allowed.

    Returns:
        The number, or None if the text is anything else: `Yes`, `5 kg`, `3 and 4`.
    """
    match = _WHOLE_NUMBER.fullmatch(_in_plain_signs(text).strip())
    return None if match is None else _value(match)


def _is_part(number: re.Match[str]) -> bool:
    """Whether a number is part of an expression, of a range or of several numbers."""
    text, start, end = number.string, number.start("number"), number.end("number")
    if number["sign"] == "-" and text[start - 1 : start] == "-":  # a dash
        return True
    if _GOES_ON.match(text, end) or _GOES_BEFORE.search(text[max(0, start - 32) : start]):
        return True
    around = (max(0, start - 200), end + 200)
    if number["top"].isdecimal() and len(number["top"]) <= FACTORIAL_DIGITS and _FACTORIAL.match(text, end):
        return "¡" not in text[:start] and text[start - 1 : start] not in tuple("$€£¥₹")
    if "." in number["top"] and text.startswith(("..", "…"), end):
        return True
    several = [*_PAIR.finditer(text, *around), *_COMPOUND.finditer(text, *around)]
    return any(one.start() <= start < one.end() for one in several)


def same_number(a: Fraction | None, b: Fraction | None) -> bool:
    """Whether two numbers are exactly equal: 0.33 is not 1/3. False if one is None, also if both are.

    There is no tolerance, because it would depend on the question: 0.001 is negligible for dollars but not for
    probabilities. If gold answers are rounded, the task's prompt must state it.
    """
    return a is not None and a == b


def _in_plain_signs(text: str) -> str:
    """Normalises minus signs, fraction bars, and LaTeX spacing and fractions.

    Compatibility normalisation of the full text would be wrong: it changes 3½ to 31/2 and 10² to 102.
    """
    latex = "\\" in text or "{,}" in text or "^" in text
    if not latex and text.isascii():
        return text
    text = text.translate(_SIGNS)
    text = _POWER_OF_TEN.sub(lambda power: "^" + unicodedata.normalize("NFKC", power[0]).replace("\u2212", "-"), text)
    if latex:
        text = text.replace("{,}", ",").replace("\\,", "").replace("\\!", "").replace("\\$", "$").replace("\\%", "%")
        text = _DEGREES.sub("°", text)
    return _FRACTION.sub(_in_one_line, text)


def _in_one_line(fraction: re.Match[str]) -> str:
    before, wide_top, top, wide_bottom, bottom, sign = fraction.groups()
    top, bottom = top or wide_top, bottom or wide_bottom
    written = unicodedata.normalize("NFKC", sign).replace("\u2044", "/") if sign else f"{top}/{bottom}"
    return f"{before} {written}" if before else written


def _value(number: re.Match[str]) -> Fraction | None:
    sign, whole, top, bottom, exponent = number.group("sign", "whole", "top", "bottom", "exponent")
    if sum(len(part) for part in (whole, top, bottom, exponent) if part) > MAX_LENGTH:
        return None
    value = _read(top)
    if bottom:
        divisor = _read(bottom)
        if not divisor:
            return None
        value /= divisor
    if whole:
        value += int(whole)
    if exponent:
        power = int(exponent)
        if abs(power) > MAX_LENGTH:
            return None
        value *= Fraction(10) ** power
    return -value if sign == "-" else value


def _read(run: str) -> Fraction:
    """Parses digits with separators, which are interpreted as in the table above."""
    run = re.sub(rf"(?:{_BLANK}|')(?=\d{{3}})", "", run)
    if _THOUSANDS.fullmatch(run):
        run = run.replace(",", "")
    elif "," in run or run.count(".") > 1:
        run = run.replace(".", "").replace(",", ".")
    return Fraction(run) if "." in run else Fraction(int(run))
