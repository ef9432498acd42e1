"""What happens around a run: its folder is deleted or read-only, limits of the system, stops, names that collide."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from command_line import WEIGHTS, Fault, Kill, run, start, wait
from failing_judges import TOPIC, judge
from kills import Undisturbed, content_of, lasting_search

POOL = ("validate", "--task", "medical", "--limit", "2", "--experts")


def _deleted(place: Path, whole: Undisturbed, rng: random.Random, what: str) -> str:
    """A folder of the run is deleted at a step."""
    _, steps = whole.of("search")

    def prepare() -> None:
        def delete(*_: object) -> None:
            shutil.rmtree(place / "run" / what, ignore_errors=True)

        signal.signal(signal.SIGUSR1, delete)
        Kill(int(rng.uniform(0.5, 0.9) * steps), signal.SIGUSR1).arm()

    return run(whole.verbs["search"].begin(place), prepare=prepare).outcome


def _limited(place: Path, whole: Undisturbed, rng: random.Random, limit: int, value: int) -> str:
    """A limit of the system, also for the files that are open already."""
    ended = run(whole.verbs["search"].begin(place), prepare=lambda: resource.setrlimit(limit, (value, value)))
    if ended.code == 0:
        return "survived" if lasting_search(place / "run") == whole.of("search")[0] else "another result"
    if not ended.answered:
        return ended.outcome
    again = run(whole.verbs["search"].again(place))
    return "answered" if again.code == 0 else f"after the limit: {again.outcome}"


def _read_only(place: Path, whole: Undisturbed, rng: random.Random) -> str:
    """A finished run on a read-only file system is shown and scored again; nothing else where mounting is forbidden."""
    folder = whole.copy(place / "run", finished=True)
    before = content_of(folder)
    mounted = all(
        subprocess.run(["mount", *options], capture_output=True).returncode == 0
        for options in (["--bind", str(folder), str(folder)], ["-o", "remount,ro,bind", str(folder)])
    )
    try:
        for arguments in (
            ["resume", str(folder)],
            ["score", str(folder), "--json"],
            ["evaluate", *POOL[1:5], "--experts", str(folder / "best")],
        ):
            if (ended := run(arguments)).code != 0:
                return f"{arguments[0]}: {ended.outcome}"
        if mounted and (folder / "new").parent.exists() and os.access(folder, os.W_OK):
            return "the folder is not read-only"
        return "survived" if content_of(folder) == before else "the folder was changed"
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def _stopped(place: Path, whole: Undisturbed, rng: random.Random) -> str:
    """SIGSTOP and SIGCONT while judges are asked."""
    (place / "cars.yaml").write_text(TOPIC)
    with judge(None, rng, delay=0.3) as (url, requests), tempfile.TemporaryFile() as out:
        arguments = ["evaluate", "--task", str(place / "cars.yaml"), "--experts", str(WEIGHTS / "experts" / "look-up")]
        judged = ["--judge", "m", "--judge-url", url, "--judge-cache", str(place / "cache"), "--judge-timeout", "2"]
        child = start([*arguments, *judged, "--factuality", "none"], out.fileno(), out.fileno())
        end = time.monotonic() + 120
        while requests.stat().st_size == 0 and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(child, signal.SIGSTOP)
        time.sleep(3)
        os.kill(child, signal.SIGCONT)
        code = wait(child, 120)
        out.seek(0)
        text = out.read().decode()
    return "survived" if code == 0 and "not comparable" not in text else f"exit {code}: {text[-300:]}"


def _named(place: Path, whole: Undisturbed, rng: random.Random, *names: str) -> str:
    """Experts with names that the tables use, or with equal names."""
    for k, name in enumerate(names):
        shutil.copytree(WEIGHTS / "experts" / ("look-up", "crossword")[k % 2], place / str(k) / name)
    return run([*POOL, *(str(place / str(k) / name) for k, name in enumerate(names))]).outcome


CASES: dict[str, Callable[[Path, Undisturbed, random.Random], str]] = {
    "files of at most 4 kB": lambda *given: _limited(*given, resource.RLIMIT_FSIZE, 4096),
    "the run folder is deleted": lambda *given: _deleted(*given, "."),
    "SIGSTOP and SIGCONT while judging": _stopped,
    "a read-only run folder": _read_only,
    "8 open files": lambda *given: _limited(*given, resource.RLIMIT_NOFILE, 8),
    "24 open files": lambda *given: _limited(*given, resource.RLIMIT_NOFILE, 24),
    "files of at most 100 kB": lambda *given: _limited(*given, resource.RLIMIT_FSIZE, 100_000),
    "the records are deleted": lambda *given: _deleted(*given, "records"),
    "the checkpoint is deleted": lambda *given: _deleted(*given, "checkpoint"),
    "experts called winner and base model": lambda *given: _named(*given, "winner", "base model"),
    "two experts of one name": lambda *given: _named(*given, "one", "one"),
}


def surroundings(rng: random.Random, whole: Undisturbed, n: int) -> Iterator[Fault]:
    """What happens around a run ends in the undisturbed result or in one sentence."""
    for name, case in list(CASES.items())[:n]:
        yield name, lambda place, case=case: case(place, whole, random.Random(rng.random()))  # type: ignore[misc]
