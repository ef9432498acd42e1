"""The fault campaign: kills of every verb, damaged folders, what users bring, displays and judges that fail.

Run from the project's root:

    python tests/faults/campaign.py                       # the short form, for CI
    python tests/faults/campaign.py long --write          # every case; its table replaces that of docs/reliability.md
    python tests/faults/campaign.py long --only "kills of" pools --seed 3

A fault is *survived* (exit code 0; after kills, damage and display faults with the undisturbed run's result), *answered
in one sentence* (exit code 2, an error message, no traceback, no control character; for utilities and judges also
unscored with the reason), or *failed*. Exit code 1 if any fault failed.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from command_line import ROOT, Fault
from failing_judges import judge_faults
from inputs import displays, pools, task_files, utilities
from kills import Undisturbed, damaged_folders, judged_kills, kills
from surroundings import surroundings

PAGE = ROOT / "docs" / "reliability.md"
HEAD = "| fault | tried | survived | answered in one sentence | failed |\n|---|---|---|---|---|\n"

Faults = Callable[[random.Random, Undisturbed, int], Iterator[Fault]]


def alone(faults: Callable[[random.Random, int], Iterator[Fault]]) -> Faults:
    """Faults that need no undisturbed run."""
    return lambda rng, whole, n: faults(rng, n)


KINDS: dict[str, tuple[Faults, int, int]] = {
    "kills of search": (partial(kills, "search"), 2, 16),
    "kills of compare": (partial(kills, "compare"), 1, 8),
    "kills of sweep": (partial(kills, "sweep"), 1, 8),
    "kills of lab": (partial(kills, "lab"), 1, 8),
    "kills of evaluate": (partial(kills, "evaluate"), 1, 6),
    "kills of score": (partial(kills, "score"), 1, 4),
    "kills of topic": (partial(kills, "topic"), 1, 4),
    "two kills of a judged search": (alone(judged_kills), 1, 8),
    "damaged run folders": (damaged_folders, 4, 80),
    "pools and bases": (alone(pools), 8, 120),
    "task files": (alone(task_files), 12, 90),
    "utilities": (alone(utilities), 6, 60),
    "displays": (displays, 2, 20),
    "surroundings": (surroundings, 1, 11),
    "judge faults": (alone(judge_faults), 3, 26),
}
"""What makes the faults of a kind, and how many in the short and in the long form."""


def main() -> int:
    """Runs the campaign and prints its table."""
    parser = argparse.ArgumentParser(description="The fault campaign.")
    parser.add_argument("form", nargs="?", choices=("short", "long"), default="short", help="long: every case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[""], help="kinds whose names start so")
    parser.add_argument("--case", type=int, help="one fault of each kind, by its number")
    parser.add_argument("--write", action="store_true", help=f"write the rows into {PAGE.name}")
    given = parser.parse_args()
    rows: dict[str, str] = {}
    failures = 0
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        whole = Undisturbed(place)
        for kind, (faults, few, many) in KINDS.items():
            if not kind.startswith(tuple(given.only)):
                continue
            counts = {"survived": 0, "answered": 0, "failed": 0}
            began = time.monotonic()
            for k, (name, fault) in enumerate(
                faults(random.Random(given.seed), whole, many if given.form == "long" else few)
            ):
                if given.case not in {None, k}:
                    continue
                folder = place / f"{kind.replace(' ', '-')}-{k}"
                folder.mkdir()
                found = fault(folder)
                shutil.rmtree(folder, ignore_errors=True)
                counts[found if found in counts else "failed"] += 1
                if found not in counts:
                    print(f"{name}: {found}", file=sys.stderr, flush=True)
            failures += counts["failed"]
            rows[kind] = f"| {kind} | {sum(counts.values())} | " + " | ".join(map(str, counts.values())) + " |"
            print(f"{rows[kind]} {time.monotonic() - began:.0f} s", flush=True)
    if given.write:
        write(rows)
    print(HEAD + "\n".join(rows.values()))
    return int(failures > 0)


def write(rows: dict[str, str]) -> None:
    """Replaces rows of the page's table."""
    before, _, rest = PAGE.read_text().partition(HEAD)
    table = re.match(r"(\|.*\n)*", rest)
    assert table is not None
    old = {line.split("|")[1].strip(): line for line in table[0].splitlines()}
    merged = [rows.get(kind) or old.get(kind) for kind in KINDS]
    PAGE.write_text(before + HEAD + "".join(f"{line}\n" for line in merged if line) + rest[table.end() :])


if __name__ == "__main__":
    sys.exit(main())
