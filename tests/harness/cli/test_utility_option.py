"""`--utility my_file.py:my_score` and `--option name=value`, from the command line to the records."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import refused

from harness.run_folder.store import Store
from utilities.core import Reason, Score

UTILITY = '''
from utilities import utility


@utility(max_tokens=5)
def brief(item, response):
    """Shorter is better."""
    return 1 / (1 + len(response.text))


def broken(item, response):
    return {}[item.id]


def ones(item, response):
    return 1


def sometimes(item, response):
    return float("nan") if item.id == "0" else 1.0
'''


@pytest.fixture
def small(base, adapters, tmp_path, monkeypatch):
    """Options of a small job on a task of one's own, in whose folder the command line is called."""
    (tmp_path / "data").mkdir()
    choices = {"A": "ant", "B": "bee"}
    items = [{"id": str(k), "question": f"Is {k} even?", "choices": choices, "answer": "AB"[k % 2]} for k in range(4)]
    (tmp_path / "data" / "sums.json").write_text(json.dumps({"dev": items[:3], "test": items[1:]}))
    item_sets = {"sums": {"scorer": "multiple_choice", "options": {"prompt": "plain"}, "file": "sums.json"}}
    task = {"name": "sums", "title": "Sums", "editions": {"own": {"item_sets": item_sets}}}
    (tmp_path / "sums.yaml").write_text(yaml.safe_dump(task))
    (tmp_path / "mine.py").write_text(UTILITY)
    monkeypatch.chdir(tmp_path)
    experts = [part for folder in adapters for part in ("--experts", folder)]
    return ["--task", "sums.yaml", "--base-model", base, *experts, "--device", "cpu"]


SEARCH = ["--iterations", 1, "--particles", 3, "--out", "runs", "--name", "one", "--display", "none"]


def records(folder, name):
    return [result for results in Store(Path(folder)).records(name).values() for result in results]


def test_evaluate_scores_with_the_users_function_and_its_options(small, here):
    done = here("evaluate", *small, "--utility", "mine.py:brief", "--json", "--out", "e")
    assert done.returncode == 0, done.stderr
    found = records("e", "evaluate_dev")
    assert len(found) == 4 * 3
    assert any(result.response.text for result in found)
    for result in found:
        assert result.outcome == Score(1 / (1 + len(result.response.text)))
        assert result.response.tokens <= 5
    for k, row in enumerate(json.loads(done.stdout)):
        assert row["value"] == pytest.approx(sum(r.outcome.value for r in found[3 * k : 3 * k + 3]) / 3)


def test_an_option_wins_over_the_functions_own(small, here):
    given = ["--option", "max_tokens=2", "--option", "prompt=plain"]
    done = here("evaluate", *small, "--utility", "mine.py:brief", *given, "--out", "e")
    assert done.returncode == 0, done.stderr
    assert {r.response.tokens for r in records("e", "evaluate_dev")} <= {0, 1, 2}
    assert yaml.safe_load(Path("e/settings.yaml").read_text())["settings"]["option"] == ["max_tokens=2", "prompt=plain"]


def test_an_option_reaches_the_tasks_own_scorer(small, here):
    plain = here("evaluate", *small, "--json")
    smooth = here("evaluate", *small, "--utility", "gold_logprob", "--option", "prompt=plain", "--json")
    lettered = here("evaluate", *small, "--option", "answer_by=text", "--option", "normalize=length", "--out", "e")
    assert [done.returncode for done in (plain, smooth, lettered)] == [0, 0, 0], smooth.stderr + lettered.stderr
    assert all(0 <= row["value"] <= 1 for row in json.loads(plain.stdout))
    assert all(row["value"] < 0 for row in json.loads(smooth.stdout))
    assert yaml.safe_load(Path("e/settings.yaml").read_text())["settings"]["utility"] is None


def test_stored_responses_are_scored_again_with_the_users_function(small, here):
    given = ["--utility", "mine.py:brief", "--option", "max_tokens=3"]
    done = here("evaluate", *small, *given, "--json", "--out", "e")
    assert done.returncode == 0, done.stderr
    before = records("e", "evaluate_dev")
    assert before
    again = here("score", "e", "--json")
    assert again.returncode == 0, again.stderr
    assert [row["value"] for row in json.loads(again.stdout)] == [row["value"] for row in json.loads(done.stdout)]
    assert here("score", "e", "--utility", "mine.py:ones").returncode == 0
    after = records("e", "rescored-mine-py-ones-evaluate_dev")
    assert [r.response for r in after] == [r.response for r in before]
    for now, then in zip(after, before, strict=True):  # what was never answered has no score under any utility
        assert now.outcome == (Score(1.0) if isinstance(then.outcome, Score) else then.outcome)
    refused(here("score", "e", "--option", "max_tokens"), "'max_tokens' is not of the form NAME=VALUE")


