"""The README's snippets run as they stand there (searches with fewer items and particles, to be quick)."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.session.settings import known_settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- test(?:: (?P<file>\S+))? -->\n```(?P<language>\w*)\n(?P<text>.*?)```", re.DOTALL)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_snippets_run_in_order(tmp_path, base, adapters, monkeypatch):
    shutil.copytree(base, tmp_path / "my-base")
    for folder in adapters:
        shutil.copytree(folder, tmp_path / "my-experts" / folder.name)
    choices = {"A": "yes", "B": "no"}
    items = [{"id": k, "question": f"Is {k} even?", "choices": choices, "answer": "AB"[k % 2]} for k in range(6)]
    for folder, names in (("published", ("medqa", "medmcqa")), ("data", ("easy", "hard"))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.json").write_text(json.dumps({"dev": items, "test": items}))
    monkeypatch.chdir(tmp_path)
    ran = 0
    for block in BLOCK.finditer(README):
        text, language = block["text"], block["language"]
        if block["file"]:
            (tmp_path / block["file"]).write_text(text)
        elif language == "python":
            done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, text + done.stderr
            ran += 1
        else:
            for line in text.splitlines():
                words = shlex.split(line)
                assert words[:2] == ["python", "run.py"]
                verb = words[2] if not words[2].startswith("-") else "search"
                small = [] if verb == "score" else ["--limit", "4"]
                small += ["--iterations", "1", "--particles", "4"] if verb == "search" else []
                command = [sys.executable, str(ROOT / "run.py"), *words[2:], *small]
                done = subprocess.run(command, capture_output=True, text=True, timeout=200)
                assert done.returncode == 0, line + done.stderr
                ran += 1
    assert ran >= 6


def test_every_option_in_the_readme_exists():
    known = {"--" + name.replace("_", "-") for name in known_settings()}
    known |= {"--config", "--name", "--out", "--json", "--display", "--split", "--help", "--topic", "--instructions"}
    known |= {"--methods", "--seeds", "--budget", "--space", "--training-data", "--trials"}  # of compare and sweep
    known |= {"--labels", "--responses", "--cloud", "--probes", "--search"}  # of the lab
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    assert len(used) > 8
    assert used <= known


def test_the_two_commands_are_marked_for_ci():
    assert README.count("<!-- ci -->\n```bash\n") == 3
