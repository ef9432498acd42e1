"""User settings of the judges: models, prices and limits, without any key.

The settings are written into run folders, so they contain only the location of a key: an environment variable or a
file. The key itself is only held as a `SecretStr`.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from utilities.cache_folder import cache_folder
from utilities.errors import UserError

if TYPE_CHECKING:
    from utilities.judges.budget import Price

__all__ = ["BUNDLED", "EMBEDDED", "JudgeSettings", "check_encrypted", "is_loopback"]

EMBEDDED = "embedded"
"""Name of the embedded model's judge."""
BUNDLED = frozenset({EMBEDDED, "smollm2"})
"""Names of the judges that ship with the project; they read short prompts only."""


KEY_ENV = "OPENAI_API_KEY"
"""The environment variable that holds the key by default."""


class JudgeSettings(BaseModel):
    """Judges and their limits; the names are those of the flags."""

    # Inputs are hidden in pydantic's messages: a user may have passed a key instead of a variable's name.
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)

    judge: tuple[str, ...] = ()
    """The judges: 'embedded', 'smollm2', a model at --judge-url or OpenAI, or langchain's provider:model; several are a
    jury."""
    judge_url: str | None = None
    """Base URL of an OpenAI-compatible server, such as http://localhost:8000/v1."""
    judge_key_env: str = KEY_ENV
    """Name of the environment variable that holds the API key; providers of langchain have their own by default."""
    judge_key_file: Path | None = None
    """File that holds the API key and nothing else; comes before the environment."""
    allow_plain_http: bool = False
    """Send a key over plain HTTP to another machine, where everyone on the way can read it."""
    judge_temperature: float = Field(0.0, ge=0, le=2)
    """Temperature of the judges; above 0, --judge-repeats says more than a single judgement."""
    judge_repeats: int = Field(1, ge=1)
    """Times each judge is asked the same."""
    judge_in_flight: int = Field(32, ge=1)
    """Most requests to one judge at the same time; fewer where the server asks for patience."""
    judge_timeout: float = Field(60.0, gt=0, allow_inf_nan=False)
    """Seconds to wait for a judge's reply."""
    judge_max_tokens: int | None = Field(None, ge=1)
    """Most tokens of a judge's reply, its reasoning included; by default 8 to 1,024, by prompt, and 4,096 for judges
    that turn out to reason."""
    judge_price: str | None = None
    """Price of all judges but the bundled ones, as IN,OUT: US dollars for a million tokens of prompts, of replies."""
    allow_unknown_price: bool = False
    """Go on without a price; dollars are then not counted."""
    budget_tokens: int | None = Field(None, ge=1)
    """Most tokens that the judges of a run may use, prompts and replies together."""
    budget_usd: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Most US dollars that the judges of a run may cost."""
    judge_cache: Path | None = None
    """File that keeps judgements, shared by all runs; by default judgements.sqlite in the user's cache folder."""
    factuality: Literal["auto", "sentences", "claims", "agent", "none"] = "auto"
    """How facts are checked beside a topic; auto: by sentences with a bundled judge, by claims with others."""
    evidence: Path | None = None
    """Documents that claims are checked against, a folder of text, markdown or JSONL, or a search of your own,
    FILE.py:NAME; the bundled corpus by default."""
    monitor_share: float = Field(0.2, ge=0, lt=1)
    """Share of the dev instructions that are never optimised and show whether answers to others improve too."""
    canary_every: int = Field(2, ge=0)
    """Iterations between two tests of the judge with answers that are bad by construction; 0 for none."""

    @field_validator("judge", mode="before")
    @classmethod
    def _single(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value  # as in a task file

    @field_validator("judge")
    @classmethod
    def _jury(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not name.strip() for name in value):
            raise ValueError("a judge's name is empty")
        for name in value:
            if value.count(name) > 1:
                raise ValueError(f"{name!r} is named twice; judge_repeats asks a judge several times")
        return value

    @field_validator("judge_url")
    @classmethod
    def _plain_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        # These messages do not repeat the URL, which may contain a password.
        try:
            parts = urlsplit(value)
            valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid or value != value.strip():
            raise ValueError("not a URL such as http://localhost:8000/v1")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                "credentials or a query in a base URL are refused; keys come from judge_key_env or judge_key_file"
            )
        return value.rstrip("/")

    @field_validator("judge_key_env")
    @classmethod
    def _variable(cls, value: str) -> str:
        if not value.isascii() or not value.isidentifier():
            raise ValueError("expected the name of an environment variable, such as OPENAI_API_KEY, and never the key")
        return value

    @field_validator("judge_price")
    @classmethod
    def _price(cls, value: str | None) -> str | None:
        if value is not None:
            _as_price(value)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> JudgeSettings:
        if self.judge_url is not None and not set(self.judge) - BUNDLED:
            raise ValueError("judge_url is given, but no model: name one with judge")
        if self.judge_price is not None and self.allow_unknown_price:
            raise ValueError("judge_price and allow_unknown_price exclude each other")
        return self

    @property
    def price(self) -> Price | None:
        """`judge_price` as numbers."""
        return None if self.judge_price is None else _as_price(self.judge_price)

    @property
    def cache_path(self) -> Path:
        """The file of the judgements: `judge_cache`, or the one in $XDG_CACHE_HOME."""
        if self.judge_cache is not None:
            return self.judge_cache.expanduser()
        return cache_folder() / "judgements.sqlite"

    @property
    def names_key(self) -> bool:
        """Whether the user configured the location of the key."""
        return self.judge_key_file is not None or self.judge_key_env != KEY_ENV

    def key(self) -> SecretStr | None:
        """The API key, from the file or the environment; None if neither has one.

        Raises:
            UserError: The file cannot be read, or its content cannot be a key. No message repeats it.
        """
        if self.judge_key_file is None:
            content, location = os.environ.get(self.judge_key_env, ""), f"the environment variable {self.judge_key_env}"
        else:
            location = f"judge_key_file {self.judge_key_file}"
            try:
                content = self.judge_key_file.expanduser().read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not a text file"
                raise UserError(f"{location} cannot be read: {reason}") from None
            if not content.strip():
                raise UserError(f"{location} is empty; expected an API key in it")
        content = content.strip()
        # The key goes into an HTTP header, and the libraries' own errors would quote it.
        if any(not "!" <= character <= "~" for character in content):
            raise UserError(f"{location} holds no API key: expected one word of ASCII characters")
        return SecretStr(content) if content else None


def check_encrypted(url: str, flag: str, *, allow: bool) -> None:
    """Checks an address that a key is sent to.

    Args:
        url: The address.
        flag: The flag that set it, for the message.
        allow: Whether plain HTTP is accepted.

    Raises:
        UserError: Plain HTTP to another machine.
    """
    if urlsplit(url).scheme == "http" and not is_loopback(url) and not allow:
        raise UserError(
            f"{flag} is plain HTTP to another machine, where the key could be read on the way; use https, or add"
            " --allow-plain-http"
        )


def is_loopback(url: str) -> bool:
    """Whether a URL is local; then no key is needed, and judgements are free by default."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _as_price(text: str) -> Price:
    from utilities.judges.budget import Price  # lazy import: --help does not need asyncio

    try:
        prompt, completion = (float(part) for part in text.split(","))
        return Price(prompt, completion)
    except ValueError:
        raise ValueError(f"{text!r} is no price; expected IN,OUT in US dollars, such as 0.15,0.6") from None