def test_a_search_with_the_users_function_goes_on_from_another_folder_and_only_with_the_same_file(
    small, here, tmp_path, monkeypatch
):
    done = here(*small, "--utility", "mine.py:brief", *SEARCH)
    assert done.returncode == 0, done.stderr
    first = json.loads(Path("runs/one/result.json").read_text())
    rows = {row["name"]: row["dev"] for row in first["rows"]}
    best = max(rows[name] for name in first["experts"])
    assert first["winner"]["dev"] >= best > 0
    settings = yaml.safe_load(Path("runs/one/settings.yaml").read_text())["settings"]
    assert settings["utility"] == f"{tmp_path}/mine.py:brief"

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    Path("../runs/one/result.json").unlink()
    again = here("resume", "../runs/one", "--display", "none")
    assert again.returncode == 0, again.stderr
    second = json.loads(Path("../runs/one/result.json").read_text())
    assert [second[key] for key in ("rows", "difference")] == [first[key] for key in ("rows", "difference")]

    Path("../runs/one/result.json").unlink()
    (tmp_path / "mine.py").write_text(UTILITY.replace("1 / (1 + ", "2 / (2 + "))
    refused(here("resume", "../runs/one"), "cannot resume", "the utility", "changed")
    (tmp_path / "mine.py").unlink()
    refused(here("resume", "../runs/one"), "does not exist", tmp_path / "mine.py")


def test_a_task_file_may_name_a_function_of_a_file_beside_it(small, here, tmp_path, monkeypatch):
    task = yaml.safe_load(Path("sums.yaml").read_text())
    task["editions"]["own"]["item_sets"]["sums"] |= {"scorer": "mine.py:brief", "options": {"max_tokens": 3}}
    (tmp_path / "deep").mkdir()
    shutil.move("mine.py", "deep/mine.py")
    shutil.move("data", "deep/data")
    Path("deep/sums.yaml").write_text(yaml.safe_dump(task))
    small = ["--task", "deep/sums.yaml", *small[2:]]
    done = here(*small, *SEARCH)
    assert done.returncode == 0, done.stderr
    assert {r.response.tokens for r in records("runs/one", "iter_0000")} <= {0, 1, 2, 3}
    Path("runs/one/result.json").unlink()
    Path("deep/mine.py").write_text(UTILITY + "\n")
    refused(here("resume", "runs/one"), "cannot resume", "the utility", "changed")


def test_a_function_that_fails_on_every_item_ends_the_search_in_one_sentence(small, here):
    refused(here(*small, "--utility", "mine.py:broken", *SEARCH), "no model could be scored", "KeyError")
    assert not Path("runs/one/result.json").exists()


def test_a_function_that_fails_is_not_comparable_and_its_items_say_why(small, here):
    done = here("evaluate", *small, "--utility", "mine.py:sometimes", "--json", "--out", "e")
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout):
        assert (row["value"], row["n"], row["unscored"]) == (None, 2, 1)
        assert "1 of 3 items are unscored" in row["problem"]
    outcomes = [r.outcome for r in records("e", "evaluate_dev") if not isinstance(r.outcome, Score)]
    assert [(one.reason, one.detail) for one in outcomes] == [(Reason.OUT_OF_RANGE, "the utility returned nan")] * 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--option", "max_tokens"], ["option", "'max_tokens' is not of the form NAME=VALUE"]),
        (["--option", "=3"], ["'=3' is not of the form NAME=VALUE"]),
        (["--option", "max tokens=3"], ["'max tokens=3' is not of the form NAME=VALUE"]),
        (["--option", "prompt=[1"], ["'prompt=[1'", "YAML"]),
        (["--option", "prompt=@x"], ["'prompt=@x'", "YAML"]),
        (["--option", "promt=plain"], ["'sums'", "multiple_choice", "promt"]),
        (["--option", "prompt=plian"], ["'plian'", "'plain'"]),
        (["--utility", "mine.py:brief", "--option", "max_token=3"], ["max_token"]),
        (["--utility", "mine.py:brief", "--option", "max_tokens=many"], ["max_tokens is 'many'"]),
        (["--utility", "mine.py:brif"], ["'brif'", "Did you mean 'brief'"]),
        (["--utility", "mine.py"], ["'mine.py'", "FILE.py:NAME"]),
        (["--utility", "yours.py:brief"], ["does not exist", "yours.py"]),
        (["--utility", "numerc"], ["unknown scorer 'numerc'", "'numeric'"]),
        (["--utility", "numeric"], ["sums.json", "its answer 'A' is no number"]),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence_before_anything_is_made(arguments, words, small, here):
    refused(here(*small, *arguments, *SEARCH), *words)
    assert not Path("runs").exists()
