"""A local language model behind the protocol that hosted models speak, so that judges have one client for all.

Two endpoints say who is there (`GET /v1/models`, `GET /health`), one answers (`POST /v1/chat/completions`); requests
that come at the same time are decoded as one batch. `response_format` is accepted and ignored: nothing forces a small
model into a schema, and clients must read its replies with care anyway. Whatever else would change an answer and is not
supported (streams, several choices, tools, penalties) is refused rather than ignored. Nobody is asked for a key: the
server is meant for this machine, whose loopback address it binds unless told otherwise.

`python -m harness.local_judge.server` is the child process of `JudgeProcess`: it ends when its stdin does.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.embedded import BASE, JUDGE
from utilities.errors import UserError, in_words

if TYPE_CHECKING:
    from harness.local_judge.model import Completion, LocalJudge, Token

__all__ = ["NAME", "PORT", "JudgeProcess", "JudgeServer", "run_serve_judge", "serve"]

NAME = "embedded"
"""The model name of the judge that ships with the project."""

PORT = 8008
"""Where `serve-judge` listens by default."""

MAX_BODY = 4 << 20
"""Bytes of a request; far more than any context holds."""

UNREAD = 64 << 20
"""Bytes of a refused body that are still taken off the line, so that its sender gets to reading the refusal."""

IDLE = 600.0
"""Seconds without a byte after which a connection is closed."""

START = 300.0
"""Seconds in which a child process must be ready: reading a large model from a slow disk takes minutes."""

NEUTRAL: Mapping[str, Any] = {
    "n": 1,
    "stream": False,
    "top_p": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
    "tools": [],
    "functions": [],
}
"""Parameters that are accepted with the one value that changes nothing."""


# -- the protocol ------------------------------------------------------------------------------------------------------


class _Message(BaseModel):
    model_config = ConfigDict(strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str

    @field_validator("content", mode="before")
    @classmethod
    def _in_one(cls, given: Any) -> Any:
        """Text in parts is joined; any other part (an image) is not for this model."""
        if isinstance(given, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in given):
            return "".join(str(part.get("text", "")) for part in given)
        return given


class _Chat(BaseModel):
    """The body of a request; what is not named here is ignored."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    model: str
    messages: tuple[_Message, ...] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    seed: int | None = None
    stop: str | tuple[str, ...] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    n: Any = None
    stream: Any = None
    top_p: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    logit_bias: Any = None
    tools: Any = None
    functions: Any = None

    @field_validator(*NEUTRAL)
    @classmethod
    def _changes_nothing(cls, given: Any, info: Any) -> Any:
        neutral = NEUTRAL[info.field_name]
        if given is not None and given != neutral:
            raise ValueError(f"only {json.dumps(neutral)} is supported by this server")
        return given

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, given: Any) -> Any:
        if given is not None and "" in ((given,) if isinstance(given, str) else given):
            raise ValueError("a stop string is empty")
        return given

    @model_validator(mode="after")
    def _both(self) -> _Chat:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs: needs logprobs: true")
        return self


