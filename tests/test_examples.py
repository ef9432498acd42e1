"""Every file of examples/ runs as a user runs it, and docs/python.md names them all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("examples")


def run(folder, name, *arguments):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *arguments],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "COLUMNS": "200",
            "PYTHONWARNINGS": "default::ResourceWarning",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "ResourceWarning" not in done.stderr, done.stderr
    return done.stdout


def test_the_examples_are_short_and_documented():
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert len(EXAMPLES) == 6
    for path in EXAMPLES:
        assert f"(../examples/{path.name})" in text
        assert len(path.read_text(encoding="utf-8").splitlines()) < 40


@pytest.mark.slow
def test_own_utility_and_read_a_run(folder):
    shown = run(folder, "own_utility.py")
    assert "winner" in shown
    shown = run(folder, "read_a_run.py", "runs/gsm8k-seed0")
    assert "cma-positive on gsm8k" in shown
    assert "expert_lab-notes" in shown


def test_own_models(folder, base, adapters):
    shown = run(folder, "own_models.py", base, *adapters)
    assert "base model: " in shown
    assert "ant: " in shown
    assert (folder / "winner" / "adapter_config.json").is_file()


@pytest.mark.slow
def test_compare_two_utilities(folder):
    shown = run(folder, "compare_two_utilities.py")
    assert "says_it: " in shown
    assert "short: not fit" in shown


@pytest.mark.slow
def test_judge(folder):
    shown = run(folder, "judge.py")
    assert "winner" in shown
    assert "judges=['embedded']" in shown


@pytest.mark.slow
def test_own_environment(folder):
    shown = run(folder, "own_environment.py")
    assert "winner" in shown
