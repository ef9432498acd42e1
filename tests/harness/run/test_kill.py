"""Processes that are killed, interrupted, or meet in one folder; each case starts the real command."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
JOB = ["--task", "medical", "--edition", "mini", "--limit", 30, "--iterations", 6, "--particles", 6, "--device", "cpu"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever starts the tests in the background has made them ignore Ctrl-C, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def ended(process):
    out, err = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="module")
def search(base, adapters):
    """Arguments of the search; the folder of the run is added."""
    experts = [part for folder in adapters for part in ("--experts", folder)]

    def arguments(folder):
        place = ["--out", folder.parent, "--name", folder.name, "--display", "plain"]
        return ["search", *JOB, "--base-model", base, *experts, *place]

    return arguments


@pytest.fixture(scope="module")
def undisturbed(search, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = ended(start(*search(folder)))
    assert done.returncode == 0, done.stderr
    return folder


def lasting(folder):
    """All that must not depend on when, where, or in how many parts the run was made."""
    result = json.loads((folder / "result.json").read_text())
    for name in ("seconds", "time_share", "run", "cached_answers"):
        del result[name]
    del result["winner"]["adapter"]
    return result, {p.name: p.read_bytes() for p in (folder / "best").iterdir() if p.name != "README.md"}


def reached(process, condition):
    """Waits until `condition` holds; False where the process ended first."""
    while not condition():
        if process.poll() is not None:
            return False
        time.sleep(0.002)
    return True


def has(folder, pattern):
    return lambda: any(folder.glob(pattern))


def iteration(folder):
    path = folder / "checkpoint" / "state.json"
    return len(json.loads(path.read_text())["swarm"]["values"]) - 1 if path.exists() else -2


def kill_and_resume(search, folder, moments, rng):
    """Kills the run at each of the moments, then lets it end. Returns at how many moments it was still at work."""
    kills = 0
    for moment in [*moments, None]:
        begun = (folder / "settings.yaml").exists()
        process = start(*(["resume", folder, "--display", "plain"] if begun else search(folder)))
        try:
            if moment is not None and reached(process, moment):
                time.sleep(rng.uniform(0.0, 0.15))
                process.kill()
        finally:
            done = ended(process)
        assert done.returncode in {0, -signal.SIGKILL}, done.stderr
        kills += done.returncode == -signal.SIGKILL
    return kills


@pytest.mark.parametrize("seed", range(2))
def test_killed_during_the_search_it_ends_the_same(seed, search, undisturbed, tmp_path):
    folder, rng = tmp_path / "run", random.Random(seed)
    moments = [has(folder, "settings.yaml"), has(folder, "events.jsonl")]
    moments += [lambda k=k: iteration(folder) >= k for k in sorted(rng.sample(range(6), 3))]
    assert kill_and_resume(search, folder, moments, rng) >= 2  # the first two; a busy machine may miss a later moment
    assert lasting(folder) == lasting(undisturbed)


def test_killed_during_the_final_test_it_ends_the_same(search, undisturbed, tmp_path):
    folder, rng = tmp_path / "run", random.Random(7)
    moments = [has(folder, f"records/test_{name}.parquet") for name in ("base", "expert_ant", "expert_cat")]
    moments.append(has(folder, ".best.partial"))
    assert kill_and_resume(search, folder, moments, rng) >= 1
    assert lasting(folder) == lasting(undisturbed)
    assert not list(folder.rglob(".*partial*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on_and_does(number, search, undisturbed, tmp_path):
    folder = tmp_path / "run"
    process = start(*search(folder))
    try:
        assert reached(process, lambda: iteration(folder) >= 1)
        process.send_signal(number)
    finally:
        done = ended(process)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    told = [line for line in done.stdout.splitlines() if "resume" in line]
    assert told == [f"Interrupted; continue with: python run.py resume {folder}"]
    assert not (folder / "result.json").exists()
    done = ended(start(*told[0].split("python run.py ")[1].split(), "--display", "none", "--json"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((folder / "result.json").read_text())
    assert lasting(folder) == lasting(undisturbed)


def test_a_second_process_on_a_folder_at_work_is_refused(search, tmp_path):
    folder = tmp_path / "run"
    first = start(*search(folder))
    try:
        assert reached(first, lambda: iteration(folder) >= -1)
        first.send_signal(signal.SIGSTOP)  # so that it cannot be done before the second one looks
        done = ended(start("resume", folder))
        assert done.returncode == 2
        assert f"{folder} is in use by another process" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        first.send_signal(signal.SIGCONT)
        whole = ended(first)
    assert whole.returncode == 0, whole.stderr
