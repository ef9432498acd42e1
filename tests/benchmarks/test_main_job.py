"""The main job as a user starts it, `python run.py --task medical` with all defaults, and a second one: another seed.

With `MODEL_SWARMS_OTHER=/path/to/checkout`, also beside another version:
both run in turn, so that a busy machine slows both.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.embedded import BASE

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not (BASE / "model.safetensors").is_file(), reason="the embedded weights are not there"),
]

ROOT = Path(__file__).parents[2]


def run(checkout, seed, folder, *more):
    """Result, processor seconds and peak bytes of a main job, with a cache folder for each checkout."""
    command = [sys.executable, "run.py", "--task", "medical", "--seed", str(seed), "--json", "--display", "none"]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "XDG_CACHE_HOME": str(folder / "cache")}
    folder.mkdir(exist_ok=True)
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        job = subprocess.Popen(
            [*command, "--out", str(folder / "runs"), *more], cwd=checkout, env=environment, stdout=out, stderr=err
        )
        # The system kept the peak; looking at it while the job runs would take a core from it.
        _, status, used = os.wait4(job.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, (folder / "err").read_text()
    result = json.loads((folder / "out").read_text())
    assert result["winner"]["test"] is not None
    assert sum(result["time_share"].values()) == pytest.approx(1.0)
    return result, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def test_main_job(tmp_path, capsys):
    size = os.environ.get("MODEL_SWARMS_MAIN_JOB", "").split()  # such as "--limit 20 --iterations 10", for a quick look
    other = os.environ.get("MODEL_SWARMS_OTHER")
    versions = {"this": ROOT, **({"other": Path(other)} if other else {})}
    done = {(seed, name): run(path, seed, tmp_path / name, *size) for seed in (0, 1) for name, path in versions.items()}
    first, seconds, peak = done[0, "this"]
    second = done[1, "this"]
    assert second[0]["cached_answers"] > 0
    share = ", ".join(f"{name} {value:.1%}" for name, value in first["time_share"].items())
    with capsys.disabled():
        print(f"\npython run.py --task medical {' '.join(size)}")
        print(f"  processor time           {seconds:6.1f} s, wall time {first['seconds']:.1f} s in result.json")
        print(f"  peak memory              {peak / 1e9:6.2f} GB resident")
        print(f"  evaluations              {first['evaluations']:6} in {first['iterations']} iterations")
        print(f"  time share               {share}")
        print(f"  second seed : first      {second[1] / seconds:6.2f}, {second[0]['cached_answers']} answers cached")
        for seed, name in ((0, "first"), (1, "second")) if other else ():
            before = done[seed, "other"]
            values = f"test {done[seed, 'this'][0]['winner']['test']:.4f} and {before[0]['winner']['test']:.4f}"
            print(f"  this : other, {name:11}{done[seed, 'this'][1] / before[1]:6.2f}, {values}")
