"""Every verb that loads models says what it reads before torch is imported, which takes seconds."""

import subprocess
import sys

import pytest

from harness.run_folder.store import Store
from harness.session.settings import recommended_settings

CODE = """
import os, sys

class Stop:
    def find_spec(name, path=None, target=None):
        if name == "torch":
            print("torch is imported", file=sys.stderr, flush=True)
            os._exit(7)

sys.meta_path.insert(0, Stop)
sys.argv = ["run.py", *sys.argv[1:]]
from harness.cli.main import main
main()
"""


@pytest.mark.parametrize("verb", ["search", "compare", "sweep", "lab", "evaluate", "resume"])
def test_the_first_line_comes_before_torch_is_imported(verb, tmp_path):
    arguments = ["--task", "medical"]
    if verb == "resume":
        settings = recommended_settings({}, {"task": "medical"})
        Store.create(tmp_path / "run", {"settings": settings.model_dump(mode="json")}).close()
        arguments = [str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", CODE, verb, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 7
    first, second = done.stderr.splitlines()
    assert first == "medical: reading data, experts and the base model (embedded) ..." and second == "torch is imported"
