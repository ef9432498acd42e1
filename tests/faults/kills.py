"""Kills of every verb at a seeded step (see `command_line.Kill`), and damaged run folders."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import yaml
from command_line import Ended, Fault, Kill, count_steps, run
from failing_judges import TOPIC, judge

MEDICAL = ["--task", "medical", "--limit", "2", "--display", "none"]
SEARCH = ["search", *MEDICAL, "--particles", "3", "--iterations", "2", "--optimiser", "pso"]
SIGNALS = [signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP]
CHANGING = re.compile("seconds|time|made|cost|folder|run$|next")
"""Fields of a result that differ between two runs of the same command."""


@dataclass(frozen=True)
class Verb:
    """A verb, the command after a kill, and what must not depend on the kill."""

    begin: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]
    lasting: Callable[[Path, Ended], Any]
    prepare: Callable[[Path], None] = lambda place: None


def lasting_search(folder: Path) -> Any:
    """Values, the winner's coefficients and its weights."""
    found = json.loads((folder / "result.json").read_text())
    rows = [(row["name"], row["dev"], row["test"]) for row in found["rows"]]
    return rows, found["winner"]["coefficients"], (folder / "best" / "adapter_model.safetensors").read_bytes()


def lasting_json(text: str) -> Any:
    """A JSON document without the fields that differ between two runs."""

    def pruned(value: Any) -> Any:
        if isinstance(value, dict):
            if any(isinstance(one, str) and "seconds" in one for one in value.values()):
                return None  # a finding on time
            return {key: pruned(one) for key, one in value.items() if not CHANGING.search(key)}
        return [pruned(one) for one in value] if isinstance(value, list) else value

    return pruned(json.loads(text))


def content_of(folder: Path) -> dict[str, str]:
    """The hash of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def resume_or(begin: Callable[[Path], list[str]], place: Path) -> list[str]:
    """`resume` if the killed search has begun, else the same command."""
    return (
        ["resume", str(place / "run"), "--display", "none"] if (place / "run/settings.yaml").exists() else begin(place)
    )


def studies(undisturbed_search: Callable[[Path], Path]) -> dict[str, Verb]:
    """The verbs that ask no judge; those that write need a folder only."""

    def search(place: Path) -> list[str]:
        return [*SEARCH, "--out", str(place), "--name", "run"]

    def compare(place: Path) -> list[str]:
        methods = "base,best_single,task_arithmetic,random,swarm"
        return ["compare", *MEDICAL, "--methods", methods, "--seeds", "1", "--budget", "3", "--out", str(place / "out")]

    def sweep(place: Path) -> list[str]:
        small = ["--particles", "2", "--iterations", "1", "--trials", "2", "--budget", "2"]
        return ["sweep", *MEDICAL, "--limit", "6", *small, "--out", str(place / "out")]

    def lab(place: Path) -> list[str]:
        return ["lab", *MEDICAL, "--cloud", "2", "--probes", "2", "--out", str(place / "out")]

    def evaluate(place: Path) -> list[str]:
        return ["evaluate", "--task", "medical", "--limit", "2", "--json", "--out", str(place / "out")]

    def score(place: Path) -> list[str]:
        return ["score", str(place / "run"), "--json"]

    def topic(place: Path) -> list[str]:
        return ["topic", "cooking", "--dev", "3", "--test", "3", "--force", "--out", str(place / "topic.yaml")]

    def written(name: str) -> Callable[[Path, Ended], Any]:
        return lambda place, ended: lasting_json((place / "out" / name).read_text())

    def records(place: Path, ended: Ended) -> Any:
        return lasting_json(ended.out), parquet.read_table(place / "out/records/evaluate_dev.parquet").to_pylist()

    return {
        "search": Verb(search, partial(resume_or, search), lambda place, ended: lasting_search(place / "run")),
        "compare": Verb(compare, compare, written("compare.json")),
        "sweep": Verb(sweep, sweep, written("sweep.json")),
        "lab": Verb(lab, lab, written("lab.json")),
        "evaluate": Verb(evaluate, evaluate, records),
        "score": Verb(
            score,
            score,
            lambda place, ended: (lasting_json(ended.out), content_of(place / "run")),
            lambda place: shutil.copytree(undisturbed_search(place), place / "run") and None,
        ),
        "topic": Verb(topic, topic, lambda place, ended: (place / "topic.yaml").read_text()),
    }


class Undisturbed:
    """The undisturbed runs, each made when first needed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.verbs = studies(lambda place: self.search())
        self._runs: dict[str, tuple[Any, int]] = {}

    def of(self, name: str) -> tuple[Any, int]:
        """What an undisturbed run of a verb has found, and its number of steps."""
        if name not in self._runs:
            place = self.place / f"undisturbed-{name}"
            place.mkdir()
            self.verbs[name].prepare(place)
            ended, steps = count_steps(self.verbs[name].begin(place))
            if ended.code != 0:
                raise SystemExit(f"the undisturbed {name} failed: {ended.err}")
            self._runs[name] = self.verbs[name].lasting(place, ended), steps
        return self._runs[name]

    def search(self) -> Path:
        """The folder of the finished search."""
        self.of("search")
        return self.place / "undisturbed-search" / "run"

    def copy(self, to: Path, *, finished: bool) -> Path:
        """A copy of the finished search, or of one that was stopped before its final test."""
        shutil.copytree(self.search(), to)
        if not finished:
            (to / "result.json").unlink()
            shutil.rmtree(to / "best")
            for file in [*to.glob("records/test*"), *to.glob("records/dev*")]:
                file.unlink()
        return to


