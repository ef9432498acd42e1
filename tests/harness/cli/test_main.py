"""The command line as such: finding verbs, help, version, completion, lists after one flag."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from conftest import refused

import harness.cli
from harness.cli.command import VERBS
from harness.cli.main import app
from harness.session.settings import known_settings

ROOT = Path(__file__).parents[3]
VERB = '''"""`count`: counts experts."""

import typer

from harness.cli.command import Given, verb
from harness.cli.options import MODELS


@verb("Use", reads=MODELS)
def count(given: Given) -> None:
    """Counts the experts."""
    typer.echo(len(given["experts"]))
'''


def names():
    group = typer.main.get_command(app)
    return group.list_commands(typer.Context(group))


@pytest.fixture
def narrow(here, monkeypatch):
    """The lines of a help page at 80 columns."""

    def lines(*words):
        monkeypatch.setattr(shutil, "get_terminal_size", lambda *_: os.terminal_size((80, 24)))
        done = here(*words)
        assert done.returncode == 0
        return done.stdout.splitlines()

    return lines


def options_in(lines):
    """The option names that a help page lists, in its first column."""
    return {
        name for line in lines if re.match(r"  -", line) for name in re.findall(r"--[a-z-]+[a-z]", line.split("  ")[1])
    }


def test_no_arguments_and_help_print_the_same_page(here):
    bare = here()
    assert (bare.returncode, bare.stderr) == (0, "")
    assert bare.stdout == here("--help").stdout == here("-h").stdout
    assert all(f"\n  {name} " in bare.stdout for name in names())


def test_the_version_is_printed(here):
    assert re.fullmatch(r"model-swarms \d+\.\d+\.\d+\S*\n", here("--version").stdout)


def test_the_short_help_has_about_twenty_options_and_says_where_the_others_are(narrow):
    lines = narrow("search", "--help")
    assert 15 <= len(options_in(lines) - {"--help", "--help-all"}) <= 22
    assert any("--help-all" in line and "more options" in line for line in lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("verb", ["search", "compare", "sweep", "lab", "evaluate", "validate"])
def test_the_full_help_shows_every_option_uncut_at_80_columns(narrow, verb):
    lines = narrow(verb, "--help-all")
    assert {f"--{name.replace('_', '-')}" for name in VERBS[verb].reads} <= options_in(lines)
    assert not any("…" in line for line in lines)
    assert not any(re.search(r"--?[a-z]+-$", line) for line in lines), "a name is broken at a hyphen"


def test_help_names_the_default_optimiser_and_how_to_run_the_published_swarm(here):
    text = " ".join(here("search", "--help").stdout.split())
    default = known_settings()["optimiser"].default
    assert default == "cma-positive" and f"--optimiser {default}" in text
    assert "CMA-ES" in text and "particle swarm (Model Swarms, Algorithm 1) is --preset paper" in text


def test_a_new_verb_is_one_file(tmp_path, here, monkeypatch):
    (tmp_path / "count.py").write_text(VERB)
    monkeypatch.setattr(harness.cli, "__path__", [*harness.cli.__path__, str(tmp_path)])
    try:
        done = here("count", "--experts", "a", "b", "--base-model", "c")
        assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
        assert "Counts the experts." in here("--help").stdout
        refused(here("count", "--particles", "3"), "`count` does not read --particles")
    finally:
        VERBS.pop("count", None)
        sys.modules.pop("harness.cli.count", None)


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["validate", "--task", "medical", "--particles", "3"], "--particles"),
        (["evaluate", "--task", "medical", "--inertia=0.3"], "--inertia"),
        (["evaluate", "--task", "medical", "--no-restart-reset"], "--no-restart-reset"),
        (["compare", "--task", "medical", "--iterations", "1"], "--iterations"),
        (["sweep", "--task", "medical", "--top-k", "3"], "--top-k"),
        (["lab", "numeric", "--monitor-share", "0.1"], "--monitor-share"),
        (["topic", "bees", "--engine", "local"], "--engine"),
    ],
)
def test_a_setting_that_a_verb_does_not_read_is_refused(here, arguments, flag):
    refused(here(*arguments), f"`{arguments[0]}` does not read {flag}")


def test_settings_of_a_config_file_that_a_verb_does_not_read_are_reported(here, tmp_path):
    (tmp_path / "c.yaml").write_text("particles: 3\nlimit: 2\n")
    done = here("validate", "--task", "medical", "--config", tmp_path / "c.yaml")
    assert done.returncode == 0, done.stderr
    assert f"note: --config {tmp_path / 'c.yaml'}: `validate` does not read particles\n" in done.stderr


def test_a_list_that_the_shell_expands_belongs_to_one_flag(here, base, adapters):
    done = here("validate", "--task", "medical", "--edition", "mini", "--experts", *adapters, "--base-model", base)
    assert done.returncode == 0, done.stderr
    assert "3 experts" in done.stdout and "ant, bee, cat" in done.stdout


def test_with_arguments_of_its_own_a_verb_takes_paths_as_the_flags_list(here, base, adapters):
    refused(here("lab", "--experts", *adapters, "numerik", "--base-model", base, "--task", "medical"), "numeri")


def completed(shell, line, tmp_path):
    """What the shell is offered for the last word of a line."""
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_TYPER_COMPLETE_ARGS": line}
    environment = {**os.environ, **asked, "_MODEL_SWARMS_COMPLETE": f"complete_{shell}"}
    done = subprocess.run(
        [sys.executable, ROOT / "run.py"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("model-swarms ev", ["evaluate"]),
        ("model-swarms search --opti", ["--optimiser"]),
        ("model-swarms compare --task med", ["medical"]),
        ("model-swarms --preset p", ["paper"]),
        ("model-swarms --parti", ["--particles"]),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_shell_completes_verbs_options_and_values(shell, line, words, tmp_path):
    offered = completed(shell, line, tmp_path)
    assert all(word in offered for word in words)
    assert "--inertia" not in offered


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_completion_script_is_installed_for_the_shell_in_use(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = (
        f"{sys.executable} {ROOT / 'run.py'} --show-completion; {sys.executable} {ROOT / 'run.py'} --install-completion"
    )
    done = subprocess.run(
        [shell, "-c", f"{script}; true"],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert "_MODEL_SWARMS_COMPLETE" in done.stdout, done.stderr
    assert f"{shell} completion installed" in done.stdout, done.stderr
    assert any("model" in path.name and path.is_file() for path in tmp_path.rglob("*"))
