"""Classification of failed requests to a judge.

Exception types differ between libraries and are not used: an exception with an HTTP status is classified by it, one
without is a connection error.
"""

from __future__ import annotations

import math
import re
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from pydantic import SecretStr

from utilities.core import Reason

__all__ = ["LONGEST_WAIT", "Trouble", "diagnose", "scrubbed"]

LONGEST_WAIT = 120.0
"""Maximum seconds of a server's Retry-After that are respected."""

TOO_LONG = re.compile(
    r"(?:context|input|prompt|sequence).?(?:length|window|size|tokens)|too long|too many (?:\w+ )?tokens"
    r"|(?:prompt|input|text|sequence|conversation|messages?|request|payload|body)\b.{0,60}"
    r"(?:too large|too big|exceed|longer than|larger than|more than|over the)"
    r"|exceed.{0,60}(?:context|prompt|input|sequence|tokens)|tokens?\b.{0,40}(?:more than|exceed)"
    r"|\binputs?\b.{0,40}must (?:have|be) (?:less|<)|prompt has \d+ tokens|max.?tokens must be at least 1, got -",
    re.IGNORECASE,
)
WITHHELD = re.compile(
    r"content.?(?:filter|management|polic|(?:exists )?risk)|moderation|flagged|guardrail|data_inspection|敏感"
    r"|sensitive[ _](?:words?|content)|safety (?:filter|system)|inappropriate content"
    r"|(?:prompt|input|output|content|text)\b.{0,30}\bblocked",
    re.IGNORECASE,
)
"""Messages of servers that refuse one text; other texts may still be accepted."""

NO_CREDIT = re.compile(r"credit balance|insufficient (?:balance|credit|funds)", re.IGNORECASE)
WRONG_KEY = re.compile(r"(?:invalid|incorrect) api.?key|api.?key (?:is )?(?:not valid|invalid)", re.IGNORECASE)
NO_MODEL = re.compile(r"model_not_found|model\b.{0,80}(?:does not exist|not found)", re.IGNORECASE)
"""Messages of servers that use another status, mostly 400, where 402, 401 and 404 are defined."""

TAKES_NOTHING = "The server accepts no request of this form"
KEYS = re.compile(r"\b(?:sk|pk|rk|gsk|xai|key)-[\w-]{8,}|(?<=\bBearer )[\w.~+/=-]+", re.IGNORECASE)
"""Matches keys of common providers, complete or partial."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A failed request."""

    words: str
    """The error message, in one line, without keys."""
    then: Literal["again", "stop", "skip", "examine"]
    """again: the request may be repeated; stop: no request can succeed; skip: only this one cannot; examine: `stop` or
    `skip`, to be determined by a harmless request."""
    status: int | None = None
    """The HTTP status; None if there was no answer."""
    retry_after: float | None = None
    """Seconds of the server's Retry-After, at most `LONGEST_WAIT`."""
    sent: bool = True
    """False if no server was reached."""
    advice: str = ""
    """Advice to the user if no request can succeed."""
    reason: Reason = Reason.TRANSPORT
    """Why the item is unscored."""
    param: str = ""
    """The parameter in the error's field `param`."""
    unpaid: bool = False
    """The reply was an error with HTTP status 200."""

    @property
    def busy(self) -> bool:
        """Whether the server is running but overloaded."""
        return self.status == 429 or self.retry_after is not None

    @property
    def maybe_paid(self) -> bool:
        """Whether the request may be charged: it was sent, and no error was returned."""
        return self.sent and not self.unpaid and (self.status is None or self.status < 400)


