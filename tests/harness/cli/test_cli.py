"""The command line as a user meets it: every mistake ends with code 2 and one sentence, never with a traceback."""

import json
import os
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
import yaml
from conftest import refused

ROOT = Path(__file__).parents[3]


def run(*arguments, cwd=ROOT, **environment):
    """A real process; it closes every file and connection that it opened."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", "PYTHONWARNINGS": "default::ResourceWarning", **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert "ResourceWarning" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def models(base, adapters):
    return ["--base-model", base, *(part for folder in adapters for part in ("--experts", folder))]


@pytest.fixture(scope="module")
def family(models):
    return [*models, "--edition", "mini"]


SMALL = ["--task", "medical", "--limit", 8, "--iterations", 2, "--particles", 4]


@pytest.fixture(scope="module")
def finished(family, tmp_path_factory):
    """A finished small run: its process and its folder."""
    out = tmp_path_factory.mktemp("runs")
    return run(*SMALL, *family, "--out", out, "--name", "one", "--json"), out / "one"


def test_a_finished_run_has_a_figure_a_report_and_a_conclusion(finished, tmp_path):
    done, folder = finished
    assert (folder / "search.png").read_bytes().startswith(b"\x89PNG")
    assert done.stderr.splitlines()[0].startswith("medical: reading data")
    conclusion = next(line for line in done.stderr.splitlines() if line.startswith("conclusion: "))
    written = run("report", folder, "--out", tmp_path / "page.html")
    assert written.returncode == 0, written.stderr
    page = (tmp_path / "page.html").read_text("utf-8")
    assert conclusion.removeprefix("conclusion: ") in unescape(page)
    assert page.count("<article") == 16, "8 items of each of two item sets"
    assert '<p class="question">' in page


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['run.py', '--help']\n"
        "from harness.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'transformers', 'langchain', 'scipy', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "search" in done.stdout


def test_every_setting_is_an_option_with_a_description(here):
    from harness.session.settings import known_settings

    shown = here("search", "--help-all").stdout
    for name, field in known_settings().items():
        assert f"--{name.replace('_', '-')}" in shown
        assert field.description, name


def test_list(here):
    assert "medical" in here("list", "tasks").stdout
    assert "multiple_choice" in here("list", "utilities").stdout
    assert "local" in here("list", "engines").stdout


def test_the_run_ends_well_and_prints_only_json_on_stdout(finished):
    done, folder = finished
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result == json.loads((folder / "result.json").read_text())
    assert "winner" in done.stderr


def test_the_run_folder_is_complete(finished):
    _, folder = finished
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"settings.yaml", "events.jsonl", "checkpoint/state.json", "result.json"} <= names
    assert {"best/adapter_config.json", "best/adapter_model.safetensors", "best/README.md"} <= names
    assert {f"records/iter_{k:04d}.parquet" for k in range(3)} <= names
    assert not [name for name in names if "partial" in name]
    assert yaml.safe_load((folder / "settings.yaml").read_text())["settings"]["swarm"]["particles"] == 4


def test_a_finished_run_is_shown_again_and_not_repeated(finished, here):
    _, folder = finished
    before = (folder / "events.jsonl").read_bytes()
    done = here("resume", folder, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["run"] == json.loads((folder / "result.json").read_text())["run"]
    assert (folder / "events.jsonl").read_bytes() == before


def test_a_folder_that_exists_is_refused(finished, family, here):
    _, folder = finished
    refused(here(*SMALL, *family, "--out", folder.parent, "--name", folder.name), folder, "resume")


def test_a_second_process_on_a_folder_is_refused(finished, here):
    from harness.run_folder.store import Store

    _, folder = finished
    store = Store.open(folder)
    try:
        refused(here("resume", folder), "in use")
    finally:
        store.close()


def test_a_changed_expert_stops_a_resumption(base, new_adapter, tmp_path, here):
    expert = new_adapter("solo")
    arguments = [
        *SMALL,
        "--base-model",
        base,
        "--experts",
        expert,
        "--edition",
        "mini",
        "--out",
        tmp_path,
        "--name",
        "x",
    ]
    assert here(*arguments).returncode == 0
    (tmp_path / "x" / "result.json").unlink()
    new_adapter("solo", seed=77)
    refused(here("resume", tmp_path / "x"), "solo", "changed")


def test_evaluate_prints_a_row_a_model_and_writes_records(family, tmp_path, here):
    done = here("evaluate", "--task", "legal", "--limit", 5, *family, "--out", tmp_path / "e", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["name"] for row in rows] == ["base model", "ant", "bee", "cat"]
    assert all((row["n"], row["split"]) == (10, "dev") for row in rows)
    assert (tmp_path / "e" / "records" / "evaluate_dev.parquet").exists()


def test_validate_describes_without_running_a_model(family, here):
    done = here("validate", "--task", "culture", *family, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["item_sets"]["questions"]["dev"] == 200
    assert told["experts"]["names"] == ["ant", "bee", "cat"]


@pytest.mark.parametrize("verb", ["validate", "evaluate"])
def test_a_base_of_another_name_is_a_warning(verb, base, adapters, tmp_path, here):
    renamed = shutil.copytree(base, tmp_path / "elsewhere")
    few = [] if verb == "validate" else ["--limit", 2]
    task = ["--task", "culture", "--edition", "mini"]
    done = here(verb, *task, *few, "--base-model", renamed, "--experts", adapters[0])
    assert done.returncode == 0, done.stderr
    assert "trained on 'tiny'" in done.stdout and "Check that they are the same model" in done.stdout


# Of scorers that need a model of the user's own, one that needs none takes the place.
FREE = ["--utility", "regex", "--option", "pattern=."]
REWARDS = [f"reward_{mix}" for mix in ("concise", "conflict", "general", "reverse", "verbose")]
DOMAINS = ["culture", "legal", "medical", "science"]
LETTERED = ["abstain_mmlu", "hellaswag", "knowledge_crosswords", "mmlu", "mmlu_pro"]


@pytest.fixture
def roomy(base, adapters, tmp_path):
    """The models, with a context that the published prompts fit: the tiny tokenizer has a token for every byte."""
    folder = shutil.copytree(base, tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 65_536}))
    return ["--base-model", folder, *(part for one in adapters for part in ("--experts", one))]


@pytest.mark.parametrize(
    ("task", "kinds"),
    [
        *((task, None) for task in (*DOMAINS, *LETTERED)),
        ("gsm8k", {"number"}),
        ("nlgraph", {"yes", "no", "number"}),
        *((task, {"none"}) for task in ("realtoxicityprompts", *REWARDS)),
    ],
)
def test_validate_describes_every_published_task(task, kinds, published, roomy, here):
    more = ["--limit", 60, *(FREE if kinds == {"none"} else [])]
    done = here("validate", "--task", task, "--edition", "full", "--data", published, *more, *roomy, "--json")
    assert done.returncode == 0, done.stderr
    for about in json.loads(done.stdout)["item_sets"].values():
        assert about["dev"] + about["test"] == sum(about["options"].values()) == sum(about["answers"].values())
        assert (set(about["options"]) == {"free"}) == (kinds is not None)
        assert set(about["answers"]) == kinds if kinds else set(about["answers"]) <= set("ABCDEFGHIJ")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("nlgraph", ["200", "1000", "free (1200)", "no 24%, number 50%, yes 26%"]),
        ("knowledge_crosswords --limit 60", ["4 (120)", "of 60 test items also occur in dev", "--drop-overlap"]),
    ],
)
def test_validate_prints_sizes_options_answers_and_overlap(task, words, published, roomy, here):
    done = here("validate", "--task", *task.split(), "--edition", "full", "--data", published, *roomy)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in words), done.stdout


def test_config_file_and_precedence(family, tmp_path, here):
    config = tmp_path / "c.yaml"
    config.write_text("task: medical\nparticles: 3\nlimit: 4\niterations: 1\nseed: 5\n")
    done = here("--config", config, *family, "--seed", 6, "--out", tmp_path, "--name", "r")
    assert done.returncode == 0, done.stderr
    settings = yaml.safe_load((tmp_path / "r" / "settings.yaml").read_text())["settings"]
    # The file wins over the task's recommendation (8 iterations), a flag over the file.
    assert (settings["swarm"]["particles"], settings["swarm"]["iterations"], settings["seed"]) == (3, 1, 6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "medcal"], ["medcal", "did you mean 'medical'"]),
        ([], ["no task", "medical"]),
        (["--task", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--task", "medical", "--edition", "ful"], ["ful", "'full'"]),
        (["--task", "medical", "--engine", "locl"], ["locl", "'local'"]),
        (["--task", "medical", "--particles", 0], ["particles", "greater than or equal to 1"]),
        (["--task", "medical", "--variant", "papr"], ["variant", "papr", "'paper'"]),
        (["--task", "medical", "--particles", "many"], ["many"]),
        (["--task", "medical", "--nonsense"], ["--nonsense"]),
        (["serch"], ["serch"]),
        (["--task", "medical", "--data", "nowhere", "--edition", "full"], ["nowhere"]),
        (["--task", "medical", "--data", "."], ["--edition full"]),
        (["--task", "medical", "--experts", "/nowhere/at/all"], ["/nowhere/at/all"]),
        (["--task", "medical", "--base-model", "/nowhere"], ["experts"]),
        (["--task", "medical", "--config", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--task", "legal", "--edition", "full"], ["hearsay.json", "--data"]),
        (["resume", "/nowhere"], ["/nowhere", "no run folder"]),
        (["list", "dragons"], ["dragons"]),
    ],
)
def test_wrong_input_ends_with_code_2_and_one_sentence(arguments, words, tmp_path, here):
    done = here(
        *arguments, *([] if arguments[:1] in (["resume"], ["list"], ["serch"]) else ["--out", tmp_path / "out"])
    )
    done.stderr = done.stderr.replace("Did you", "did you")
    refused(done, *words)
    assert not (tmp_path / "out").exists()


def test_config_file_with_an_unknown_setting(tmp_path, here):
    config = tmp_path / "c.yaml"
    config.write_text("task: medical\nparticels: 3\n")
    refused(here("--config", config), "particels", "'particles'")


def test_data_that_is_wrong_is_named_with_file_and_line(tmp_path, here):
    for name in ("medqa", "medmcqa"):
        items = [{"id": k, "question": "q", "choices": {"A": "a", "B": "b"}, "answer": "A"} for k in range(2)]
        if name == "medmcqa":
            items[1]["answer"] = "C"
        (tmp_path / f"{name}.json").write_text(json.dumps({"dev": items, "test": items}, indent=0))
    done = here("validate", "--task", "medical", "--edition", "full", "--data", tmp_path)
    lines = (tmp_path / "medmcqa.json").read_text().splitlines()
    # The second item of dev begins at the second line that opens an object inside the list.
    line = [k for k, text in enumerate(lines, 1) if text == "{"][2]
    refused(done, "medmcqa.json", f"line {line}", "'C'")


NO_CHOICE = {"id": 2, "question": "q", "choices": {"A": "a"}, "answer": "A"}


@pytest.mark.parametrize("verb", ["search", "validate"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text.replace('"q"', "7", 1), ["dev item 0", "question: Input should be a valid string"]),
        (lambda text: text.replace('"id": 1', '"id": 0', 1), ["dev item 1", "the id '0' stands twice"]),
        (lambda text: text.replace("}]}", "}, " + json.dumps(NO_CHOICE) + "]}"), ["test item 2", "1 options"]),
        (lambda text: text.replace('"dev"', '"dev', 1), ["line 1, column", "not JSON"]),
        (lambda text: text.replace("q", "\xe9"), ["line 1", "not UTF-8"]),
    ],
)
def test_a_run_on_damaged_data_does_not_start(verb, damage, words, tmp_path, models, here):
    items = [{"id": k, "question": "q", "choices": {"A": "a", "B": "b"}, "answer": "A"} for k in range(2)]
    (tmp_path / "mmlu.json").write_text(damage(json.dumps({"dev": items, "test": items})), encoding="latin-1")
    out = ["--out", tmp_path / "out"] if verb == "search" else []
    done = here(verb, "--task", "mmlu", "--edition", "full", "--data", tmp_path, *models, *out)
    refused(done, tmp_path / "mmlu.json", "line 1", *words)
    assert not (tmp_path / "out").exists()


OWN_CODE = """
import os

