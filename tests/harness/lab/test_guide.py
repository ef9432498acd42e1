"""The guide's snippets run as they stand there, with fewer items; its judge is a server that answers at once."""

import re
import shlex
import subprocess
import sys

import pytest
from stub_server import says
from test_readme import BLOCK, ROOT

GUIDE = (ROOT / "utilities" / "lab" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_snippets_run_in_order(tmp_path, monkeypatch, judge_server):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    judge_server.answer = lambda asked: says(f'{{"reason": "Read.", "level": {1 + len(asked.last) % 4}}}')
    ran = []
    for block in BLOCK.finditer(GUIDE):
        if block["file"]:
            (tmp_path / block["file"]).write_text(block["text"])
            continue
        if block["language"] == "python":
            done = subprocess.run([sys.executable, "-c", block["text"]], capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, block["text"] + done.stderr
            ran.append("python")
            continue
        for line in block["text"].splitlines():
            words = shlex.split(re.sub(r"http://\S+", judge_server.url, line))
            assert words[:2] == ["python", "run.py"]
            small = [] if "--responses" in words else ["--limit", "20"]
            small += ["--cloud", "0"] if words[2] == "lab" else ["--particles", "4", "--iterations", "1"]
            command = [sys.executable, str(ROOT / "run.py"), *words[2:], *small]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, line + done.stderr
            ran.append(words[2])
    assert ran.count("lab") >= 6
    assert "python" in ran
    assert judge_server.count > 100


def test_every_snippet_of_the_guide_is_run():
    marked = [block["language"] for block in BLOCK.finditer(GUIDE)]
    assert sorted(filter(None, marked)) == sorted(re.findall(r"^```(\w+)$", GUIDE, re.MULTILINE))
