"""The local server of an annotation: gives the page to browsers of this machine and appends their verdicts to a file.

It listens on the loopback address. Every verdict is on the disk before the browser is answered.
"""

from __future__ import annotations

import json
import os
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from urllib.parse import parse_qs, urlsplit

from pydantic import ValidationError

from harness.annotate.page import page
from harness.annotate.pairs import Key
from harness.annotate.verdicts import Verdict, latest, read_verdicts
from utilities.errors import UserError, in_words

__all__ = ["AnnotationServer"]

HOST = "127.0.0.1"
MOST_BYTES = 100_000
"""Longest body of a request."""


class AnnotationServer(ThreadingHTTPServer):
    """Serves one annotation.

    Args:
        key: The pairs.
        port: Port to bind; 0 is a free one.

    Raises:
        UserError: The port cannot be bound, or the file of verdicts is corrupt.
    """

    daemon_threads = True

    def __init__(self, key: Key, port: int) -> None:
        self.key, self.page = key, page(key, served=True).encode()
        self._lock = Lock()
        self.lines: list[Verdict] = read_verdicts([key.verdicts]) if _has_content(key.verdicts) else []
        """All lines of the file."""
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UserError(f"--port {port}: {error.strerror}; choose another port") from error

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self.server_port}/"

    def add(self, verdict: Verdict) -> None:
        """Appends a verdict to the file, durably."""
        line = json.dumps(verdict.line(self.key)) + "\n"
        with self._lock:
            with self.key.verdicts.open("ab+") as file:
                if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                    file.write(b"\n")  # after a line that was cut by a kill
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            self.lines.append(verdict)


def _has_content(path: Path) -> bool:
    return path.is_file() and bool(path.read_bytes().strip())


class _Handler(BaseHTTPRequestHandler):
    server: AnnotationServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The page, or a rater's verdicts."""
        address = urlsplit(self.path)
        if not self._is_local():
            self._send(HTTPStatus.FORBIDDEN, "open this page by the address that the command printed")
        elif address.path == "/":
            self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        elif address.path == "/verdicts":
            rater = parse_qs(address.query).get("rater", [""])[0].strip()
            own = latest([one for one in self.server.lines if one.rater == rater])
            text = json.dumps([one.model_dump(exclude={"annotation"}) for one in own])
            self._send(HTTPStatus.OK, text, "application/json")
        else:
            self._send(HTTPStatus.NOT_FOUND, "not found")

    def do_POST(self) -> None:
        """Stores a verdict."""
        self.close_connection = True  # what is left of a refused body is not read
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = MOST_BYTES + 1
        if not self._is_local() or self.headers.get_content_type() != "application/json":
            self._send(HTTPStatus.FORBIDDEN, "only the page of this server may send verdicts")
        elif self.path != "/verdicts":
            self._send(HTTPStatus.NOT_FOUND, "not found")
        elif not 0 <= length <= MOST_BYTES:
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MOST_BYTES} bytes")
        else:
            self._store(self.rfile.read(length))

    def _store(self, body: bytes) -> None:
        try:
            verdict = Verdict.model_validate_json(body)
        except ValidationError as error:
            self._send(HTTPStatus.BAD_REQUEST, in_words(error))
            return
        if verdict.annotation != self.server.key.id or verdict.pair >= len(self.server.key.pairs):
            self._send(HTTPStatus.CONFLICT, "the server has another annotation now; reload the page")
            return
        try:
            self.server.add(verdict)
        except OSError as error:
            self._send(HTTPStatus.INSUFFICIENT_STORAGE, f"the verdict cannot be written: {error.strerror}")
            return
        self._send(HTTPStatus.NO_CONTENT)

    def _is_local(self) -> bool:
        """Whether the request is from a page of this server, not from another site through the user's browser."""
        hosts = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        origin = self.headers.get("Origin")
        return self.headers.get("Host") in hosts and (origin is None or origin.removeprefix("http://") in hosts)

    def _send(self, status: HTTPStatus, content: str | bytes = b"", kind: str = "text/plain; charset=utf-8") -> None:
        body = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not logged."""
