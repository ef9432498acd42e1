"""The fault campaign: kills, damaged folders, bad pools, task files, utilities and displays, judges that fail.

Run from the project's root:

    python tests/faults/campaign.py            # the short form, for CI
    python tests/faults/campaign.py long     # every case
    python tests/faults/campaign.py --only pools --seed 3

Each fault runs the command line in a child of this process, which has loaded the libraries once. A fault is *survived*
(exit code 0; after kills: with the result of the undisturbed run), *answered in one sentence* (exit code 2, an error
message, no traceback, no control character), or *failed*. Exit code 1 if any fault failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "160"}
sys.path.insert(0, str(ROOT))
os.chdir(ROOT)

import pyarrow.parquet as parquet  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402

import harness.cli.main  # noqa: E402
import harness.cli.resume  # noqa: E402
import harness.engines.local  # noqa: E402
import harness.run.adapt  # noqa: E402

torch.set_num_threads(1)
WEIGHTS = ROOT / "harness" / "embedded" / "weights"
SEARCH = ["search", "--task", "medical", "--limit", "4", "--particles", "4", "--iterations", "2", "--optimiser", "pso"]
LIMIT_S = 120


@dataclass(frozen=True)
class Ended:
    code: int | None
    """None: killed by the campaign, because the time was over."""
    out: str
    err: str

    @property
    def answered(self) -> bool:
        clean = not any(ord(one) < 32 and one != "\n" for one in self.err)
        return self.code == 2 and clean and "Error: " in self.err and "Traceback" not in self.err


def start(arguments: Sequence[str], out: int, err: int) -> int:
    """The command line in a forked child; its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        if out >= 0:
            os.dup2(out, 1)
        else:
            os.close(1)
        os.dup2(err, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False) if out >= 0 else None  # type: ignore[assignment]
        sys.stderr = os.fdopen(2, "w", closefd=False)
        sys.argv = ["run.py", *arguments]
        try:
            harness.cli.main.main()
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        except BaseException:
            traceback.print_exc()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(code)


