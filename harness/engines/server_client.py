"""An OpenAI-compatible server that loads LoRA adapters while it runs, as vLLM's does: what is asked of it over HTTP.

What passes (a lost connection, 408, 429, 5xx, a timeout) is asked again with growing random waits (full jitter), for a
minute and more where the server is gone; what cannot pass is one sentence with the server's own words.
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
"""Seconds before a second attempt at most, and before any; doubled in between."""
PATIENCE, ATTEMPTS = 75.0, 4
"""Seconds and attempts that a request may take before its server counts as gone: it has both."""
CONNECT, REPLY, FAREWELL = 10.0, 600.0, 10.0
"""Seconds for a connection, for a reply to many prompts, and for unloading an adapter that nobody needs any more."""
PROBE = "The 3rd probe's tokens:\n\t{'naïve': [0.25, -1e9]}  # Größe, 東京"
"""Text that tokenizers part differently."""


class Refused(UserError):  # noqa: N818 - it says what the server did
    """An answer that asking again would not change."""

    def __init__(self, told: str, trouble: Trouble) -> None:
        super().__init__(told)
        self.trouble = trouble


class _Status(Exception):  # noqa: N818
    """An answer that is an error; its text is what the server says about it."""

    def __init__(self, response: Response) -> None:
        super().__init__(_said(response))
        self.response = response


class LoraServer:
    """A server, asked from one event loop.

    Args:
        settings: Address, model, key, concurrency.
        times: Gets the seconds during which at least one request is in flight.

    Raises:
        UserError: No address is given, or one that is none.
    """

    model: str
    """The base model's name there."""
    context: int | None
    """Tokens that a prompt and its answer may have there, where the server says so."""

    def __init__(self, settings: EngineSettings, times: Times) -> None:
        self.url = _address(settings.base_url)
        self._settings, self._times = settings, times
        found = os.environ.get(settings.server_key_env)
        self._key = SecretStr(found) if found else None
        self._limiter = AdaptiveLimiter(settings.concurrency)
        self._random = random.Random()  # waits must not move the generator that others seed
        self._answered, self._flying, self._since = False, 0, 0.0
        # On this machine no proxy of the environment is asked, and no certificates are read.
        local: dict[str, Any] = {"trust_env": False, "verify": SSLContext(PROTOCOL_TLS_CLIENT)}
        self._http = AsyncClient(
            headers={"Authorization": f"Bearer {found}"} if found else {},
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
        """Learns the base model's name and context, and checks that the server is one of the right kind and model.

        Args:
            probe: The tokens of `PROBE` in the local base model.

        Raises:
            UserError: No server, a wrong key, no such model, another protocol, another tokenizer.
        """
        answer = await self.ask("GET", "/models")
        try:
            bases = {one["id"]: one for one in answer.json()["data"] if not one.get("parent")}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{self.url}: what answers there does not speak OpenAI's protocol") from None
        wanted = self._settings.server_model
        if not bases or (wanted is not None and wanted not in bases):
            asked = f"no model {wanted!r}" if wanted else "no model"
            raise UserError(f"{self.url} serves {asked}; it has: {', '.join(bases) or 'nothing'}")
        if wanted is None and len({one.get("root", name) for name, one in bases.items()}) > 1:
            raise UserError(f"{self.url} serves several models; name one with --server-model: {', '.join(bases)}")
        self.model = wanted or next(iter(bases))
        self.context = bases[self.model].get("max_model_len")
        root = self.url.removesuffix("/v1")
        try:
            answer = await self.ask("POST", f"{root}/tokenize", {"model": self.model, "prompt": PROBE})
            tokens = answer.json()["tokens"]
        except (Refused, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.url} does not say how it tokenizes ({root}/tokenize), so it cannot be told whether its base"
                f" model is the right one; vLLM's server does ({error})"
            ) from None
        if tokens != list(probe):
            raise UserError(
                f"{self.url}: its model {self.model!r} has another tokenizer than the base model here: it is another"
                " model; serve the same one, or name it with --base-model"
            )

    async def complete(self, model: str, prompts: Sequence[Sequence[int]], **options: Any) -> list[dict[str, Any]]:
        """The choices of one greedy completion a prompt (token ids), in their order.

        Raises:
            Refused: Not served; status 404 where the server does not know `model`.
            UserError: The server is gone, or answers something else.
        """
        # What a server takes from the model's generation config where it is not told: greedy decoding is greedy.
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
        """Loads an adapter from a folder that the server sees.

        Raises:
            Refused: The server cannot, in its words.
        """
        try:
            body = {"lora_name": name, "lora_path": str(folder)}
            await self.ask("POST", "/load_lora_adapter", body, final=500)  # with which vLLM says what is wrong with it
        except Refused as refused:
            if "already been loaded" not in str(refused):  # by an attempt whose answer was lost
                raise

    async def unload(self, name: str) -> None:
        """Unloads an adapter; a server that is gone or does not know it has done so."""
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
        """One answer, after as many attempts as it takes.

        Args:
            method: Of HTTP.
            path: After the base URL; or a whole URL.
            body: Sent as JSON.
            final: A status that would pass elsewhere and does not here.
            attempts: Made at least before the server counts as gone.
            patience: Seconds that it is waited for; by default `PATIENCE`.

        Raises:
            Refused: The server's answer is no.
            UserError: The server is gone, or was never there.
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


def _address(given: str | None) -> str:
    """The base URL with its /v1."""
    if not given:
        raise UserError("--engine remote: name its server with --base-url, such as http://127.0.0.1:8000/v1")
    try:
        parts = urlsplit(given)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise UserError(f"--base-url {given}: no address of a server; expected one like http://127.0.0.1:8000/v1")
    if parts.username or parts.password:
        raise UserError("--base-url: an address with a password in it would be written into the run's settings")
    return given.rstrip("/") if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/v1"


def _said(response: Response) -> str:
    """What a server says about its error, wherever it says it."""
    try:
        told = response.json()
    except ValueError:
        return response.text.strip()[:200] or response.reason_phrase
    told = told.get("error") or told.get("detail") or told.get("message") if isinstance(told, dict) else told
    return str(told.get("message") if isinstance(told, dict) else told)
