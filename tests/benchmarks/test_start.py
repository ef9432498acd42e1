"""How long the command line takes to answer, beside what Python and its two libraries take to start."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import typer, pydantic'": ["-c", "import typer, pydantic"],
    **{
        f"run.py {words}": ["run.py", *words.split()]
        for words in ("--help", "search --help", "list tasks", "list utilities", "list engines")
    },
}
REPEATS = 5


def test_start(capsys):
    seconds = {name: [] for name in COMMANDS}
    for _ in range(REPEATS + 1):  # in turn, so that a busy moment meets them all; the first may have to compile
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=280)
            seconds[name].append(time.perf_counter() - start)
            assert done.returncode == 0, done.stderr
            assert bool(done.stdout) == name.startswith("run.py")
    with capsys.disabled():
        print(f"\nwall time, best of {REPEATS}")
        for name, taken in seconds.items():
            print(f"  {name:36}{min(taken[1:]):6.2f} s")
