"""A judged search that is killed without warning: nothing is paid twice, and no server is left behind."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def start(folder, *arguments):
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    environment["PYTHONWARNINGS"] = "default::ResourceWarning"
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *map(str, arguments)],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "ResourceWarning" not in err, err  # every file and connection was closed
    return out


SEARCH = ["--task", "electric_vehicles", "--limit", 8, "--iterations", 2, "--particles", 5, "--name", "one"]


def judgements(folder):
    with sqlite3.connect(folder / "cache" / "model-swarms" / "judgements.sqlite") as cache:
        (table,) = (name for (name,) in cache.execute("select name from sqlite_master where type = 'table'"))
        return cache.execute(f"select count(*) from {table}").fetchone()[0]  # noqa: S608 - its own name


def test_a_killed_run_with_the_embedded_judge_goes_on_without_asking_again(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    ended(start(tmp_path / "whole", *SEARCH, "--display", "none"))
    running = start(tmp_path / "killed", *SEARCH, "--display", "none")
    events = tmp_path / "killed" / "runs" / "one" / "events.jsonl"
    while not (events.exists() and '"iteration":1' in events.read_text()):
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    known = judgements(tmp_path / "killed")
    ended(start(tmp_path / "killed", "resume", "runs/one", "--display", "none"))
    results = [tmp_path / name / "runs" / "one" / "result.json" for name in ("whole", "killed")]
    whole, resumed = (json.loads(path.read_text()) for path in results)
    assert resumed["winner"]["coefficients"] == whole["winner"]["coefficients"]
    assert [row["test"] for row in resumed["rows"]] == [row["test"] for row in whole["rows"]]
    assert [row["report_only"] for row in resumed["rows"]] == [row["report_only"] for row in whole["rows"]]
    assert judgements(tmp_path / "killed") == judgements(tmp_path / "whole") >= known > 0
    # A request that was in flight at the kill was paid, its reply is lost, and it is counted.
    in_flight = 32  # the default of --judge-in-flight
    assert resumed["judging"]["requests"] <= judgements(tmp_path / "killed") + in_flight
