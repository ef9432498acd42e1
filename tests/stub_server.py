"""A judge's server for tests: real HTTP on this machine, well-behaved or bad on purpose, and it forgets nothing.

One thread with one event loop holds as many requests as come; a test says what is answered: `server.script` holds the
answers to the next requests, one each, and after them `server.answer` makes one from each request.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer", "Asked", "JudgeServer", "cut", "error", "says"]


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]  # names in lower case
    body: dict[str, Any]

    @property
    def last(self) -> str:
        """The text of the last message."""
        return str(self.body["messages"][-1]["content"])


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0  # seconds before it is sent
    until: threading.Event | None = None  # it is not sent before this is set
    cut: bool = False  # the connection ends in the middle of the body


def says(
    text: str | None,
    *,
    finish_reason: str = "stop",
    refusal: str | None = None,
    usage: tuple[int, int] | None = (20, 5),
    logprobs: Sequence[tuple[str, Mapping[str, float]]] | None = None,
    delay: float = 0.0,
    until: threading.Event | None = None,
) -> Answer:
    """A reply of the protocol; `logprobs` are tokens with the log-probabilities of the likeliest in their place."""
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": refusal},
        "finish_reason": finish_reason,
        "logprobs": None,
    }
    if logprobs is not None:
        choice["logprobs"] = {
            "content": [
                {
                    "token": token,
                    "logprob": top[token],
                    "bytes": None,
                    "top_logprobs": [{"token": t, "logprob": p, "bytes": None} for t, p in top.items()],
                }
                for token, top in logprobs
            ]
        }
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "stub-1", "choices": [choice]}
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return Answer(json.dumps(body).encode(), delay=delay, until=until)


def error(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    """An error as OpenAI's servers write it; header names are given with underscores."""
    body = json.dumps({"error": {"message": message, "type": code, "param": None, "code": code}})
    return Answer(body.encode(), status, {name.replace("_", "-"): value for name, value in headers.items()})


def cut() -> Answer:
    """A good reply of which only half arrives."""
    return Answer(says("Rating: 7/10").body, cut=True)


class JudgeServer:
    """Speaks POST /v1/chat/completions between `__enter__` and `__exit__`."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.script: deque[Answer] = deque()
        self.answer: Callable[[Asked], Answer] = lambda asked: says("Rating: 7/10")
        self.requests: list[Asked] = []
        self.keep = True  # whether `requests` is filled
        self.count = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.connections = 0
        self.open_connections = 0
        self.url = ""

    def __enter__(self) -> JudgeServer:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="judge server")
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=512, ssl=self.tls)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        started.set()
        await self._stop.wait()
        server.close()  # what is still connected ends with the loop

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        try:
            while await self._request(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, or the test has ended
        finally:
            self.open_connections -= 1
            writer.transport.abort()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; whether the connection stays."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        asked = Asked(head[0].split()[1], headers, body)
        self.count += 1
        if self.keep:
            self.requests.append(asked)
        answer = self.script.popleft() if self.script else self.answer(asked)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if answer.delay:
                await asyncio.sleep(answer.delay)
            while answer.until is not None and not answer.until.is_set():
                await asyncio.sleep(0.001)
        finally:
            self.in_flight -= 1
        sent = {"content-type": "application/json", "content-length": str(len(answer.body)), **answer.headers}
        start = f"HTTP/1.1 {answer.status} Stub\r\n" + "".join(f"{n}: {v}\r\n" for n, v in sent.items()) + "\r\n"
        writer.write(start.encode() + (answer.body[: len(answer.body) // 2] if answer.cut else answer.body))
        await writer.drain()
        if answer.cut:
            writer.close()
        return not answer.cut


if __name__ == "__main__":  # in a process of its own, for benchmarks: DELAY; ends with its standard input
    with JudgeServer() as alone:
        alone.keep = False
        alone.answer = lambda asked: says("Rating: 7/10", delay=float(sys.argv[1]))
        print(alone.url, flush=True)
        sys.stdin.read()
        print(alone.count, flush=True)