from transformers import LlamaConfig, LlamaForCausalLM

os.environ["OWN_CODE"] = "was run"


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_a_base_with_code_of_its_own_runs_only_where_it_is_trusted(base, adapters, tmp_path, here, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])  # where transformers adds that folder
    monkeypatch.setenv("OWN_CODE", "was not run")
    folder = shutil.copytree(base, tmp_path / "own")
    (folder / "own_code.py").write_text(OWN_CODE)
    own = {"AutoConfig": "own_code.OwnConfig", "AutoModelForCausalLM": "own_code.OwnForCausalLM"}
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "own", "auto_map": own}
    (folder / "config.json").write_text(json.dumps(config))
    arguments = ["--task", "medical", "--edition", "mini", "--limit", 2]
    arguments += ["--base-model", folder, "--experts", adapters[0]]
    refused(here("validate", *arguments), folder, "--trust-remote-code")
    assert os.environ["OWN_CODE"] == "was not run"
    done = here("evaluate", *arguments, "--trust-remote-code", "--json")
    assert done.returncode == 0, done.stderr
    assert [row["n"] for row in json.loads(done.stdout)] == [4, 4]
    assert os.environ["OWN_CODE"] == "was run"


def test_an_adapter_with_nan_weights_is_named(base, new_adapter, tmp_path, here):
    from safetensors.torch import load_file, save_file

    folder = new_adapter("sick")
    tensors = load_file(folder / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, folder / "adapter_model.safetensors")
    refused(here(*SMALL, "--base-model", base, "--experts", folder, "--edition", "mini"), "sick", "NaN")


def test_an_output_folder_that_cannot_be_written(family, tmp_path, here):
    (tmp_path / "file").write_text("")
    refused(here(*SMALL, *family, "--out", tmp_path / "file" / "runs"), "file")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_no_space_left_is_said_in_words(family, tmp_path, here, monkeypatch):
    def log(self, event):
        with Path("/dev/full").open("a") as file:
            file.write(event.model_dump_json())

    monkeypatch.setattr("harness.run_folder.store.Store.log", log)
    refused(here(*SMALL, *family, "--out", tmp_path), "no space left", "resume")
