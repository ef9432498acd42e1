"""Strict parsing of judges' replies: an unambiguous value, or `Unscored` with the reason.

Lenient parsing gives wrong ratings. It reads a reply truncated at `{"rating": 1` (of 10) as 1, accepts a boolean or a
text as a number, and finds the rating that a candidate wrote into its own answer. Therefore an ambiguous reply is
malformed, and it is requested once more.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from utilities.core import Reason, Unscored
from utilities.errors import in_words
from utilities.reply_text import is_unended_thought, without_thoughts

__all__ = [
    "Message",
    "Reply",
    "TokenChoice",
    "as_object",
    "as_rating",
    "expected_rating",
    "readable",
    "refused",
    "thinks",
    "without_default",
]

M = TypeVar("M", bound=BaseModel)


class Message(NamedTuple):
    """One message of a conversation with a judge."""

    role: Literal["system", "user", "assistant"]
    content: str


class TokenChoice(NamedTuple):
    """One generated token with its alternatives."""

    token: str
    top: Mapping[str, float]
    """The most likely tokens with their natural log-probabilities, including the chosen one."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An unparsed reply of a judge."""

    text: str
    model: str = ""
    """The model as the server names it."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens: tuple[TokenChoice, ...] | None = None
    """The tokens with their alternatives, if requested and returned."""
    finish_reason: str = "stop"
    cached: bool = False
    thought: bool = False
    """The server returned the model's reasoning beside the text."""
    corrected: bool = False
    """Parsing failed, but succeeded for a later reply in the same conversation."""
    claimed: tuple[int, int] | None = None
    """The token counts reported by the server, if they are implausible and were replaced by estimates."""

    def to_json(self) -> str:
        """The reply as ASCII JSON; `from_json` is the inverse."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Reply:
        """Inverse of `to_json`.

        Raises:
            ValueError: The text is not a stored reply.
        """
        try:
            data = json.loads(text)
            if data["tokens"] is not None:
                data["tokens"] = tuple(TokenChoice(token, top) for token, top in data["tokens"])
            return Reply(**data)
        except (TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"not a stored reply: {error}") from error


# Complete replies and refusals

ENDINGS = (
    (
        Reason.REFUSED,
        re.compile("filter|safety|refus|moderat|prohibit|blocked|blocklist|recitation|guardrail|sensitive|toxic|polic"),
    ),
    (
        None,
        re.compile(
            "^(?:$|stop|end|eos|complete|finish|done|normal|natural|null$|none$|tool|function)|_(?:stop|eos|end)$"
        ),
    ),
    (Reason.TRUNCATED, re.compile("length|max|limit|context|abort|cancel|interrupt|timeout")),
)
"""Meaning of the servers' finish reasons, by pattern; None for a complete reply."""

REFUSAL = re.compile(
    r"\bi (?:can(?:no|')?t|can not|am unable to|am not able to|will not|won't|do not feel able to)"
    r" (?:\w+ly )?(?:help|assist|rate|provide|comply|answer|evaluate|assess|judge|score|give|continue|fulfil|engage"
    r"|discuss|create|generate|respond|offer|participate)"
    r"|\bi(?: must| have to)?(?: respectfully| politely)? decline\b"
    r"|\bas an ai\b[^.!?]{0,80}\b(?:cannot|can't|can not|unable|not able|do not|don't)\b"
    r"|(?:抱歉|对不起|很遗憾).{0,20}(?:无法|不能)",
    re.IGNORECASE,
)
OPENING = 300
"""Leading characters that are searched for a refusal; later matches may be part of reasoning about an answer."""


def refused(text: str) -> bool:
    """Whether a reply declines to judge and contains neither a rating nor a JSON object."""
    text = without_thoughts(text).lstrip()
    opening = " ".join(text[:OPENING].replace("\u2019", "'").replace("I'm", "I am").split())
    if not REFUSAL.search(opening) or OBJECT.search(text):
        return False
    return next(_claims(_own_words(text, 1, 10), 10), None) is None


def readable(reply: Reply) -> bool:
    """Whether a reply is complete and non-empty."""
    return _unfinished(reply) is None


def thinks(reply: Reply) -> bool:
    """Whether the judge reasons before it answers."""
    return reply.thought or without_thoughts(reply.text) != reply.text


MORE_ROOM = "a larger --judge-max-tokens gives it room"