def kills(name: str, rng: random.Random, whole: Undisturbed, n: int) -> Iterator[Fault]:
    """A verb is killed at a step, and run again: its result is the undisturbed one's."""
    for k in range(n):
        share, number = (k + rng.random()) / n, rng.choice(SIGNALS)

        def fault(place: Path, share: float = share, number: int = number) -> str:
            wanted, steps = whole.of(name)
            verb = whole.verbs[name]
            verb.prepare(place)
            killed = run(verb.begin(place), kill=Kill(int(share * steps), number))
            if killed.code not in {0, -signal.SIGKILL, 130}:
                return f"the killed run: {killed.outcome}"
            again = run(verb.again(place))
            if again.code != 0:
                return f"after the kill: {again.outcome} {again.err.strip()[-300:]}"
            return "survived" if verb.lasting(place, again) == wanted else "another result than the undisturbed run's"

        yield f"kill of {name} {k}: {signal.Signals(number).name} after {share:.0%} of its steps", fault


TOKENS = 70
"""What a reply of the judge costs, by its own count."""


def judged_kills(rng: random.Random, n: int) -> Iterator[Fault]:
    """A judged search under a budget is killed twice and resumed: the judge never bills more than the budget."""
    for k in range(n):
        limit, steps = rng.choice([6_000, 12_000, 100_000]), [rng.randrange(20, 160) for _ in range(2)]

        def fault(place: Path, limit: int = limit, steps: Sequence[int] = tuple(steps)) -> str:
            (place / "cars.yaml").write_text(TOPIC)
            with ExitStack() as stack:
                url, requests = stack.enter_context(judge(None, random.Random(0), delay=0.02))
                judged = [
                    "--judge",
                    "m",
                    "--judge-url",
                    url,
                    "--judge-cache",
                    str(place / "cache"),
                    "--canary-every",
                    "0",
                ]
                judged += ["--allow-unknown-price", "--factuality", "none", "--budget-tokens", str(limit)]
                begin = ["search", "--task", str(place / "cars.yaml"), "--out", str(place), "--name", "run", *judged]
                for step in steps:
                    run(resume_or(lambda place: [*begin, "--display", "none"], place), kill=Kill(step))
                ended = run(resume_or(lambda place: [*begin, "--display", "none"], place))
                billed = TOKENS * requests.stat().st_size
            if billed > limit:
                return f"{billed} tokens were billed under a budget of {limit}"
            return ended.outcome

        yield f"kill of a judged search {k}: budget {limit}, steps {steps}", fault


WRONG_VALUES: list[Any] = [None, "x", -1, 1e999, [], {}, 10**30, True]


def damaged_folders(rng: random.Random, whole: Undisturbed, n: int) -> Iterator[Fault]:
    """A file of a run folder is damaged, and the run resumed."""
    files = ["settings.yaml", "checkpoint/state.json", "events.jsonl", "result.json", "best/adapter_model.safetensors"]
    files += ["best/adapter_config.json", "records/iter_0000.parquet", "records/iter_0001.parquet"]
    ways = ["delete", "empty", "cut", "flip", "folder", "garbage", "value"]
    cases = [(file, way) for file in files for way in ways]
    rng.shuffle(cases)
    for k in range(n):
        file, way = cases[k % len(cases)]
        seed = rng.random()

        def fault(place: Path, file: str = file, way: str = way, seed: float = seed) -> str:
            folder = whole.copy(place / "run", finished=file.startswith(("result", "best")))
            damage(folder / file, way, random.Random(seed))
            ended = run(["resume", str(folder), "--display", "none"])
            if ended.code == 0 and lasting_search(folder) != whole.of("search")[0]:
                return "another result than the undisturbed run's"
            return ended.outcome

        yield f"folder {k}: {file}, {way}", fault


def damage(path: Path, way: str, rng: random.Random) -> None:
    """Damages a file."""
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