class _ProtocolError(Exception):
    """An error in the protocol's own format."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        kind = "server_error" if status >= 500 else "invalid_request_error"
        self.status = status
        self.document = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _chat(body: bytes) -> _Chat:
    try:
        return _Chat.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise _ProtocolError(400, f"the body is not JSON: {first['ctx']['error']}") from error
        param = str(first["loc"][0]) if first["loc"] else None
        raise _ProtocolError(400, in_words(error), param=param) from error


def _document(name: str, found: Completion) -> dict[str, Any]:
    total = found.prompt_tokens + found.completion_tokens
    content = None if found.tokens is None else {"content": [_token(t) for t in found.tokens], "refusal": None}
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": name,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": found.text, "refusal": None},
                "logprobs": content,
                "finish_reason": found.finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": found.prompt_tokens,
            "completion_tokens": found.completion_tokens,
            "total_tokens": total,
        },
    }


def _token(token: Token) -> dict[str, Any]:
    return {**_likely(token.text, token.logprob), "top_logprobs": [_likely(*pair) for pair in token.top]}


def _likely(text: str, logprob: float) -> dict[str, Any]:
    known = "\ufffd" not in text  # a part of a character has no text of its own
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()) if known else None}


# -- the server --------------------------------------------------------------------------------------------------------


class JudgeServer(ThreadingMixIn, TCPServer):
    """The HTTP server of one model, a thread a connection.

    The port is taken before the model is read, so a port in use is known at once.

    Args:
        load: Makes the model.
        name: What clients call it.
        host: Address to bind.
        port: Port to bind; 0 takes a free one.

    Raises:
        UserError: The address cannot be bound, or the model cannot be loaded.
    """

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, load: Callable[[], LocalJudge], name: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.name, self.created = name, int(time.time())
        self.judge: LocalJudge | None = None
        self._connections: set[Any] = set()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            if getattr(error, "errno", None) == errno.EADDRINUSE:
                raise UserError(
                    f"port {port} of {host} is in use; name another with --port, 0 is any free one"
                ) from None
            raise UserError(f"{host}:{port} cannot be bound: {getattr(error, 'strerror', None) or error}") from error
        try:
            self.judge = load()
        except BaseException:
            self.server_close()
            raise

    @property
    def url(self) -> str:
        """The base URL that a client of the protocol is given."""
        host, port = self.server_address[:2]
        host = host.decode() if isinstance(host, bytes | bytearray) else str(host)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers a connection in a thread of its own."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Ends a connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Frees the port and ends all threads; what is being answered is answered with status 503.

        No thread outlives it: one that let go of the model while the interpreter ends would abort the process.
        """
        if self.judge is not None:
            self.judge.close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)  # idle ones end; those that are being answered do so after it
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error; anything else is one line on stderr."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            print(f"{type(error).__name__}: {error}", file=sys.stderr)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "model-swarms", ""
    disable_nagle_algorithm = True  # head and body are two small packets, which it would hold back for 40 ms
    timeout = IDLE
    server: JudgeServer

    def do_GET(self) -> None:
        """`/v1/models` and `/health`."""
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body that nobody reads
        model = {"id": self.server.name, "object": "model", "created": self.server.created, "owned_by": "model-swarms"}
        known: dict[str, dict[str, Any]] = {
            "/v1/models": {"object": "list", "data": [model]},
            "/health": {"status": "ok"},
        }
        path = self._path()
        if path in known:
            self._send(200, known[path])
        else:
            self._send(404, _ProtocolError(404, f"there is no GET {path} here").document)

    def do_POST(self) -> None:
        """`/v1/chat/completions`."""
        try:
            body = self._body()
            if self._path() != "/v1/chat/completions":
                raise _ProtocolError(404, f"there is no POST {self._path()} here; /v1/chat/completions answers")
            self._send(200, self._answer(_chat(body)))
        except _ProtocolError as refused:
            self._send(refused.status, refused.document)

    def _answer(self, chat: _Chat) -> dict[str, Any]:
        from harness.local_judge.model import PromptError, Question

        if chat.model != self.server.name:
            told = f"the model {chat.model!r} does not exist; this server has {self.server.name!r}"
            raise _ProtocolError(404, told, param="model", code="model_not_found")
        if self.server.judge is None:
            raise _ProtocolError(503, "the model is being loaded")
        question = Question(
            [(message.role, message.content) for message in chat.messages],
            max_tokens=chat.max_completion_tokens or chat.max_tokens,
            temperature=1.0 if chat.temperature is None else chat.temperature,
            seed=chat.seed,
            stop=(chat.stop,) if isinstance(chat.stop, str) else chat.stop or (),
            top=(chat.top_logprobs or 0) if chat.logprobs else None,
        )
        try:
            return _document(self.server.name, self.server.judge.submit(question).result())
        except PromptError as error:
            raise _ProtocolError(400, str(error), param="messages", code=error.code) from error
        except Exception as error:  # in the model; the client may try again
            status = 503 if self.server.judge.closed else 500
            raise _ProtocolError(status, f"the model failed: {type(error).__name__}: {error}") from error

    def _path(self) -> str:
        return self.path.partition("?")[0]

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length")
        problem = None
        if "Transfer-Encoding" in self.headers or length is None:
            problem = _ProtocolError(411, "send the body with a Content-Length; chunked bodies are not read")
        elif not length.isdecimal():
            problem = _ProtocolError(400, f"Content-Length is {length[:40]!r}; expected a number of bytes")
        elif len(length) > 18 or int(length) > MAX_BODY:
            problem = _ProtocolError(413, f"the body has {length[:40]} bytes; at most {MAX_BODY} are read")
        if problem is not None:
            self.close_connection = True
            raise problem
        body = self.rfile.read(int(length or 0))
        if len(body) < int(length or 0):
            raise ConnectionError("the client went away")
        return body

    def _send(self, status: int, document: Mapping[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        if self.close_connection and status >= 400:
            self._drain()

    def _drain(self) -> None:
        """Takes an unread body off the line: closing on it would reset the connection, and the answer be lost."""
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(2.0)
        left = UNREAD
        with contextlib.suppress(OSError):
            while left > 0 and (got := self.rfile.read1(1 << 16)):
                left -= len(got)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class finds wrong with a request line or its headers, in the protocol's format."""
        self.close_connection = True
        self.request_version = self.protocol_version  # until it is known, no head would be sent
        self._send(code, _ProtocolError(code, message or "not a request that is understood").document)

    def log_message(self, *_: Any) -> None:
        """Nothing: a search asks thousands of times."""


def serve(
    model: str | Path,
    adapter: Path | None = None,
    name: str = NAME,
    host: str = "127.0.0.1",
    port: int = PORT,
    threads: int | None = None,
    *,
    ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serves a local model until it is interrupted.

    Args:
        model: Folder or hub id of the base model.
        adapter: Folder of a LoRA adapter that is merged into it.
        name: What clients call it.
        host: Address to bind; any other than loopback opens the judge, which asks for no key, to a network.
        port: Port to bind; 0 takes a free one.
        threads: Threads of torch; None leaves it to torch.
        ready: Is told the base URL as soon as requests are answered.

    Raises:
        UserError: No such adapter, a port in use, or a model that cannot be loaded.
    """
    if adapter is not None and not adapter.is_dir():  # before torch is imported
        raise UserError(f"{adapter}: there is no such adapter folder")

    def load() -> LocalJudge:
        from harness.local_judge.model import LocalJudge

        return LocalJudge(model, adapter, threads)

    with JudgeServer(load, name, host, port) as server:
        ready(server.url)
        server.serve_forever()


def run_serve_judge(model: str | None, adapter: Path | None, host: str, port: int, threads: int | None) -> None:
    """The verb: serves the embedded judge, or a model of the user's own under its folder's name, until Ctrl-C."""
    if model is None and adapter is None:
        adapter, name = JUDGE, NAME
    else:
        name = Path(adapter or model or "").expanduser().resolve().name

    def ready(url: str) -> None:
        print(f"{name} answers at {url} (Ctrl-C ends it). In another terminal:", flush=True)
        print(f"  python run.py --task TASK --judge {name} --judge-url {url}", flush=True)

    serve(model or BASE, adapter, name, host, port, threads, ready=ready)


# -- as a child process ------------------------------------------------------------------------------------------------


class JudgeProcess:
    """A judge served by a child process, which ends with this one, however this one ends.

    Args:
        model: Folder or hub id of the base model.
        adapter: Folder of a LoRA adapter that is merged into it, or None.
        name: What clients call it.
        threads: Threads of torch: one, because what is judged is generated at the same time.

    Raises:
        UserError: The server did not start; the message is the last thing that it said.
    """

    url: str
    """The base URL that a client of the protocol is given."""
    name: str
    """The model name that a client asks for."""

    def __init__(
        self, model: str | Path = BASE, adapter: Path | None = JUDGE, name: str = NAME, threads: int = 1
    ) -> None:
        self.name = name
        given = {"model": model, "adapter": adapter, "name": name, "threads": threads}
        options = [f"--{option}={value}" for option, value in given.items() if value is not None]
        paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - what the child says on stderr, as long as it lives
        self._child = subprocess.Popen(  # noqa: S603 - this very interpreter, with options and no shell
            # -P: Python files in the user's working directory are not the child's modules.
            [sys.executable, "-P", "-m", "harness.local_judge.server", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            start_new_session=True,  # a Ctrl-C is this process's to handle: it may have answers to wait for
        )
        try:
            self.url = self._wait(START)
        except BaseException:
            self.close()
            raise

    def _wait(self, seconds: float) -> str:
        """The URL that the child prints when it is ready."""
        out = cast("IO[bytes]", self._child.stdout)
        line = out.readline() if select.select([out], [], [], seconds)[0] else b""
        if line:
            return str(json.loads(line)["url"])
        ended = self._child.poll() is not None or self._ended(5.0)
        self._said.seek(0)
        told = self._said.read().decode(errors="replace").strip().splitlines()
        reason = (told or ["it ended without a word"])[-1] if ended else f"it was not ready after {seconds:.0f} seconds"
        raise UserError(f"the local judge could not be started: {reason}")

    def _ended(self, seconds: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(seconds)
        return self._child.returncode is not None

    def close(self) -> None:
        """Ends the child and frees its port; may be called again."""
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()
        if not self._ended(5.0):
            self._child.kill()
            self._child.wait()
        self._said.close()

    def __enter__(self) -> JudgeProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _end_with_parent() -> None:
    """Waits for the end of stdin, which the parent holds open as long as it lives."""
    while os.read(0, 1024):  # not sys.stdin, whose lock would stand in the way of an ordinary end
        pass
    os._exit(0)


def main() -> None:
    """The child process: one line of JSON with its URL on stdout when it is ready, then requests until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m harness.local_judge.server", description=main.__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--name", default=NAME)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    told = os.dup(1)
    os.dup2(2, 1)  # what libraries print while they load is no line of ours

    def ready(url: str) -> None:
        os.write(told, json.dumps({"url": url, "model": given.name}).encode() + b"\n")
        os.close(told)

    try:
        serve(given.model, given.adapter, given.name, given.host, given.port, given.threads, ready=ready)
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
