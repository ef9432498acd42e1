"""What a judge said, read strictly: a value that stands there beyond doubt, or `Unscored` with the reason.

Lenient readers are dangerous here. They turn a reply cut off at `{"rating": 1` (of 10) into a 1, take a yes or a text
for a number, and find the rating that a candidate wrote into its own answer. So nothing is guessed: what can be read
in two ways is malformed, and the judge is asked once more.
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
    """One generated token, and what might have stood in its place."""

    token: str
    top: Mapping[str, float]
    """The most likely tokens with their natural log-probabilities, the chosen one included."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of a judge, as it came."""

    text: str
    model: str = ""
    """The model as the server names it."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens: tuple[TokenChoice, ...] | None = None
    """The tokens with their alternatives, if they were requested and given."""
    finish_reason: str = "stop"
    cached: bool = False
    thought: bool = False
    """The server returned the model's reasoning beside the text."""
    corrected: bool = False
    """It could not be read, but a later reply in the same conversation could."""
    claimed: tuple[int, int] | None = None
    """The tokens that the server reported, if they cannot be right and were estimated instead."""

    def to_json(self) -> str:
        """The reply as JSON in ASCII; `from_json` gives it back."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Reply:
        """The reply that `to_json` wrote.

        Raises:
            ValueError: Not such a text.
        """
        try:
            data = json.loads(text)
            if data["tokens"] is not None:
                data["tokens"] = tuple(TokenChoice(token, top) for token, top in data["tokens"])
            return Reply(**data)
        except (TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"not a stored reply: {error}") from error


# Was it finished, and was it an answer at all?

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
"""What the finish reasons of servers mean, by their words; None for a complete reply."""

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
"""Characters in which a refusal shows itself; further on, the words belong to reasoning about an answer."""


def refused(text: str) -> bool:
    """Whether a reply declines to judge, and holds neither a rating nor a JSON object."""
    text = without_thoughts(text).lstrip()
    opening = " ".join(text[:OPENING].replace("\u2019", "'").replace("I'm", "I am").split())
    if not REFUSAL.search(opening) or OBJECT.search(text):
        return False
    return next(_claims(_own_words(text, 1, 10), 10), None) is None


def readable(reply: Reply) -> bool:
    """Whether a reply is complete and not empty."""
    return _unfinished(reply) is None


def thinks(reply: Reply) -> bool:
    """Whether the judge reasons before it answers."""
    return reply.thought or without_thoughts(reply.text) != reply.text


MORE_ROOM = "a larger --judge-max-tokens gives it room"


def _unfinished(reply: Reply) -> Unscored | None:
    """Why a reply cannot be read, whatever its text; None if it can."""

    def unscored(reason: Reason, detail: str) -> Unscored:
        return Unscored(reason, detail, raw=reply.text)

    ending = reply.finish_reason.lower().strip("<|> ").replace("-", "_")
    known = [reason for reason, words in ENDINGS if words.search(ending)]
    if known and known[0] is Reason.REFUSED:
        return unscored(Reason.REFUSED, f"the server withheld the reply ({reply.finish_reason})")
    if refused(reply.text):
        return unscored(Reason.REFUSED, "the judge declined")
    cut = bool(known) and known[0] is Reason.TRUNCATED
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
    if not known:
        return unscored(Reason.MALFORMED, f"the reply ended for the unknown reason {reply.finish_reason!r}")
    return None


# JSON

OBJECT = re.compile(r'\{(?=\s*+(?:"|\}|\Z))')
"""Where a JSON object begins; braces in prose or in a formula do not look like this."""
INSIDE = re.compile(r'"(?:[^"\\]|\\.)*+"?|[{}]', re.DOTALL)
"""What decides where an object ends: texts as wholes, and braces."""
OUTSIDE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}


def without_default(schema: dict[str, Any]) -> None:
    """Takes a field's default out of its JSON schema, as `json_schema_extra` of the field: strict servers take none."""
    del schema["default"]


