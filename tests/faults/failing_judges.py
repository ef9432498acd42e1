"""A judge server in a process of its own, which fails in a chosen way in 30 % of the requests; faults of judges."""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from command_line import WEIGHTS, Fault, run

SHARE = 0.3
RATING = '{"reason": "fine", "relevance": 7, "usefulness": 6, "specificity": 5, "clarity": 8}'
TOPIC = """name: cars
title: cars
combine: mean
editions:
  mini:
    settings: {iterations: 1, particles: 2}
    item_sets:
      a:
        scorer: topic_interest
        options: {topic: cars, max_tokens: 10}
        items:
          dev: [What is a car?, What is a bus?, What is rain?, What is ice?]
          test: [What is a dog?, What is snow?]
"""


def completion(content: Any = RATING, finish: str = "stop", usage: tuple[Any, Any] = (50, 20)) -> bytes:
    """A reply in OpenAI's protocol."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": 70}
    reply = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": counts}
    return json.dumps(reply).encode()


def error(message: str) -> bytes:
    return json.dumps({"error": {"message": message}}).encode()


REPLIES: dict[str, tuple[int, bytes]] = {
    "401": (401, error("no such key")),
    "404": (404, error("no such model")),
    "408": (408, error("timeout")),
    "413": (413, error("too large")),
    "429": (429, error("slow down")),
    "500": (500, b"oops"),
    "503 page": (503, b"<html>maintenance</html>"),
    "200 page": (200, b"<html>hello</html>"),
    "200 error": (200, error("overloaded")),
    "no choices": (200, b'{"choices": []}'),
    "null content": (200, completion(None)),
    "empty text": (200, completion("")),
    "cut JSON": (200, completion()[:90]),
    "empty body": (200, b""),
    "nested": (200, b"[" * 100_000),
    "not UTF-8": (200, b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'),
    "control characters": (400, error("\x1b[31mred\x1b]0;t\x07")),
    "reset": (0, b""),
    "shorter than its length": (-1, completion()),
    "truncated": (200, completion(RATING[:20], "length")),
    "refusal": (200, completion("I cannot rate this.", "content_filter")),
    "out of range": (200, completion(RATING.replace("7", "70"))),
    "prose": (200, completion("A fine answer! " * 50)),
    "negative usage": (200, completion(usage=(-1000, -1000))),
    "huge usage": (200, completion(usage=(10**12, 10**12))),
    "usage of text": (200, completion(usage=("many", None))),
}


@contextmanager
def judge(kind: str | None, rng: random.Random, *, delay: float = 0.0) -> Iterator[tuple[str, Path]]:
    """A judge whose other replies are good ratings; the address, and a file with one byte for every request.

    Args:
        kind: One of `REPLIES`; None if it never fails.
        rng: Chooses the requests that fail.
        delay: Seconds before each reply.
    """
    folder = Path(tempfile.mkdtemp())
    port, requests = folder / "port", folder / "requests"
    requests.touch()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            with requests.open("ab") as file:
                file.write(b"x")
            time.sleep(delay)
            status, body = REPLIES[kind] if kind is not None and rng.random() < SHARE else (200, completion())
            if not status:
                self.close_connection = True
                return
            self.send_response(200 if status < 0 else status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body) + (100 if status < 0 else 0)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection |= status < 0

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    child = os.fork()  # a server in a thread of this process would be copied into every child
    if child == 0:
        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=lambda: (time.sleep(900), os._exit(0)), daemon=True).start()
        port.write_text(str(server.server_port))
        server.serve_forever()
    while not (port.is_file() and port.read_text()):
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port.read_text()}/v1", requests
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def judge_faults(rng: random.Random, n: int) -> Iterator[Fault]:
    """Every value is the good judge's or missing with a reason, or the run is refused."""
    kinds = list(REPLIES)
    rng.shuffle(kinds)
    for k in range(n):
        kind, seed = kinds[k % len(kinds)], rng.random()

        def fault(place: Path, kind: str = kind, seed: float = seed) -> str:
            (place / "cars.yaml").write_text(TOPIC)
            common = ["evaluate", "--task", str(place / "cars.yaml"), "--json", "--judge", "m"]
            common += ["--experts", str(WEIGHTS / "experts" / "look-up"), "--factuality", "none"]
            with judge(kind, random.Random(seed)) as (url, _):
                ended = run([*common, "--judge-url", url, "--judge-cache", str(place / "cache")])
            if ended.code != 0 or "Traceback" in ended.err:
                return ended.outcome
            rows = json.loads(ended.out)
            if wrong := [row for row in rows if row["value"] is not None and abs(row["value"] - GOOD) > 1e-6]:
                return f"a wrong value: {wrong[0]['value']}"
            if silent := [row for row in rows if row["unscored"] and not row["unscored_reason"]]:
                return f"unscored without a reason: {silent[0]['name']}"
            return "survived" if all(row["value"] is not None for row in rows) else "answered"

        yield f"judge {k}: {kind}", fault


GOOD = 4 / (1 / 7 + 1 / 6 + 1 / 5 + 1 / 8)
"""The value of `RATING`: the harmonic mean of its four numbers."""
