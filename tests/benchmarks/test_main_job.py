"""The main job as a user starts it: `python run.py --task medical`, with the embedded model and all defaults."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.embedded import BASE

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not (BASE / "model.safetensors").is_file(), reason="the embedded weights are not there"),
]

ROOT = Path(__file__).parents[2]


def test_main_job(tmp_path, capsys):
    command = [sys.executable, "run.py", "--task", "medical", "--json", "--display", "none", "--out", str(tmp_path)]
    start = time.perf_counter()
    with (tmp_path / "out").open("w+") as out, (tmp_path / "err").open("w+") as err:
        job = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err)
        # The system kept the peak; looking at it while the job runs would take a core from it.
        _, status, used = os.wait4(job.pid, 0)
    seconds, peak = time.perf_counter() - start, used.ru_maxrss * 1024
    assert os.waitstatus_to_exitcode(status) == 0, (tmp_path / "err").read_text()
    result = json.loads((tmp_path / "out").read_text())
    assert result["winner"]["test"] is not None
    share = result["time_share"]
    assert sum(share.values()) == pytest.approx(1.0)
    events = [json.loads(line) for line in (Path(result["run"]) / "events.jsonl").read_text().splitlines()]
    sizes = next(event for event in events if event["kind"] == "started")
    searched = sum(event["items"] for event in events if event["kind"] == "evaluated")
    tested = sizes["dev_items"] + len(result["rows"]) * sizes["test_items"]  # the base model has no dev value yet
    with capsys.disabled():
        print("\npython run.py --task medical")
        print(f"  wall time          {seconds:6.1f} s, of which {result['seconds']:.1f} s in result.json")
        print(f"  peak memory        {peak / 1e9:6.2f} GB resident")
        print(f"  evaluations        {result['evaluations']:6} in {result['iterations']} iterations")
        print(
            f"  questions answered {searched + tested:6}, {(searched + tested) / seconds:.0f} a second, start included"
        )
        print("  time share        ", ", ".join(f"{name} {value:.1%}" for name, value in share.items()))
