"""The wheel: it carries tasks, prompts and the embedded family, and runs outside the checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT], check=True
    )
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_carries_data_and_licence_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "utilities/bundled/tasks/medical.yaml",
        "utilities/bundled/tasks/data/medical_questions.json",
        "utilities/bundled/prompts/plain.jinja",
        "harness/embedded/weights/base/model.safetensors",
        "harness/annotate/page.html.jinja",
        "harness/annotate/page.js",
        "harness/report/templates/report.html",
        "harness/report/templates/script.js",
        "harness/report/templates/style.css",
        "harness/embedded/corpus/medical_body.yaml",
    ):
        assert wanted in names
    assert any(name.endswith("LICENSE") for name in names)
    assert not [name for name in names if name.startswith("tests/")]
    assert wheel.stat().st_size < 25e6


def test_the_installed_console_command_runs_the_main_job_outside_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel]
    subprocess.run(install, check=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = [sys.executable, "-c", "import harness; print(harness.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()).is_relative_to(site)  # not the checkout
    done = subprocess.run(
        [site / "bin" / "model-swarms", "--task", "medical", "--limit", "20", "--iterations", "1", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert len(result["experts"]) == 10
    assert (tmp_path / result["winner"]["adapter"] / "adapter_model.safetensors").is_file()


def test_doctor_finds_nothing_missing():
    done = subprocess.run([sys.executable, ROOT / "run.py", "doctor"], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "embedded model with 10 experts" in done.stdout