def as_object(reply: Reply, shape: type[M]) -> M | Unscored:
    """The last JSON object of a reply as `shape`, with nothing converted: a text is no number, a truth value no 1.

    The last one, because judges think aloud, repeat the form that they were shown, and quote what they judge, before
    they answer. Prose and fences around it do not matter.
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
    found = reply.text[start:end]
    try:
        # Twice, because each knows what the other does not: pydantic takes NaN and the last of equal keys.
        json.loads(found, object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite)
        return shape.model_validate_json(found, strict=True)
    except ValidationError as error:
        beyond = all(one["type"] in OUTSIDE for one in error.errors())
        return unscored(in_words(error)[:500], Reason.OUT_OF_RANGE if beyond else Reason.MALFORMED)
    except (ValueError, RecursionError) as error:
        return unscored(f"not valid JSON: {error}")


def _last_object(text: str) -> tuple[int, int | None] | None:
    """Start and end of the last JSON object that is not inside another; no end where the text ends first."""
    found: tuple[int, int | None] | None = None
    place = 0
    while (start := OBJECT.search(text, place)) is not None:
        depth, end = 0, None
        for part in INSIDE.finditer(text, start.start()):
            depth += {"{": 1, "}": -1}.get(part.group(), 0)
            if depth == 0:
                end = part.end()
                break
        found = start.start(), end
        if end is None:
            break
        place = end
    return found


def _no_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    known = dict(pairs)
    if len(known) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return known


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


# Ratings in words: "Rating: 7/10"

SPACE = r"[^\S\n]*+"
DASH = r"-\u2013\u2014"
RANGE = rf"{SPACE}(?:[{DASH}~]|to\b|or\b|and\b){SPACE}"
NUMBER = r"(?>[-\u2212+]?\d+(?:[.,]\d+)*)"
LABEL = rf"(?:(?P<line>^(?:[*_#`-]|[^\S\n])*+(?:(?:my|the|final|overall){SPACE})*+)|(?<![a-z]))rating(?![a-z])"
GAP = rf"(?P<gap>(?:[\s*_`:=\[(]|(?!-\d)[{DASH}]|(?:is|of)\b)*+)"
CLAIM = re.compile(
    rf"(?:{LABEL}{GAP}|(?<![a-z\d_.,/\u2044]))"
    rf"(?:(?P<other>{NUMBER}){RANGE})?"
    rf"(?P<number>{NUMBER})(?:(?:[*_`\])]|[^\S\n])*+(?:/|out{SPACE}of\b)[*_`\[(\s]*+(?P<scale>{NUMBER}))?"
    r"(?![a-z\d_%/\u2044\u00b2\u00b3\u00bc-\u00be])"
    r"|(?<![a-z])rating[*_`]*+\s*+[*_`]*+:",
    re.IGNORECASE | re.MULTILINE,
)
"""A number with a scale, or the word "Rating" with a number or with none; a number that goes on is none (7th, 70%)."""
BARE_REST = re.compile(r"(?:[*_`\]).]|[^\S\n])*+$", re.MULTILINE)
ALONE = re.compile(rf"[\s*_`\[\](]*+({NUMBER})[\s*_`\[\]).]*+")
QUOTED = re.compile(r"\"[^\"\n]*+\"|“[^“”\n]*+”|«[^«»\n]*+»|^[^\S\n]*+>.*$", re.MULTILINE)
WHOLE_QUOTE = re.compile(r"\s*[\"“«]([^\"“”«»\n]*)[\"”»]\s*")
WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
"""Full-width forms, as Chinese and Japanese keyboards write them, are the same characters."""


class _Claim(NamedTuple):
    """A rating as it stands in a text."""

    value: float | None
    """None where the word "Rating" is followed by something else than one number on the right scale."""
    start: int
    """Where the number begins."""
    own_line: bool
    """It stands on a line that begins with the word "Rating"."""


def as_rating(reply: Reply, low: int = 1, high: int = 10) -> float | Unscored:
    """The rating in a reply: "Rating: 7/10", "**Rating:** 7 / 10", "3 out of 10", "7/10", "Rating: 7", or "7" alone.

    What is quoted does not count: a candidate's answer may hold a rating of its own. Of several different ratings the
    last one counts if its line begins with the word "Rating"; otherwise nobody knows which was meant.

    Args:
        reply: What the judge said.
        low: The smallest rating.
        high: The largest, and the scale.
    """
    found = _read_rating(reply, low, high)
    return found if isinstance(found, Unscored) else found[0]


def _read_rating(reply: Reply, low: int, high: int) -> tuple[float, int] | Unscored:
    """The rating, and where its number begins in the text."""
    if (problem := _unfinished(reply)) is not None:
        return problem

    def unscored(detail: str, reason: Reason = Reason.MALFORMED) -> Unscored:
        return Unscored(reason, detail, raw=reply.text)

    text = _own_words(reply.text, low, high)
    claims = list(_claims(text, high))
    if not claims and (alone := ALONE.fullmatch(text)) is not None:
        claims = [_Claim(_value(alone.group(1)), alone.start(1), True)]
    if not claims:
        return unscored(f"there is no rating such as 'Rating: {high - 3}/{high}'")
    last = claims[-1]
    values = dict.fromkeys(claim.value for claim in claims)
    if len(values) > 1 and not last.own_line:
        told = ", ".join("an unclear one" if value is None else f"{value:g}" for value in values)
        return unscored(f"several different ratings: {told[:200]}")
    if last.value is None:
        return unscored(f"the rating is not one number from {low} to {high}")
    if not low <= last.value <= high:
        return unscored(f"{last.value:g} is not from {low} to {high}", Reason.OUT_OF_RANGE)
    return last.value, last.start


def _own_words(text: str, low: int, high: int) -> str:
    """The judge's words, each at its own place: thoughts, quotations and the scale's description become blanks."""
    text = without_thoughts(text).translate(WIDE)
    if (whole := WHOLE_QUOTE.fullmatch(text)) is not None:
        return " " * whole.start(1) + whole.group(1)
    scale = rf"\({SPACE}{low}{SPACE}(?:[{DASH}]|to){SPACE}{high}{SPACE}\)"
    for gone in (QUOTED, re.compile(scale)):
        text = gone.sub(lambda found: " " * len(found.group()), text)
    return text


def _claims(text: str, high: int) -> Iterator[_Claim]:
    """The ratings in a text, in order; fractions and numbers that nobody calls a rating are none."""
    for found in CLAIM.finditer(text):
        number, gap, scale = found["number"], found["gap"], found["scale"]
        labelled = gap is not None or number is None
        if not labelled and (scale is None or _value(scale) != high):
            continue
        value = None
        if number is not None and found["other"] is None and (scale is None or _value(scale) == high):
            value = _value(number)
        if gap and "\n" in gap and scale is None and BARE_REST.match(text, found.end()) is None:
            value = None  # "Rating:" and then a numbered list
        yield _Claim(value, found.start("number"), labelled and found["line"] is not None)


def _value(number: str) -> float | None:
    """A number as written; None for "7,5" and "1.2.3", which are read in two ways or in none."""
    if "," in number or number.count(".") > 1:
        return None
    return float(number.replace("\u2212", "-"))


# G-Eval


def expected_rating(reply: Reply, low: int = 1, high: int = 10) -> float | None:
    """The mean rating under the judge's own probabilities, at the place of the rating's number.

    Finer than the rating itself, and less often tied (G-Eval, Liu et al. 2023, section 2). The probabilities of whole
    numbers from `low` to `high` are scaled to a sum of 1. A trap: many tokenizers write "10" as "1" and "0", so a "1"
    may be the beginning of "10". Where it was chosen, the next token's probabilities part the two; where it was not,
    it counts only if a token "10" occurs anywhere in the reply, and is left out otherwise.

    Returns:
        None without log-probabilities, without a rating that is a whole number, or where the numbers in range have
        together less than half of the probability.
    """
    if not reply.tokens:
        return None
    found = _read_rating(reply, low, high)
    offset = "".join(choice.token for choice in reply.tokens).find(reply.text)
    if isinstance(found, Unscored) or not found[0].is_integer() or offset < 0:
        return None
    place, here = offset + found[1], 0
    while place >= len(reply.tokens[here].token):
        place -= len(reply.tokens[here].token)
        here += 1
    chosen = _digits(reply.tokens[here].token)
    after = reply.tokens[here + 1].top if here + 1 < len(reply.tokens) else {}
    whole_tokens = any(_digits(token) == str(high) for choice in reply.tokens for token in (choice.token, *choice.top))
    masses: dict[int, float] = {}

    def add(digits: str, mass: float) -> None:
        if digits and low <= int(digits) <= high:
            masses[int(digits)] = masses.get(int(digits), 0.0) + mass

    for token, logprob in reply.tokens[here].top.items():
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
    """The digits that a token consists of, but for spaces and emphasis; nothing for any other token."""
    bare = token.strip(" \t\n▁Ġ*_")
    return bare if bare.isascii() and bare.isdigit() and len(bare) < 10 else ""


def _begins_another(digits: str, low: int, high: int) -> bool:
    return any(str(n).startswith(digits) and str(n) != digits for n in range(low, high + 1)) if digits else False


def _probability(logprob: float) -> float:
    """exp, for what servers send: no log-probability above 0, and none that is not a number."""
    return math.exp(min(0.0, logprob)) if not math.isnan(logprob) else 0.0