def wait(child: int, seconds: float) -> int | None:
    """The exit code; None if the child was killed here after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def run(arguments: Sequence[str], *, out: int | None = None, seconds: float = LIMIT_S) -> Ended:
    """Runs the command line to its end; stdout goes to the descriptor `out` (-1: closed) or is read."""
    with tempfile.TemporaryFile() as own, tempfile.TemporaryFile() as err:
        code = wait(start(arguments, own.fileno() if out is None else out, err.fileno()), seconds)
        texts = []
        for file in (own, err):
            file.seek(0)
            texts.append(file.read().decode(errors="backslashreplace"))
    return Ended(code, *texts)


Fault = tuple[str, Callable[[Path], str]]
"""A name, and what makes the fault in an empty folder: survived, answered, or what went wrong."""


def outcome(ended: Ended) -> str:
    if ended.code == 0:
        return "survived"
    if ended.answered:
        return "answered"
    last = (ended.err.strip() or ended.out.strip() or "no word").splitlines()[-1]
    return f"exit {ended.code}: {last[:200]}"


# -- kills and damaged folders -----------------------------------------------------------------------------------------


class Undisturbed:
    """One finished run, made when first needed."""

    def __init__(self, place: Path) -> None:
        self.folder, self._seconds = place / "whole", 0.0

    def make(self) -> None:
        if not self.folder.exists():
            began = time.monotonic()
            ended = run([*SEARCH, "--display", "plain", "--out", str(self.folder.parent), "--name", self.folder.name])
            if ended.code != 0:
                raise SystemExit(f"the undisturbed run failed: {ended.err}")
            self._seconds = time.monotonic() - began

    @property
    def seconds(self) -> float:
        self.make()
        return self._seconds

    def copy(self, to: Path, *, finished: bool) -> Path:
        self.make()
        shutil.copytree(self.folder, to)
        if not finished:
            (to / "result.json").unlink()
            shutil.rmtree(to / "best")
            for file in [*to.glob("records/test*"), *to.glob("records/dev*")]:
                file.unlink()
        return to


def lasting(folder: Path) -> Any:
    """What must not depend on where a run was interrupted."""
    found = json.loads((folder / "result.json").read_text())
    rows = [(row["name"], row["dev"], row["test"]) for row in found["rows"]]
    return rows, found["winner"]["coefficients"], (folder / "best" / "adapter_model.safetensors").read_bytes()


def kills(rng: random.Random, whole: Undisturbed, n: int) -> Iterator[Fault]:
    for k in range(n):
        share, number = (
            rng.uniform(0.02, 1.0),
            rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP]),
        )

        def fault(place: Path, share: float = share, number: int = number) -> str:
            folder = place / "run"
            delay = share * whole.seconds
            with tempfile.TemporaryFile() as noise:
                arguments = [*SEARCH, "--display", "none", "--out", str(place), "--name", "run"]
                child = start(arguments, noise.fileno(), noise.fileno())
                end = time.monotonic() + delay
                while time.monotonic() < end and os.waitpid(child, os.WNOHANG) == (0, 0):
                    time.sleep(0.01)
                else:
                    if time.monotonic() >= end:
                        os.killpg(child, number)
                        wait(child, LIMIT_S)
            if (folder / "settings.yaml").is_file():
                again = run(["resume", str(folder), "--display", "none"])
            else:  # nothing was begun
                again = run([*SEARCH, "--display", "none", "--out", str(place), "--name", "run"])
            if again.code != 0:
                return f"after the kill: {outcome(again)}"
            return (
                "survived" if lasting(folder) == lasting(whole.folder) else "another result than the undisturbed run's"
            )

        yield f"kill {k}: {signal.Signals(number).name} after {share:.0%}", fault


WRONG_VALUES: list[Any] = [None, "x", -1, 1e999, [], {}, 10**30, True]


def damaged_folders(rng: random.Random, whole: Undisturbed, n: int) -> Iterator[Fault]:
    files = ["settings.yaml", "checkpoint/state.json", "events.jsonl", "result.json", "best/adapter_model.safetensors"]
    files += ["best/adapter_config.json", "records/iter_0000.parquet", "records/iter_0001.parquet"]
    ways = ["delete", "empty", "cut", "flip", "folder", "garbage", "value"]
    cases = [(file, way) for file in files for way in ways]
    rng.shuffle(cases)
    for k in range(n):
        file, way = cases[k % len(cases)]
        seed = rng.random()

        def fault(place: Path, file: str = file, way: str = way, seed: float = seed) -> str:
            finished = file.startswith(("result", "best"))
            folder = whole.copy(place / "run", finished=finished)
            damage(folder / file, way, random.Random(seed))
            ended = run(["resume", str(folder), "--display", "none"])
            if ended.code == 0 and lasting(folder) != lasting(whole.folder):
                return "another result than the undisturbed run's"
            return outcome(ended)

        yield f"folder {k}: {file}, {way}", fault


def damage(path: Path, way: str, rng: random.Random) -> None:
    content = path.read_bytes()
    if way == "folder" or way == "delete":
        path.unlink()
        if way == "folder":
            path.mkdir()
    elif way == "value" and path.suffix in {".json", ".yaml"}:
        document = json.loads(content) if path.suffix == ".json" else yaml.safe_load(content)
        holder = document
        while True:
            key = rng.choice(list(holder))
            if isinstance(holder[key], dict) and holder[key] and rng.random() < 0.7:
                holder = holder[key]
            else:
                break
        holder[key] = rng.choice(WRONG_VALUES)
        path.write_text(json.dumps(document) if path.suffix == ".json" else yaml.safe_dump(document))
    elif way == "value" and path.suffix == ".parquet":
        table = parquet.read_table(path)
        parquet.write_table(table.drop_columns([rng.choice(table.column_names)]), path)
    else:
        at = rng.randrange(len(content))
        flipped = content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        path.write_bytes({"empty": b"", "cut": content[:at], "garbage": rng.randbytes(300)}.get(way, flipped))


# -- what a user brings ------------------------------------------------------------------------------------------------


def pools(rng: random.Random, whole: Undisturbed, n: int) -> Iterator[Fault]:
    config = ["r", "lora_alpha", "target_modules", "peft_type", "base_model_name_or_path", "rank_pattern", "bias"]
    base = ["num_hidden_layers", "hidden_size", "vocab_size", "model_type", "num_attention_heads", "torch_dtype"]
    values = [*WRONG_VALUES, 0, 10**6, "\x1b[31mred", 0.5, "a" * 10_000]
    for k in range(n):
        kind = rng.choice(["adapter config", "adapter file", "base config", "name", "header"])
        key, value, seed = rng.choice(config), rng.choice(values), rng.random()
        if kind == "base config":
            key = rng.choice(base)

        def fault(place: Path, kind: str = kind, key: str = key, value: Any = value, seed: float = seed) -> str:
            own = random.Random(seed)
            for name in ("look-up", "travel-guide"):
                shutil.copytree(WEIGHTS / "experts" / name, place / "experts" / name)
            shutil.copytree(WEIGHTS / "base", place / "base")
            expert = place / "experts" / "look-up"
            if kind == "name":
                expert.rename(
                    place / "experts" / own.choice(["a\x1b[31mb", "x[b]", "winner", "-rf", "é" * 60, "a b\n"])
                )
            elif kind == "adapter file":
                damage(
                    expert / "adapter_model.safetensors", own.choice(["empty", "cut", "flip", "garbage", "folder"]), own
                )
            elif kind == "header":
                header = own.choice(
                    [b"[" * 2000, b"{}", b"\xff\xfe", b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}']
                )
                size = own.choice([len(header), 1 << 62, 0])
                (expert / "adapter_model.safetensors").write_bytes(struct.pack("<Q", size) + header)
            else:
                file = expert / "adapter_config.json" if kind == "adapter config" else place / "base" / "config.json"
                file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
            arguments = ["validate", "--task", "medical", "--edition", "mini", "--limit", "2"]
            given = ["--base-model", str(place / "base"), "--experts", str(place / "experts")]
            ended = run([*arguments, *given])
            unclean = any(ord(one) < 32 and one != "\n" for one in ended.out)
            return "control characters on the screen" if unclean else outcome(ended)

        yield f"pool {k}: {kind} {key if 'config' in kind else ''}", fault


def task_files(rng: random.Random, whole: Undisturbed, n: int) -> Iterator[Fault]:
    good = (
        "name: own\ntitle: t\ncombine: mean\neditions:\n  mini:\n    settings: {iterations: 1, particles: 2}\n"
        "    item_sets:\n      easy:\n        scorer: multiple_choice\n"
        "        options: {prompt: plain, answer_by: text}\n"
        "        items:\n          dev:\n"
        "            - {id: d1, question: What is two?, choices: {A: a number, B: a dog}, answer: A}\n"
        "            - {id: d2, question: What is red?, choices: {A: a colour, B: a bus}, answer: A}\n          test:\n"
        "            - {id: t1, question: What is a cat?, choices: {A: a car, B: an animal}, answer: B}\n"
        "            - {id: t2, question: What is a bus?, choices: {A: a number, B: a vehicle}, answer: B}\n"
    )
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12))
    known = [
        laughs + good,
        good.replace("particles: 2", "particles: " + "9" * 5000),
        good.replace("particles: 2", "particles: 1000000000000"),
        good.replace("particles: 2", "trust_remote_code: true"),
        good.replace("particles: 2", "judge_url: 'http://192.0.2.1/v1', judge: [m], judge_key_env: HOME"),
        good.replace("title: t", "title: " + "[" * 5000),
        good.replace("scorer: multiple_choice", "scorer: ../../evil.py:f"),
        good.replace("name: own", 'name: "x[/]\\e[31m"'),
        good.replace("easy:", '"x[/]\\e]0;t\\a":'),
        good.replace("combine: mean", "combine: &a [*a]"),
        good.replace("{prompt: plain, answer_by: text}", "{trust_remote_code: true}"),
        good.replace("id: d1", "id: &x d1").replace("id: d2", "id: *x"),
    ]
    for k in range(n):
        text = known[k] if k < len(known) else mutated(good, rng)

        def fault(place: Path, text: str = text) -> str:
            (place / "own.yaml").write_bytes(text.encode(errors="surrogateescape"))
            return outcome(run(["validate", "--task", str(place / "own.yaml"), "--edition", "mini"]))

        yield f"task file {k}", fault


def mutated(text: str, rng: random.Random) -> str:
    """The text with one to three small changes."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text))
        piece = rng.choice(
            ["", "\t", ":", "[", "}", "&a ", "*a", "\x00", "\udcff", "null", "-", "1e999", "!!int ", "'", "\n"]
        )
        text = text[:at] + piece + text[at + rng.choice([0, 1, 5]) :]
    return text


