"""HTTP client for an OpenAI-compatible server that loads LoRA adapters at runtime, such as vLLM's.

Transient errors (lost connection, 408, 429, 5xx, timeout) are retried with exponential backoff and full jitter, for at
least `PATIENCE` seconds; other errors are raised with the server's message.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from typing import Any
from urllib.parse import urlsplit

from httpx2 import AsyncClient, HTTPError, Limits, Response, Timeout
from pydantic import SecretStr

from harness.engines.base import Times
from harness.engines.settings import EngineSettings
from utilities.errors import UserError
from utilities.judges.concurrency import AdaptiveLimiter
from utilities.judges.request_errors import Trouble, diagnose
from utilities.judges.settings import is_loopback

__all__ = ["PROBE", "LoraServer", "Refused"]

FIRST_WAIT, MOST_WAIT = 1.0, 10.0
"""Upper limit in seconds of the wait before the second attempt, which doubles, and of any wait."""
PATIENCE, ATTEMPTS = 75.0, 4
"""Seconds and attempts after which a server counts as unreachable; both must be exceeded."""
CONNECT, REPLY, FAREWELL = 10.0, 600.0, 10.0
"""Timeouts in seconds: connecting, the response to many prompts, unloading an adapter."""
PROBE = "The 3rd probe's tokens:\n\t{'naïve': [0.25, -1e9]}  # Größe, 東京"
"""Text that different tokenizers split differently."""


class Refused(UserError):  # noqa: N818
    """An error response that a retry would not change."""

    def __init__(self, message: str, trouble: Trouble) -> None:
        super().__init__(message)
        self.trouble = trouble


class _Status(Exception):  # noqa: N818
    """An HTTP error response; its text is the server's message."""

    def __init__(self, response: Response) -> None:
        super().__init__(_said(response))
        self.response = response