def _unfinished(reply: Reply) -> Unscored | None:
    """The reason why a reply is incomplete, empty or a refusal; None if it is not."""

    def unscored(reason: Reason, detail: str) -> Unscored:
        return Unscored(reason, detail, raw=reply.text)

    ending = reply.finish_reason.lower().strip("<|> ").replace("-", "_")
    endings = [reason for reason, words in ENDINGS if words.search(ending)]
    if endings and endings[0] is Reason.REFUSED:
        return unscored(Reason.REFUSED, f"the server withheld the reply ({reply.finish_reason})")
    if refused(reply.text):
        return unscored(Reason.REFUSED, "the judge declined")
    cut = bool(endings) and endings[0] is Reason.TRUNCATED
    empty = not reply.text.strip()
    if is_unended_thought(reply.text) or (cut and empty and reply.thought):
        return unscored(Reason.TRUNCATED, f"the judge used up its tokens on reasoning before it answered; {MORE_ROOM}")
    if cut:
        return unscored(Reason.TRUNCATED, f"the reply was cut off before it was complete ({reply.finish_reason})")
    if empty and reply.thought:
        detail = "the reply is empty: the server returned all of it as reasoning_content, which is no answer"
        return unscored(Reason.MALFORMED, detail)
    if empty:
        return unscored(Reason.MALFORMED, "the reply is empty")
    if not endings:
        return unscored(Reason.MALFORMED, f"the reply ended for the unknown reason {reply.finish_reason!r}")
    return None


# JSON

OBJECT = re.compile(r'\{(?=\s*+(?:"|\}|\Z))')
"""Start of a JSON object; does not match braces in prose or formulas."""
INSIDE = re.compile(r'"(?:[^"\\]|\\.)*+"?|[{}]', re.DOTALL)
"""Strings and braces, which determine where an object ends."""
OUTSIDE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}


def without_default(schema: dict[str, Any]) -> None:
    """Removes a field's default from its JSON schema (use as `json_schema_extra`): strict servers accept none."""
    del schema["default"]


def as_object(reply: Reply, shape: type[M]) -> M | Unscored:
    """The last JSON object of a reply as `shape`, without type coercion (strict validation).

    Judges may reason, repeat the requested form and quote the candidate before they answer, so the last object counts.
    Surrounding prose and code fences are ignored.
    """
    if (problem := _unfinished(reply)) is not None:
        return problem

    def unscored(detail: str, reason: Reason = Reason.MALFORMED) -> Unscored:
        return Unscored(reason, detail, raw=reply.text)

    span = _last_object(without_thoughts(reply.text))
    if span is None:
        return unscored("there is no JSON object in the reply")
    start, end = span
    if end is None:
        return unscored("the JSON object in the reply has no end", Reason.TRUNCATED)
    if reply.text[end:].lstrip().startswith("]"):
        return unscored("the reply is a list where one JSON object was expected")
    object_text = reply.text[start:end]
    try:
        # Parsed twice: pydantic alone accepts NaN and duplicate keys.
        json.loads(object_text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite)
        return shape.model_validate_json(object_text, strict=True)
    except ValidationError as error:
        beyond = all(one["type"] in OUTSIDE for one in error.errors())
        return unscored(in_words(error)[:500], Reason.OUT_OF_RANGE if beyond else Reason.MALFORMED)
    except (ValueError, RecursionError) as error:
        return unscored(f"not valid JSON: {error}")


def _last_object(text: str) -> tuple[int, int | None] | None:
    """Start and end of the last top-level JSON object; end is None if the object is truncated."""
    span: tuple[int, int | None] | None = None
    offset = 0
    while (start := OBJECT.search(text, offset)) is not None:
        depth, end = 0, None
        for part in INSIDE.finditer(text, start.start()):
            depth += {"{": 1, "}": -1}.get(part.group(), 0)
            if depth == 0:
                end = part.end()
                break
        span = start.start(), end
        if end is None:
            break
        offset = end
    return span


def _no_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


# Ratings in text: "Rating: 7/10"