def diagnose(error: Exception, secrets: Iterable[SecretStr] = (), now: datetime | None = None) -> Trouble:
    """Classifies an exception of a chat model.

    Args:
        error: The exception.
        secrets: Keys to remove from messages; some servers repeat them.
        now: Reference time for a date in Retry-After; by default the current time.
    """
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    body = getattr(error, "body", None)
    if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping):
        body = body["error"]
    fields: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    silent = "no reply in time" if isinstance(error, TimeoutError) else type(error).__name__
    unpaid = type(error).__name__ == "NotACompletionError"
    words = scrubbed(str((not unpaid and fields.get("message")) or str(error) or silent), secrets)
    if not isinstance(status, int):
        if unpaid:
            return Trouble(words, "again", unpaid=True, advice="Check --judge-url: a chat completion was expected")
        return _connection_trouble(error, words)
    words = words if unpaid else f"HTTP {status}, {words}"
    param = str(fields.get("param") or "")
    about = f"{fields.get('code')} {fields.get('type')} {words}"
    codes = {fields.get("code"), fields.get("type")}
    refusal = 400 <= status < 429 and status not in {408, 409, 425}
    if status == 402 or (status == 429 and "insufficient_quota" in codes) or (refusal and NO_CREDIT.search(about)):
        return Trouble(words, "stop", status, advice="The account has no credit left", unpaid=unpaid)
    if status == 401 or (refusal and WRONG_KEY.search(about)):
        return Trouble(words, "stop", status, advice=CHECK_KEY, unpaid=unpaid)
    if status == 404 or (refusal and NO_MODEL.search(about)):
        advice = "Check the model's name, --judge, and the address, --judge-url"
        return Trouble(words, "stop", status, advice=advice, unpaid=unpaid)
    if status == 407:
        advice = "The proxy of the environment needs credentials: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"
        return Trouble(words, "stop", status, advice=advice)
    if status in {408, 409, 425, 429} or status >= 500 or status < 400:
        wait = _retry_after(getattr(response, "headers", None) or {}, now or datetime.now(UTC))
        return Trouble(words, "again", status, wait, unpaid=unpaid)
    if WITHHELD.search(about):
        return Trouble(words, "skip", status, reason=Reason.REFUSED, unpaid=unpaid)
    if status == 413 or (
        TOO_LONG.search(about) and not param.startswith(("temperature", "logprobs", "response_format"))
    ):
        return Trouble(words, "skip", status, reason=Reason.TRUNCATED, unpaid=unpaid)
    advice = CHECK_KEY if status == 403 else TAKES_NOTHING
    return Trouble(words, "examine", status, advice=advice, reason=Reason.REFUSED, param=param, unpaid=unpaid)


CHECK_KEY = "Check the key: --judge-key-env or --judge-key-file"


def _connection_trouble(error: Exception, words: str) -> Trouble:
    """Classifies an error without an HTTP status."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            words = f"the server's certificate is not trusted: {cause.verify_message}"
            advice = "Set the environment variable SSL_CERT_FILE to a file with the certificate of its authority"
            return Trouble(words, "stop", sent=False, advice=advice)
        if isinstance(cause, ssl.SSLError):
            words = f"no secure connection: {getattr(cause, 'reason', None) or cause}"
            return Trouble(words, "stop", sent=False, advice="Check --judge-url: does the server speak https?")
        if type(cause).__name__ == "ProxyError":
            advice = "Check the proxy of the environment: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY"
            return Trouble(
                f"the proxy refused the connection: {scrubbed(str(cause))}", "stop", sent=False, advice=advice
            )
    return Trouble(words, "again", sent=not _never_sent(error))


def scrubbed(words: str, secrets: Iterable[SecretStr] = ()) -> str:
    """The message as one line of at most 300 characters without secrets."""
    for secret in secrets:
        if len(key := secret.get_secret_value()) >= 8:  # shorter ones are placeholders and may be parts of words
            words = words.replace(key, "***")
    words = " ".join(KEYS.sub("***", words).split())
    return words if len(words) <= 300 else words[:299] + "…"


def _never_sent(error: BaseException) -> bool:
    """Whether no connection was made: closed port or unknown host."""
    return any(
        isinstance(one, ConnectionRefusedError | socket.gaierror)
        or type(one).__name__ in {"ConnectError", "ConnectTimeout"}
        for one in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def _retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Parses Retry-After, seconds or a date (RFC 9110, section 10.2.3), to seconds; None if missing or invalid."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (until.replace(tzinfo=until.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), LONGEST_WAIT) if math.isfinite(seconds) else None
