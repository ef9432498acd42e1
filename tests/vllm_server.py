"""One real server for all tests that ask one: vLLM's, started by `run.py serve` for a finished run."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from held_port import hold_port

ROOT = Path(__file__).parents[1]
EMPTY = {"value": None, "low": None, "high": None}
WINNER = [0.5, 0.3, 0.2, 0.0, 0.1, -0.1, 0.0, 0.0, 0.2, 0.0]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
START = 600
"""Seconds in which it must answer, on a machine that does much else."""


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory):
    """A finished run's server, with its experts, which lets clients load adapters; checked to leave no process."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    import psutil

    from harness.embedded import BASE, EXPERTS
    from harness.experts.pool import open_pool
    from harness.run_folder.result import Result

    pool = open_pool([str(EXPERTS)], BASE)
    folder = tmp_path_factory.mktemp("serve")
    (folder / "chat.jinja").write_text(TEMPLATE)  # the embedded model has none
    pool.write(torch.tensor(WINNER), folder / "run" / "best")
    (folder / "run" / "settings.yaml").write_text(yaml.safe_dump({"settings": {"task": "medical"}}))
    result = Result(
        task="medical", edition="mini", seed=0, engine="local", model="embedded", iterations=1, stopped="patience",
        evaluations=10, seconds=1.0, best_initial=pool.names[0], experts=pool.names, rows=[], overlap={}, run="run",
        time_share={"forward": 1.0, "mixing": 0.0, "scoring": 0.0, "other": 0.0},
        winner={"coefficients": {}, "dev": 0.5, "test": 0.5, "test_se": 0.1, "adapter": "best"},
        difference={"winner_minus_best_initial": EMPTY, "winner_minus_base": EMPTY},
    )  # fmt: skip
    (folder / "run" / "result.json").write_text(result.model_dump_json())
    held = hold_port()
    port = held.getsockname()[1]
    command = [sys.executable, "run.py", "serve", str(folder / "run"), "--experts", "--updates", "--port", str(port)]
    command += ["--", "--max-model-len", "512", "--chat-template", str(folder / "chat.jinja")]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        end = time.monotonic() + START
        while True:
            assert child.poll() is None and time.monotonic() < end, (folder / "log").read_text()[-3000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                time.sleep(1)
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}/v1", winner=WINNER)
        family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
        assert len(family) > 1  # vLLM's engine is a process of its own
        child.send_signal(signal.SIGTERM)
        child.wait(120)
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive
    finally:
        child.kill()
        held.close()