SPACE = r"[^\S\n]*+"
DASH = r"-\u2013\u2014"
RANGE = rf"{SPACE}(?:[{DASH}~]|to\b|or\b|and\b){SPACE}"
NUMBER = r"(?>[-\u2212+]?\d+(?:[.,]\d+)*)"
LABEL = rf"(?:(?P<line>^(?:[*_#`-]|[^\S\n])*+(?:(?:my|the|final|overall){SPACE})*+)|(?<![a-z]))rating(?![a-z])"
GAP = rf"(?P<gap>(?:[\s*_`:=\[(]|(?!-\d)[{DASH}]|(?:is|of)\b)*+)"
CLAIM = re.compile(
    rf"(?:{LABEL}{GAP}|(?<![a-z\d_.,/\u2044]))"
    rf"(?:(?P<other>{NUMBER}){RANGE})?"
    rf"(?P<number>{NUMBER})(?:(?:[*_`\])]|[^\S\n]|(?:points?|stars?)\b)*+(?:/|(?:out{SPACE})?of\b)[*_`\[(\s]*+(?P<scale>{NUMBER}))?"
    r"(?![a-z\d_%/\u2044\u00b2\u00b3\u00bc-\u00be])"
    r"|(?<![a-z])rating[*_`]*+\s*+[*_`]*+:",
    re.IGNORECASE | re.MULTILINE,
)
"""A number with a scale, or the word "Rating" with or without a number; 7th and 70% are not numbers here."""
BARE_REST = re.compile(r"(?:[*_`\]).]|[^\S\n])*+$", re.MULTILINE)
ALONE = re.compile(rf"[\s*_`\[\](]*+({NUMBER})[\s*_`\[\]).]*+")
QUOTED = re.compile(r"\"[^\"\n]*+\"|“[^“”\n]*+”|«[^«»\n]*+»|^[^\S\n]*+>.*$", re.MULTILINE)
WHOLE_QUOTE = re.compile(r"\s*[\"“«]([^\"“”«»\n]*)[\"”»]\s*")
NEXT_QUESTION = re.compile(r"^[*_#\s]*(?:question|instruction|user|human)[*_ ]*:", re.IGNORECASE | re.MULTILINE)
WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
"""Maps full-width forms, as typed on Chinese and Japanese keyboards, to ASCII."""


class _Claim(NamedTuple):
    """A rating in a text."""

    value: float | None
    """None if the word "Rating" is not followed by exactly one number on the right scale."""
    start: int
    """Offset of the number."""
    own_line: bool
    """Whether its line begins with the word "Rating"."""


def as_rating(reply: Reply, low: int = 1, high: int = 10) -> float | Unscored:
    """The rating in a reply: "Rating: 7/10", "**Rating:** 7 / 10", "3 out of 10", "7/10", "Rating: 7", or "7" alone.

    Quotations are ignored: a candidate's answer may contain a rating. Of several different ratings the last one counts
    if its line begins with the word "Rating"; otherwise the reply is ambiguous.

    Args:
        reply: The judge's reply.
        low: The smallest rating.
        high: The largest rating, and the scale.
    """
    result = _read_rating(reply, low, high)
    return result if isinstance(result, Unscored) else result[0]


def _read_rating(reply: Reply, low: int, high: int) -> tuple[float, int] | Unscored:
    """The rating and the offset of its number in the text."""
    if (problem := _unfinished(reply)) is not None:
        return problem

    def unscored(detail: str, reason: Reason = Reason.MALFORMED) -> Unscored:
        return Unscored(reason, detail, raw=reply.text)

    text = _own_words(reply.text, low, high)
    claims = list(_claims(text, high))
    # A question after a rating is the judge's own, and so is the rating of it.
    if claims and (more := NEXT_QUESTION.search(text, max(claims[0].start, 0))) is not None:
        claims = [claim for claim in claims if claim.start < more.start()] or claims
    if not claims and (alone := ALONE.fullmatch(text)) is not None:
        claims = [_Claim(_value(alone.group(1)), alone.start(1), True)]
    if not claims:
        return unscored(f"there is no rating such as 'Rating: {high - 3}/{high}'")
    last = claims[-1]
    values = dict.fromkeys(claim.value for claim in claims)
    if len(values) > 1 and not last.own_line:
        listed = ", ".join("an unclear one" if value is None else f"{value:g}" for value in values)
        return unscored(f"several different ratings: {listed[:200]}")
    if last.value is None:
        return unscored(f"the rating is not one number from {low} to {high}")
    if not low <= last.value <= high:
        return unscored(f"{last.value:g} is not from {low} to {high}", Reason.OUT_OF_RANGE)
    return last.value, last.start


