"""What a function of a user's file can do to a process, and what becomes of the item."""

import asyncio
import os
import re
import time
from pathlib import Path

import pytest

from utilities.core import Item, Reason, Response, Score, Unscored
from utilities.errors import UserError
from utilities.scorers.function import scorer_from_file
from utilities.user_process import process_of

ITEM, RESPONSE = Item(id="1", question="Why?"), Response("because")

DEEDS = {
    "leaves": ("import os\ndef f(item, response): os._exit(0)", Reason.MALFORMED, r"ended its process \(exit code 0\)"),
    "kills": (
        "import os, signal\ndef f(item, response): os.kill(os.getpid(), signal.SIGKILL)",
        Reason.MALFORMED,
        r"ended its process \(signal 9\)",
    ),
    "closes": ("import os\ndef f(item, response): os.closerange(0, 200)", Reason.MALFORMED, "ended its process"),
    "crashes": ("import ctypes\ndef f(item, response): ctypes.string_at(0)", Reason.MALFORMED, r"\(signal 11\)"),
    "exits": ("def f(item, response): raise SystemExit(0)", Reason.MALFORMED, "raised SystemExit: 0"),
    "eats": ("def f(item, response): return len(bytearray(1 << 50))", Reason.MALFORMED, "raised MemoryError"),
    "recurs": ("def f(item, response): return f(item, response)", Reason.MALFORMED, "raised RecursionError"),
    "backtracks": (
        "import re\ndef f(item, response): return float(bool(re.match('(a+)+b', 'a' * 60)))",
        Reason.TIME,
        "no score within 0.5 s",
    ),
    "wordless": (
        "class E(Exception):\n    def __str__(self): raise RuntimeError\ndef f(item, response): raise E()",
        Reason.MALFORMED,
        "the utility raised E",
    ),
    "large": ("def f(item, response): return 1e308", Reason.OUT_OF_RANGE, "returned 1e\\+308"),
    "acts": ("def f(item, response): return 'a\\x1b[31m'", Reason.MALFORMED, r"returned 'a\\\\?x1b"),
}


def scorer(tmp_path, text, **options):
    file = tmp_path / "mine.py"
    file.write_text(text)
    return scorer_from_file(f"{file}:f")(**options)


@pytest.mark.parametrize("deed", DEEDS)
def test_the_item_is_unscored_with_the_reason_and_the_next_call_works(tmp_path, deed):
    text, reason, detail = DEEDS[deed]
    limit = 0.5 if reason is Reason.TIME else 120.0
    body = f"{text}\ndeed = f\ndef f(item, response): return deed(item, response) if item.id == '1' else 2.0"
    mine = scorer(tmp_path, body.replace("return f(item", "return deed(item"), time_limit_s=limit)
    outcome = mine.score_one(ITEM, RESPONSE)
    assert isinstance(outcome, Unscored)
    assert outcome.reason is reason
    assert re.search(detail, outcome.detail), outcome.detail
    mine.time_limit_s = 120.0
    assert mine.score_one(Item(id="2", question="Why?"), RESPONSE) == Score(2.0)


def test_what_it_prints_is_not_the_runs_output(tmp_path, capfd):
    text = "import os\nprint('at import')\ndef f(item, response):\n    print('in f'); os.write(1, b'raw'); return 1.0"
    mine = scorer(tmp_path, text)
    assert mine.score_one(ITEM, RESPONSE) == Score(1.0)
    process_of(mine.spec).close()
    out, err = capfd.readouterr()
    assert out == ""
    assert "raw" in err


def test_after_three_lost_calls_the_function_is_not_called_again(tmp_path):
    mine = scorer(tmp_path, "import os\ndef f(item, response): os._exit(0)")
    outcomes = asyncio.run(mine.score([ITEM] * 6, [RESPONSE] * 6))
    assert [one.reason for one in outcomes] == [Reason.MALFORMED] * 3 + [Reason.TIME] * 3


def test_its_state_lasts_from_call_to_call(tmp_path):
    mine = scorer(tmp_path, "seen = []\ndef f(item, response):\n    seen.append(item)\n    return len(seen)")
    assert [mine.score_one(ITEM, RESPONSE) for _ in range(3)] == [Score(1.0), Score(2.0), Score(3.0)]


@pytest.mark.parametrize(
    ("top", "reason"),
    [
        ("import os; os._exit(0)", r"ended its process \(exit code 0\) when it was run"),
        ("import os; os.closerange(0, 100)", "when it was run"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise ValueError('not today')", "line 1 could not be run: ValueError: not today"),
    ],
)
def test_a_file_that_cannot_be_run_is_an_error_and_the_program_continues(tmp_path, top, reason):
    with pytest.raises(UserError, match=reason):
        scorer(tmp_path, f"{top}\ndef f(item, response): return 1.0")


def test_a_file_that_is_deleted_during_a_run_is_the_reason(tmp_path):
    mine = scorer(tmp_path, "def f(item, response): return 1.0")
    (tmp_path / "mine.py").unlink()
    assert "does not exist" in mine.score_one(ITEM, RESPONSE).detail


def test_the_child_ends_with_what_it_started(tmp_path):
    text = (
        "import os, subprocess\ndef f(item, response):\n"
        "    return float(subprocess.Popen(['sleep', '1000']).pid) if item.id == '1' else float(os.getpid())"
    )
    mine = scorer(tmp_path, text)
    pids = [int(mine.score_one(Item(id=i, question="?"), RESPONSE).value) for i in ("1", "2")]
    process_of(mine.spec).close()
    while any(_runs(pid) for pid in pids):  # the system ends them a moment after the signal
        time.sleep(0.01)


def _runs(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