class LoraServer:
    """Client of one server; used from one event loop.

    Args:
        settings: Address, model, key, concurrency.
        times: `forward` accumulates the seconds during which at least one request is in flight.

    Raises:
        UserError: The address is missing or invalid.
    """

    model: str
    """The base model's name on the server."""
    context: int | None
    """Maximum tokens of prompt plus answer; None if the server does not report it."""

    def __init__(self, settings: EngineSettings, times: Times) -> None:
        self.url = _address(settings.base_url)
        self._settings, self._times = settings, times
        key = os.environ.get(settings.server_key_env)
        self._key = SecretStr(key) if key else None
        self._limiter = AdaptiveLimiter(settings.concurrency)
        self._random = random.Random()  # separate from the global generator, so waits do not change its state
        self._answered, self._flying, self._since = False, 0, 0.0
        # For loopback addresses, neither proxies of the environment nor certificates are used.
        local: dict[str, Any] = {"trust_env": False, "verify": SSLContext(PROTOCOL_TLS_CLIENT)}
        self._http = AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=Timeout(REPLY, connect=CONNECT),
            limits=Limits(max_connections=None),
            follow_redirects=True,
            **(local if is_loopback(self.url) else {}),
        )

    @property
    def busy(self) -> float:
        """Seconds until now during which at least one request was in flight."""
        return self._times.forward + (time.perf_counter() - self._since if self._flying else 0.0)

    async def greet(self, probe: Sequence[int]) -> None:
        """Reads the base model's name and context length, and checks the server's protocol, model and tokenizer.

        Args:
            probe: Token ids of `PROBE` by the local tokenizer.

        Raises:
            UserError: No server, a wrong key, no such model, another protocol, another tokenizer.
        """
        bases = await self._bases()
        wanted = self._settings.server_model
        if not bases or (wanted is not None and wanted not in bases):
            missing = f"no model {wanted!r}" if wanted else "no model"
            raise UserError(f"{self.url} serves {missing}; it has: {', '.join(bases) or 'nothing'}")
        if wanted is None and len({one.get("root", name) for name, one in bases.items()}) > 1:
            raise UserError(f"{self.url} serves several models; name one with --server-model: {', '.join(bases)}")
        self.model = wanted or next(iter(bases))
        self.context, self._root = bases[self.model].get("max_model_len"), bases[self.model].get("root")
        root = self.url.removesuffix("/v1")
        try:
            answer = await self.ask("POST", f"{root}/tokenize", {"model": self.model, "prompt": PROBE})
            tokens = answer.json()["tokens"]
        except (Refused, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.url} does not say how it tokenizes ({root}/tokenize), so it is unknown whether its base"
                f" model is the right one; vLLM's server does ({error})"
            ) from None
        if tokens != list(probe):
            raise UserError(
                f"{self.url}: its model {self.model!r} has another tokenizer than the base model here: it is another"
                " model; serve the same one, or name it with --base-model"
            )

    async def _bases(self) -> dict[str, dict[str, Any]]:
        """The base models that the server lists, by name."""
        answer = await self.ask("GET", "/models")
        try:
            return {one["id"]: one for one in answer.json()["data"] if not one.get("parent")}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{self.url}: what answers there does not speak OpenAI's protocol") from None

    async def check_base(self) -> None:
        """Checks that the server lists the base model that it listed at the start.

        Raises:
            UserError: It does not: it was restarted with another one.
        """
        bases = await self._bases()
        if self.model not in bases or bases[self.model].get("root") != self._root:
            now = ", ".join(f"{name} ({one.get('root')})" for name, one in bases.items())
            raise self.other_base(f"it was {self.model} ({self._root}) and is now {now or 'none'}")

    def other_base(self, how: str) -> UserError:
        """The error for a server that was restarted with another base model."""
        return UserError(
            f"{self.url} no longer serves the base model of the start of the run: {how}; restart it with that model,"
            " then resume the run"
        )

    async def complete(self, model: str, prompts: Sequence[Sequence[int]], **options: Any) -> list[dict[str, Any]]:
        """Greedy completion: one choice per prompt (token ids), in the order of the prompts.

        Raises:
            Refused: The server rejects the request; status 404 if it does not know `model`.
            UserError: The server is unreachable, or its response is not a completion.
        """
        # Overrides the model's generation config, which the server would use by default.
        body = {"model": model, "prompt": list(prompts), "temperature": 0.0, "repetition_penalty": 1.0, **options}
        answer = await self.ask("POST", "/completions", body)
        try:
            choices = sorted(answer.json()["choices"], key=lambda choice: choice["index"])
            if [choice["index"] for choice in choices] != list(range(len(prompts))):
                raise ValueError("not one choice a prompt")
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{self.url}: what it answers is no completion of OpenAI's protocol") from None
        return choices

    async def load(self, name: str, folder: Path) -> None:
        """Loads an adapter from a folder that the server can read.

        Raises:
            Refused: The server rejects it.
        """
        try:
            body = {"lora_name": name, "lora_path": str(folder)}
            await self.ask("POST", "/load_lora_adapter", body, final=500)  # vLLM reports invalid adapters as 500
        except Refused as refused:
            if "already been loaded" not in str(refused):  # by an attempt whose response was lost
                raise

    async def unload(self, name: str) -> None:
        """Unloads an adapter; errors and timeouts are ignored."""
        with suppress(UserError, TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await self.ask("POST", "/unload_lora_adapter", {"lora_name": name}, attempts=1, patience=0.0)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        final: int | None = None,
        attempts: int = ATTEMPTS,
        patience: float | None = None,
    ) -> Response:
        """Sends a request, with retries, and returns the response.

        Args:
            method: HTTP method.
            path: Path after the base URL, or a full URL.
            body: Sent as JSON.
            final: A usually transient status that is not retried here.
            attempts: Minimum number of attempts before the server counts as unreachable.
            patience: Minimum seconds of retries; by default `PATIENCE`.

        Raises:
            Refused: The server rejects the request.
            UserError: The server is unreachable.
        """
        url = path if "://" in path else self.url + path
        patience = PATIENCE if patience is None else patience
        began, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            async with self._limiter.slot() as slot:
                try:
                    with self._in_flight():
                        answer = await self._http.request(method, url, json=body)
                    if answer.status_code >= 400:
                        raise _Status(answer)
                except (_Status, HTTPError) as error:
                    trouble = diagnose(error, [self._key] if self._key else [])
                else:
                    slot.went_well()
                    self._answered = True
                    return answer
                if trouble.then != "again" or (final is not None and trouble.status == final):
                    raise Refused(self._words(trouble), trouble)
                slot.met_trouble()
            if not self._answered and not trouble.sent:
                raise UserError(
                    f"{self.url}: no server answers there ({trouble.words}); start one, for example with"
                    " `python run.py serve --base-model ...`, or correct --base-url"
                )
            if attempt >= attempts and time.monotonic() - began >= patience:
                raise UserError(
                    f"{self.url}: the server does not answer any more, after {attempt} attempts in"
                    f" {time.monotonic() - began:.0f} seconds ({trouble.words}); nothing is lost: start it again, then"
                    " resume the run"
                )
            await self._rest(attempt, trouble.retry_after)

    async def _rest(self, attempt: int, retry_after: float | None) -> None:
        seconds = self._random.uniform(0.0, min(MOST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)))
        with self._limiter.paused() if retry_after is not None else nullcontext():
            await asyncio.sleep(seconds + (retry_after or 0.0))

    @contextmanager
    def _in_flight(self) -> Iterator[None]:
        if not self._flying:
            self._since = time.perf_counter()
        self._flying += 1
        try:
            yield
        finally:
            self._flying -= 1
            if not self._flying:
                self._times.forward += time.perf_counter() - self._since

    def _words(self, trouble: Trouble) -> str:
        name = self._settings.server_key_env
        has = f"the key in the environment variable {name} is not accepted" if self._key else f"{name} is not set"
        advice = f": {has}, where the server's key is looked for" if trouble.status in {401, 403} else ""
        return f"{self.url}: {trouble.words.rstrip('. ')}{advice}"


def _address(url: str | None) -> str:
    """The base URL with its /v1."""
    if not url:
        raise UserError("--engine remote: name its server with --base-url, such as http://127.0.0.1:8000/v1")
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise UserError(f"--base-url {url}: no address of a server; expected one like http://127.0.0.1:8000/v1")
    if parts.username or parts.password:
        raise UserError("--base-url: an address with a password in it would be written into the run's settings")
    return url.rstrip("/") if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/v1"


def _said(response: Response) -> str:
    """The message of an error response: its `error`, `detail` or `message` field, else its text."""
    try:
        data = response.json()
    except ValueError:
        return response.text.strip()[:200] or response.reason_phrase
    data = data.get("error") or data.get("detail") or data.get("message") if isinstance(data, dict) else data
    return str(data.get("message") if isinstance(data, dict) else data)