def _own_words(text: str, low: int, high: int) -> str:
    """The text with reasoning, quotations and the scale's description replaced by blanks; offsets are unchanged."""
    text = without_thoughts(text).translate(WIDE)
    if (quote := WHOLE_QUOTE.fullmatch(text)) is not None:
        return " " * quote.start(1) + quote.group(1)
    scale = rf"\({SPACE}{low}{SPACE}(?:[{DASH}]|to){SPACE}{high}{SPACE}\)"
    for gone in (QUOTED, re.compile(scale)):
        text = gone.sub(lambda found: " " * len(found.group()), text)
    return text


def _claims(text: str, high: int) -> Iterator[_Claim]:
    """The ratings in a text, in order; unlabelled fractions and numbers are not ratings."""
    for match in CLAIM.finditer(text):
        number, gap, scale = match["number"], match["gap"], match["scale"]
        labelled = gap is not None or number is None
        if not labelled and (scale is None or _value(scale) != high):
            continue
        value = None
        if number is not None and match["other"] is None and (scale is None or _value(scale) == high):
            value = _value(number)
        if gap and "\n" in gap and scale is None and BARE_REST.match(text, match.end()) is None:
            value = None  # "Rating:" and then a numbered list
        yield _Claim(value, match.start("number"), labelled and match["line"] is not None)


def _value(number: str) -> float | None:
    """Parses a number; None for "7,5" and "1.2.3", which are ambiguous or invalid."""
    if "," in number or number.count(".") > 1:
        return None
    return float(number.replace("\u2212", "-"))


# G-Eval


def expected_rating(reply: Reply, low: int = 1, high: int = 10) -> float | None:
    """The expected rating under the judge's token probabilities, at the position of the rating's number.

    It is finer than the rating and has fewer ties (G-Eval, Liu et al. 2023, section 2). The probabilities of the
    integers from `low` to `high` are normalised to a sum of 1. Many tokenizers write "10" as "1" and "0", so a "1" may
    be the start of "10". If it was chosen, the next token's probabilities separate the two cases; if not, it counts
    only if a token "10" occurs in the reply, and is ignored otherwise.

    Returns:
        None without log-probabilities, without an integer rating, or if the integers in range have a total probability
        below 0.5.
    """
    if not reply.tokens:
        return None
    rating = _read_rating(reply, low, high)
    offset = "".join(choice.token for choice in reply.tokens).find(reply.text)
    if isinstance(rating, Unscored) or not rating[0].is_integer() or offset < 0:
        return None
    place, index = offset + rating[1], 0
    while place >= len(reply.tokens[index].token):
        place -= len(reply.tokens[index].token)
        index += 1
    chosen = _digits(reply.tokens[index].token)
    after = reply.tokens[index + 1].top if index + 1 < len(reply.tokens) else {}
    whole_tokens = any(_digits(token) == str(high) for choice in reply.tokens for token in (choice.token, *choice.top))
    masses: dict[int, float] = {}

    def add(digits: str, mass: float) -> None:
        if digits and low <= int(digits) <= high:
            masses[int(digits)] = masses.get(int(digits), 0.0) + mass

    for token, logprob in reply.tokens[index].top.items():
        digits, mass = _digits(token), _probability(logprob)
        if whole_tokens or not _begins_another(digits, low, high):
            add(digits, mass)
        elif digits == chosen:
            longer = {_digits(token): _probability(logprob) for token, logprob in after.items() if _digits(token)}
            add(digits, mass * max(0.0, 1.0 - sum(longer.values())))
            for more, share in longer.items():
                add(digits + more, mass * share)
    total = math.fsum(masses.values())
    if total < 0.5:
        return None
    return math.fsum(value * mass for value, mass in masses.items()) / total


def _digits(token: str) -> str:
    """The digits of a token that has only digits, spaces and emphasis; '' for any other token."""
    bare = token.strip(" \t\n▁Ġ*_")
    return bare if bare.isascii() and bare.isdigit() and len(bare) < 10 else ""


def _begins_another(digits: str, low: int, high: int) -> bool:
    return any(str(n).startswith(digits) and str(n) != digits for n in range(low, high + 1)) if digits else False


def _probability(logprob: float) -> float:
    """exp of a log-probability; values above 0 count as 0, and NaN as probability 0."""
    return math.exp(min(0.0, logprob)) if not math.isnan(logprob) else 0.0
