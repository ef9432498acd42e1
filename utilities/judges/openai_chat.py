"""langchain's chat model for OpenAI's protocol, with less overhead per request and stricter parsing of replies."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from httpx2 import AsyncBaseTransport, AsyncHTTPTransport, Request, Response, create_ssl_context
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI

from utilities.errors import UserError
from utilities.judges.settings import is_loopback

__all__ = ["NotACompletionError", "OpenAIChat", "PooledTransport", "transport"]

POOLS = 25
"""With 50 requests in flight, a single pool spent 20% of the client's time on finding a free connection."""

STATUS_OF_WORD = {
    "auth": 401, "api_key": 401, "permission": 403, "insufficient_quota": 402, "credit": 402, "billing": 402,
    "rate": 429, "not_found": 404, "overload": 503, "unavailable": 503, "timeout": 504, "server_error": 500,
    "invalid_request": 400,
}  # fmt: skip
"""HTTP statuses of textual error codes, which some servers return in a reply with status 200."""


class NotACompletionError(Exception):
    """The server answered with HTTP 200, but the body is an error or no completion; such requests are not charged.

    Args:
        words: The server's message.
        body: The error in the body.
        status_code: The HTTP status that the body names; None if it names none.
    """

    def __init__(self, words: str, body: object = None, status_code: int | None = None) -> None:
        super().__init__(words)
        self.body, self.status_code = body, status_code


class OpenAIChat(ChatOpenAI):
    """`ChatOpenAI` with a third less CPU work per request.

    Requests to judges and their replies are plain text. `ChatOpenAI` also makes typed copies of both, the latter in
    another thread, which takes more CPU time than sending and receiving. Payload and result are created by langchain's
    own methods.
    """

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        omit: tuple[str, ...] = (),
        **kwargs: Any,
    ) -> ChatResult:
        """One request; parameters in `omit` are not sent."""
        payload = self._get_request_payload(messages, stop=stop, **kwargs)
        body = payload | payload.pop("extra_body", {})
        for name in omit:
            body.pop(name, None)
        response = await self.root_async_client.post("/chat/completions", cast_to=Response, body=body)
        reply = completion(response.content)
        reply["usage"] = _usage(reply.get("usage"))
        result = self._create_chat_result(reply)
        message, more = reply["choices"][0]["message"], result.generations[0].message.additional_kwargs
        if refusal := message.get("refusal"):  # langchain reads it only from typed replies
            more["refusal"] = refusal
        if isinstance(reasoning := message.get("reasoning_content") or message.get("reasoning"), str):
            more["reasoning_content"] = reasoning
        return result


def completion(content: bytes) -> dict[str, Any]:
    """The body of a reply with status 200 as a chat completion.

    Raises:
        NotACompletionError: The body is an error or not a completion.
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        text = " ".join(content[:200].decode("utf-8", "replace").split())
        raise NotACompletionError(f"the reply is no JSON: {text or 'it is empty'}") from None
    if not isinstance(body, dict):
        raise NotACompletionError(f"the reply is no chat completion: {str(body)[:200]}")
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = first.get("message")
    error = body.get("error") or first.get("error")
    if error or first.get("finish_reason") == "error" or not isinstance(message, dict):
        _raise_error(body, error)
    if not isinstance(message.get("content"), str | list | None):
        raise NotACompletionError(f"the reply's content is no text: {str(message['content'])[:200]}")
    message.setdefault("role", "assistant")
    return body


def _raise_error(body: Mapping[str, Any], error: Any) -> NoReturn:
    detail = error if isinstance(error, Mapping) else body
    words = detail.get("message") or detail.get("detail") or detail.get("msg") or error
    statuses = [
        found for one in (detail, body) for name in ("status", "code", "type") if (found := _status(one.get(name)))
    ]
    message = f"the reply is an error: {words}" if words else f"the reply has no choices: {json.dumps(body)[:200]}"
    raise NotACompletionError(message, detail, statuses[0] if statuses else None)


def _status(code: Any) -> int | None:
    """The HTTP status of an error code, which is a number or a word; None if unknown."""
    if isinstance(code, str) and code.isdecimal():
        code = int(code[:9])
    if isinstance(code, int):
        return code if 400 <= code < 600 else None
    words = str(code).lower()
    return next((status for word, status in STATUS_OF_WORD.items() if word in words), None)


def _usage(claimed: Any) -> dict[str, int] | None:
    """The token counts as integers, possibly negative; None if one of them is not an integer."""
    names = ("prompt_tokens", "completion_tokens")
    fields = claimed if isinstance(claimed, Mapping) else {}
    counts = [one for name in names if isinstance(one := fields.get(name), int) and not isinstance(one, bool)]
    if len(counts) < len(names):
        return None
    return {**dict(zip(names, counts, strict=True)), "total_tokens": sum(counts)}


class PooledTransport(AsyncBaseTransport):
    """Connections in several small pools, because a pool scans all its connections for every request.

    Args:
        options: As for `httpx2.AsyncHTTPTransport`.
    """

    def __init__(self, **options: Any) -> None:
        self._pools = [AsyncHTTPTransport(**options) for _ in range(POOLS)]
        self._waiting = [0] * POOLS

    async def handle_async_request(self, request: Request) -> Response:
        """Sends a request through the pool with the fewest pending replies."""
        k = self._waiting.index(min(self._waiting))
        self._waiting[k] += 1
        try:
            return await self._pools[k].handle_async_request(request)
        finally:
            self._waiting[k] -= 1

    async def aclose(self) -> None:
        """Closes all connections."""
        for pool in self._pools:
            await pool.aclose()


def transport(url: str) -> PooledTransport:
    """Connections to a server: through the proxy of the environment, with the certificates of `SSL_CERT_FILE`.

    No proxy is used for a local server. Certificates, which load slowly, are not loaded for plain HTTP.

    Raises:
        UserError: The certificates cannot be read, or the proxy is not a URL.
    """
    address = urlsplit(url)
    local = is_loopback(url)
    proxy = None if local else _proxy(address.scheme, address.netloc.rpartition("@")[2])
    plain = address.scheme == "http" and (proxy is None or proxy.startswith("http:"))
    options: dict[str, Any] = {"trust_env": False, "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
    if not plain:
        options["verify"] = _certificates()
    try:
        return PooledTransport(**options, proxy=proxy)
    except (ImportError, ValueError) as error:
        raise UserError(f"the proxy of the environment cannot be used: {error}") from None


def _proxy(scheme: str, host: str) -> str | None:
    """The proxy for a server from the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY)."""
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _certificates() -> ssl.SSLContext:
    """The trusted certificate authorities: SSL_CERT_FILE or SSL_CERT_DIR, else those of the system."""
    try:
        return create_ssl_context()
    except OSError as error:
        file = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
        raise UserError(f"the certificates in SSL_CERT_FILE {file} cannot be read: {error.strerror or error}") from None