UTILITIES = [
    "return 1e308",
    "return -1e308",
    "return 5e-324",
    "return float('nan')",
    "return 10 ** 400",
    "return None",
    "return 'x' * 10 ** 6",
    "import os; os._exit(0)",
    "import sys; sys.exit(0)",
    "import os; os.closerange(0, 100)",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "print('noise'); return 1.0",
    "import os; os.write(1, b'noise'); return 1.0",
    "raise KeyboardInterrupt",
    "raise MemoryError",
    "raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})()",
    "return f(item, response)",
    "import threading; threading.Thread(target=lambda: 1 / 0).start(); return 1.0",
    "return len(bytearray(1 << 45))",
    "import ctypes; ctypes.string_at(0)",
    "import sys; sys.stdout.close(); return 1.0",
    "import signal; signal.raise_signal(signal.SIGTERM)",
    "yield 1.0",
    "item.id = 'x'; return 1.0",
    "return 1.0 if int(item.id.strip('abcdefghijklmnopqrstuvwxyz-_') or 0) % 2 else 1e99",
]


def utilities(rng: random.Random, whole: Undisturbed, n: int) -> Iterator[Fault]:
    for k in range(n):
        body = (
            UTILITIES[k]
            if k < len(UTILITIES)
            else "; ".join(rng.sample([*UTILITIES[11:13], "x = 1"], 2)) + "; return 0.5"
        )
        top = rng.choice(["", "print('at import')\n", "import os\nos.write(1, b'at import')\n"])

        def fault(place: Path, text: str = f"{top}def f(item, response):\n    {body}\n") -> str:
            (place / "own.py").write_text(text)
            arguments = ["evaluate", "--task", "gsm8k", "--limit", "2", "--json", "--utility", f"{place / 'own.py'}:f"]
            ended = run(arguments)
            if ended.code in {0, 1} and "Traceback" not in ended.err:
                try:
                    rows = json.loads(ended.out)
                except ValueError:
                    return "stdout is no JSON"
                if all(row["value"] is not None for row in rows):
                    return "survived"
                return "answered" if "unscored" in ended.err or "no item could be scored" in ended.err else "no reason"
            return outcome(ended)

        yield f"utility {k}: {body[:50]}", fault


