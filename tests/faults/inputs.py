"""What a user brings: pools and bases, task files, utilities; and where stdout goes."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import random
import shutil
import struct
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from command_line import WEIGHTS, Fault, run
from kills import WRONG_VALUES, Undisturbed, damage


def pools(rng: random.Random, n: int) -> Iterator[Fault]:
    """A pool or base with one damage, seen by `validate`."""
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
            return "control characters on the screen" if unclean else ended.outcome

        yield f"pool {k}: {kind} {key if 'config' in kind else ''}", fault


def task_files(rng: random.Random, n: int) -> Iterator[Fault]:
    """A task file with a known trap, or with small seeded changes, seen by `validate`."""
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
            return run(["validate", "--task", str(place / "own.yaml"), "--edition", "mini"]).outcome

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

TOPS = [
    "",
    "print('at import')\nimport os\nos.write(1, b'at import')\n",
    "import threading, time\nthreading.Thread(target=time.sleep, args=(1e6,)).start()\n",
]
"""What the file does when it is run."""
ENDINGS = [
    "import os; os._exit(0)",
    "import sys; sys.exit(0)",
    "import os; os.closerange(0, 100)",
    "import ctypes; ctypes.string_at(0)",
    "raise KeyboardInterrupt",
    "raise SystemExit",
    "1 / 0",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "import signal; signal.raise_signal(signal.SIGTERM)",
    "f = len(bytearray(1 << 45))",
]
"""Files that cannot be run."""


def utilities(rng: random.Random, n: int) -> Iterator[Fault]:
    """A function of a user that misbehaves: stdout is one JSON document, and every missing value has a reason."""
    order = rng.sample(range(len(UTILITIES)), len(UTILITIES))
    for k in range(n):
        body, top = UTILITIES[order[k % len(UTILITIES)]], TOPS[k // len(UTILITIES) % len(TOPS)]

        text = f"{top}def f(item, response):\n    {body}\n"
        if k % 6 == 5:
            top, body = ENDINGS[k // 6 % len(ENDINGS)], "return 1.0"
            text = f"{top}\ndef f(item, response):\n    {body}\n"

        def fault(place: Path, text: str = text) -> str:
            (place / "own.py").write_text(text)
            arguments = ["evaluate", "--task", "gsm8k", "--limit", "2", "--json", "--utility", f"{place / 'own.py'}:f"]
            ended = run(arguments)
            if ended.code != 0 or "Traceback" in ended.err:
                return ended.outcome
            try:
                rows = json.loads(ended.out)
            except ValueError:
                return "stdout is no JSON"
            if silent := [row["name"] for row in rows if row["unscored"] and not row["unscored_reason"]]:
                return f"unscored without a reason: {silent[0]}"
            return "survived" if all(row["value"] is not None for row in rows) else "answered"

        yield f"utility {k}: {top[:40]!r} {body[:50]}", fault


PLACES = ["/dev/full", "a closed pipe", "closed", "a terminal that is closed", "a terminal that is resized"]
SHOWN = ["search", "compare", "sweep", "lab", "topic", "evaluate", "score"]
"""Verbs; their number and that of the places have no common divisor."""


def displays(rng: random.Random, whole: Undisturbed, n: int) -> Iterator[Fault]:
    """stdout fails, or is a terminal that is closed or resized: the verb's result is the undisturbed one's."""
    for k in range(n):
        where, name = PLACES[k % len(PLACES)], SHOWN[k % len(SHOWN)]
        more = ["--json"] * (name != "topic" and k // len(PLACES) % 2)

        def fault(place: Path, where: str = where, more: list[str] = more, name: str = name) -> str:
            wanted, _ = whole.of(name)
            verb = whole.verbs[name]
            verb.prepare(place)
            arguments = [one for one in verb.begin(place) if one not in {"--json", "none", "--display"}]
            stdout = Stdout(where)
            try:
                ended = run([*arguments, *more], out=stdout.descriptor, prepare=stdout.prepare)
            finally:
                stdout.close()
            lost = ended.code == 1 and "stdout cannot be written" in ended.err and where == "/dev/full" and more
            if ended.code != 0 and not lost:
                return f"exit {ended.code}: {ended.err[-200:]}"
            if name not in {"evaluate", "score"} and verb.lasting(place, ended) != wanted:  # theirs was stdout
                return "another result than the undisturbed run's"
            return "answered" if lost else "survived"

        yield f"display {k}: {name}, {where}{' --json' if more else ''}", fault


class Stdout:
    """A stdout that fails in a chosen way; `descriptor` is -1 if it is closed."""

    def __init__(self, where: str) -> None:
        self.descriptor, self._other, self._where = -1, -1, where
        if where == "/dev/full":
            self.descriptor = os.open("/dev/full", os.O_WRONLY)
        elif where == "a closed pipe":
            reader, self.descriptor = os.pipe()
            os.close(reader)
        elif where != "closed":
            self._other, self.descriptor = pty.openpty()
            threading.Thread(target=self._disturb, daemon=True).start()

    def _disturb(self) -> None:
        """Reads a little, then closes the terminal, or resizes it again and again while it reads all."""
        end = time.monotonic() + 600
        with suppress(OSError):
            while time.monotonic() < end and os.read(self._other, 500):
                if self._where.endswith("closed"):
                    return self._close_other()
                size = struct.pack("HHHH", random.randrange(1, 60), random.randrange(1, 200), 0, 0)
                fcntl.ioctl(self._other, termios.TIOCSWINSZ, size)
        return None

    def prepare(self) -> None:
        """Closes the child's copies of the other end."""
        self._close_other()
        os.environ.pop("COLUMNS", None)

    def _close_other(self) -> None:
        if self._other >= 0:
            other, self._other = self._other, -1
            os.close(other)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
