"""Every option that a verb offers is read when the verb runs, and an option without effect is refused."""

import re
from pathlib import Path

import pytest
from conftest import refused

import harness
from harness.cli.command import VERBS
from harness.cli.options import CACHE, ENGINE, JUDGES, MODELS, PANELS, SEARCH, TASK
from harness.engines.settings import EngineSettings
from harness.session.settings import NESTED, RunSettings, known_settings
from harness.swarm.settings import SwarmSettings
from utilities.judges.settings import JudgeSettings

HARNESS = Path(harness.__file__).parent


@pytest.fixture
def read(monkeypatch):
    """The names of the settings that are read, as attributes, while a test runs."""
    names = set()

    def recording(original):
        def get(self, name):
            names.add(name)
            return original(self, name)

        return get

    for model in (RunSettings, SwarmSettings):
        monkeypatch.setattr(model, "__getattribute__", recording(model.__getattribute__))
    return names


COMMANDS = {
    "search": [
        ["--iterations", 1, "--particles", 3, "--out", "a"],
        ["--preset", "paper", "--winner", "top-k-mean", "--iterations", 1, "--particles", 3, "--out", "b"],
    ],
    "compare": [
        ["--methods", "swarm,paper", "--seeds", 1, "--budget", 6, "--out", "c", "--particles", 3],
        ["--methods", "swarm", "--seeds", 1, "--budget", 6, "--out", "d", "--particles", 3, "--optimiser", "pso"],
    ],
    "sweep": [["--trials", 2, "--budget", 4, "--out", "e", "--particles", 3, "--limit", 12]],
    "lab": [
        ["--cloud", 0, "--out", "f", "--search", "--budget", 8, "--particles", 3],
        ["--cloud", 0, "--out", "g", "--search", "--budget", 8, "--particles", 3, "--optimiser", "pso"],
    ],
    "evaluate": [[]],
    "validate": [[]],
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_option_of_task_models_and_search_is_read(verb, here, read, base, adapters, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = ["--task", "medical", "--edition", "mini", "--base-model", base, "--experts", *adapters]
    for words in COMMANDS[verb]:
        done = here(verb, *task, *([] if "--limit" in words else ["--limit", 4]), *words)
        assert done.returncode == 0, done.stderr
    offered = VERBS[verb].reads & (TASK | MODELS | SEARCH) & {*RunSettings.model_fields, *SwarmSettings.model_fields}
    as_flags = {"option": "scorer_options", "base_model": "base_spec", "experts": "expert_specs"}
    given_once = {"preset", "variant"}  # presets of other settings, applied before there is an object
    assert {name for name in offered - given_once if name not in read and as_flags.get(name) not in read} == set()


@pytest.mark.parametrize("model", [EngineSettings, JudgeSettings])
def test_every_setting_of_engines_and_judges_is_read_somewhere(model):
    sources = [*HARNESS.rglob("*.py"), *(HARNESS.parent / "utilities").rglob("*.py")]
    code = "\n".join(path.read_text() for path in sources if path.name != "options.py")
    unread = [name for name in model.model_fields if not re.search(rf"\.{name}\b|getattr\(.*{name}", code)]
    assert unread == []


def test_every_setting_has_one_group_of_the_help():
    groups = [*PANELS.values()]
    assert frozenset().union(*groups) == known_settings().keys() == TASK | MODELS | SEARCH | ENGINE | CACHE | JUDGES
    assert sum(map(len, groups)) == len(known_settings())
    assert not {*NESTED} & known_settings().keys()


@pytest.mark.parametrize("flags", [["--inertia", "0.5"], ["--drop-particle", "0.1", "--optimiser", "random"]])
def test_hyperparameters_of_the_published_swarm_are_refused_with_another_optimiser(here, flags):
    refused(here("search", "--task", "medical", *flags), flags[0], "--optimiser pso", "--preset paper")
