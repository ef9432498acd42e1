"""Why a request to a judge brought no reply, and what follows from it.

Libraries raise what they like, so nothing is told from their types: an HTTP status decides, wherever an exception
carries one, and what carries none is a matter of the connection.
"""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from pydantic import SecretStr

from utilities.core import Reason

__all__ = ["LONGEST_WAIT", "Trouble", "diagnose", "scrubbed"]

LONGEST_WAIT = 120.0
"""Seconds that a server's Retry-After is believed."""

TOO_LONG = re.compile(r"context.(?:length|window)|too (?:long|large)|too many (?:\w+ )?tokens", re.IGNORECASE)
WITHHELD = re.compile(r"content.?(?:filter|management|polic)|moderation|flagged", re.IGNORECASE)
"""What servers say of one message that they do not take; it is no reason to give up the others."""

KEYS = re.compile(r"\b(?:sk|pk|rk|gsk|xai|key)-[\w-]{8,}|(?<=\bBearer )[\w.~+/=-]+", re.IGNORECASE)
"""What looks like a key of the usual providers, in whole or in part."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A request that brought no reply."""

    words: str
    """What the server or the connection said, in one line, without keys."""
    then: Literal["again", "stop", "skip"]
    """Whether the request may be repeated, no request can succeed, or only this one cannot."""
    status: int | None = None
    """The HTTP status, where there was an answer."""
    retry_after: float | None = None
    """Seconds that the server asks to wait, at most `LONGEST_WAIT`."""
    sent: bool = True
    """False where no server was reached."""
    advice: str = ""
    """What the user can do where nothing can succeed."""
    reason: Reason = Reason.TRANSPORT
    """What an item is unscored for."""

    @property
    def busy(self) -> bool:
        """Whether the server works, and has only no time for this now."""
        return self.status == 429 or self.retry_after is not None

    @property
    def maybe_paid(self) -> bool:
        """Whether a server may have worked on it: sent, and neither refused nor failed in so many words."""
        return self.sent and (self.status is None or self.status < 400)


def diagnose(error: Exception, secrets: Iterable[SecretStr] = (), now: datetime | None = None) -> Trouble:
    """What an exception of a chat model means.

    Args:
        error: What was raised.
        secrets: What must not appear in words; servers repeat keys in what they say about them.
        now: Against which a date in Retry-After is held; by default the time of the call.
    """
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    body = getattr(error, "body", None)
    if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping):
        body = body["error"]
    said: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    silent = "no reply in time" if isinstance(error, TimeoutError) else type(error).__name__
    words = scrubbed(str(said.get("message") or str(error) or silent), secrets)
    if not isinstance(status, int):
        return Trouble(words, "again", sent=not _never_sent(error))
    words = f"HTTP {status}, {words}"
    if status in {400, 403, 413, 422}:
        about = f"{said.get('code')} {words}"
        if TOO_LONG.search(about):
            return Trouble(words, "skip", status, reason=Reason.TRUNCATED)
        if WITHHELD.search(about):
            return Trouble(words, "skip", status, reason=Reason.REFUSED)
    if status == 402 or (status == 429 and "insufficient_quota" in {said.get("code"), said.get("type")}):
        return Trouble(words, "stop", status, advice="The account has no credit left")
    if status in {401, 403}:
        return Trouble(words, "stop", status, advice="Check the key: --judge-key-env or --judge-key-file")
    if status == 404:
        return Trouble(words, "stop", status, advice="Check the model's name, --judge, and the address, --judge-url")
    if status in {408, 409, 425, 429} or status >= 500 or status < 400:
        wait = _retry_after(getattr(response, "headers", None) or {}, now or datetime.now(UTC))
        return Trouble(words, "again", status, wait)
    return Trouble(words, "skip", status, advice="The server does not take what it is asked")


def scrubbed(words: str, secrets: Iterable[SecretStr] = ()) -> str:
    """One line of at most 300 characters in which no secret is left."""
    for secret in secrets:
        if len(key := secret.get_secret_value()) >= 8:  # shorter ones are placeholders, and parts of ordinary words
            words = words.replace(key, "***")
    words = " ".join(KEYS.sub("***", words).split())
    return words if len(words) <= 300 else words[:299] + "…"


def _never_sent(error: BaseException) -> bool:
    """Whether no connection came about: nobody listens there, or there is no such place."""
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
    """The seconds of Retry-After, which holds seconds or a date (RFC 9110, section 10.2.3)."""
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