def displays(rng: random.Random, whole: Undisturbed, n: int) -> Iterator[Fault]:
    for k in range(n):
        where, more = ["/dev/full", "a closed pipe", "closed"][k % 3], ["--json"] * (k // 3 % 2)

        def fault(place: Path, where: str = where, more: list[str] = more) -> str:
            out = -1
            if where == "/dev/full":
                out = os.open("/dev/full", os.O_WRONLY)
            elif where == "a closed pipe":
                reader, out = os.pipe()
                os.close(reader)
            try:
                ended = run([*SEARCH, "--display", "plain", "--out", str(place), "--name", "run", *more], out=out)
            finally:
                if out >= 0:
                    os.close(out)
            whole.make()
            if ended.code == 0 and lasting(place / "run") != lasting(whole.folder):
                return "another result than the undisturbed run's"
            return outcome(ended)

        yield f"display {k}: {where}{' --json' if more else ''}", fault


# -- judges that fail --------------------------------------------------------------------------------------------------

REPLIES: dict[str, tuple[int, bytes]] = {
    "429": (429, b'{"error": {"message": "slow down"}}'),
    "500": (500, b"oops"),
    "503 page": (503, b"<html>maintenance</html>"),
    "200 page": (200, b"<html>hello</html>"),
    "200 error": (200, b'{"error": {"message": "overloaded"}}'),
    "no choices": (200, b'{"choices": []}'),
    "null content": (200, b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": null}}]}'),
    "cut": (200, b'{"id": "1", "choices": [{"ind'),
    "empty": (200, b""),
    "deep": (200, b"[" * 100_000),
    "escapes": (400, b'{"error": {"message": "\\u001b[31mred\\u001b]0;t\\u0007"}}'),
    "reset": (0, b""),
}  # fmt: skip


@contextmanager
def judge(kind: str, rng: random.Random) -> Iterator[str]:
    """A judge that answers well in 70 % of the requests."""
    rating = '{"reason": "fine", "relevance": 7, "usefulness": 6, "specificity": 5, "clarity": 8}'
    choice = {"index": 0, "message": {"role": "assistant", "content": rating}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 70}
    good = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status, body = REPLIES[kind] if rng.random() < 0.3 else (200, json.dumps(good).encode())
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    child = os.fork()  # a server in a thread of this process would be copied into every child
    if child == 0:
        server = Server(("127.0.0.1", 0), Handler)
        (Path(tempfile.gettempdir()) / f"judge-{os.getpid()}").write_text(str(server.server_port))
        threading.Thread(target=lambda: (time.sleep(300), os._exit(0)), daemon=True).start()
        server.serve_forever()
    port = Path(tempfile.gettempdir()) / f"judge-{child}"
    while not (port.is_file() and port.read_text()):
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port.read_text()}/v1"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        port.unlink()


TOPIC = """name: cars
title: cars
combine: mean
editions:
  mini:
    settings: {iterations: 1, particles: 2, factuality: none, canary_every: 0}
    item_sets:
      a:
        scorer: topic_interest
        options: {topic: cars, max_tokens: 10}
        items:
          dev: [What is a car?, What is a bus?, What is rain?, What is ice?]
          test: [What is a dog?, What is snow?]
"""


def judges(rng: random.Random, whole: Undisturbed, n: int) -> Iterator[Fault]:
    for k in range(n):
        kind, seed = list(REPLIES)[k % len(REPLIES)], rng.random()

        def fault(place: Path, kind: str = kind, seed: float = seed) -> str:
            (place / "cars.yaml").write_text(TOPIC)
            expert = str(WEIGHTS / "experts" / "look-up")
            with judge(kind, random.Random(seed)) as url:
                arguments = [
                    "evaluate",
                    "--task",
                    str(place / "cars.yaml"),
                    "--experts",
                    expert,
                    "--judge",
                    "m",
                    "--json",
                ]
                ended = run([*arguments, "--judge-url", url, "--judge-cache", str(place / "kept")])
            if ended.code in {0, 1} and "Traceback" not in ended.err:
                values = [row["value"] for row in json.loads(ended.out)]
                right = all(value is None or abs(value - values[0]) < 1e-9 for value in values if values[0] is not None)
                reasons = None not in values or "not comparable" in ended.err
                return ("survived" if None not in values else "answered") if right and reasons else f"values {values}"
            return outcome(ended)

        yield f"judge {k}: {kind}", fault


KINDS: dict[str, tuple[Callable[[random.Random, Undisturbed, int], Iterator[Fault]], int, int]] = {
    "kills": (kills, 3, 60),
    "damaged folders": (damaged_folders, 8, 80),
    "pools": (pools, 8, 120),
    "task files": (task_files, 12, 90),
    "utilities": (utilities, 6, 60),
    "displays": (displays, 3, 20),
    "judges": (judges, 3, 24),
}
"""What makes the faults of a kind, and how many in the short and in the long form."""


def main() -> int:
    """Runs the campaign and prints its table."""
    parser = argparse.ArgumentParser(description="The fault campaign.")
    parser.add_argument("form", nargs="?", choices=("short", "long"), default="short", help="long: every case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=KINDS, help="faults of one kind")
    given = parser.parse_args()
    table, failures = [], []
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        whole = Undisturbed(place)
        for kind, (faults, few, many) in KINDS.items():
            if given.only not in {None, kind}:
                continue
            counts = {"survived": 0, "answered": 0, "failed": 0}
            began = time.monotonic()
            for k, (name, fault) in enumerate(
                faults(random.Random(given.seed), whole, many if given.form == "long" else few)
            ):
                folder = place / f"{kind.replace(' ', '-')}-{k}"
                folder.mkdir()
                found = fault(folder)
                shutil.rmtree(folder, ignore_errors=True)
                counts[found if found in counts else "failed"] += 1
                if found not in counts:
                    failures.append(f"{name}: {found}")
                    print(failures[-1], file=sys.stderr, flush=True)
            table.append((kind, sum(counts.values()), *counts.values(), time.monotonic() - began))
    print("| fault | tried | survived | answered in one sentence | failed | seconds |\n|---|---|---|---|---|---|")
    for kind, *numbers, seconds in table:
        print(f"| {kind} | " + " | ".join(map(str, numbers)) + f" | {seconds:.0f} |")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
