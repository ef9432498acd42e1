"""A notebook with a real Jupyter kernel, whose cells run inside a running event loop."""

import json
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPET = next(code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "LongestOption" in code)
SEARCH = """
import harness
from utilities import utility

events = []
settings = {"task": "medical", "limit": 4, "particles": 3, "iterations": 1, "display": "none"}
run = harness.search(**settings, name="one", on_event=events.append)
print(len(run.table()), run.history["iteration"].tolist(), events[-1].kind)
"""
ASYNC = """
other = await harness.search_async(**settings, name="two")
print(other.winner.coefficients == run.winner.coefficients, run.answers["question"].isna().any())
"""
SESSION = """
with harness.Session(task="medical", limit=4) as s:
    print(s.evaluate(s.base, "dev").n)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_notebook_runs_the_readme_and_a_search(tmp_path, monkeypatch):
    cells = [nbformat.v4.new_code_cell(code) for code in (SNIPPET, SEARCH, ASYNC, SESSION)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    kernel = tmp_path / "share" / "jupyter" / "kernels" / "here"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        json.dumps(
            {
                "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "display_name": "here",
                "language": "python",
                "env": {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")},
            }
        )
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share" / "jupyter"))
    NotebookClient(notebook, timeout=300, kernel_name="here", resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = ["".join(o.get("text", "") for o in cell.outputs if o.get("name") == "stdout") for cell in notebook.cells]
    assert re.fullmatch(r"0\.\d+ ± 0\.\d+, n \d+, unscored 0\n", shown[0])
    assert shown[1] == "12 [0, 1] finished\n"
    assert shown[2] == "True False\n"
    assert shown[3] == "8\n"
