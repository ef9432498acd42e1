"""The same fault in every study: a dead judge, a spent budget, a utility without values, a kill; one set of rules.

The rules are those of `StopRules` and `Evaluator`; this test is what makes a copy of them in a verb fail.
"""

from __future__ import annotations

import json

import pytest
import yaml
from conftest import refused
from stub_server import error, says

from harness.run_folder.events import parse_event
from harness.run_folder.store import Store
from harness.trackers.base import scalars

LETTERS = {
    "right": "def score(item, response):\n    return float(len(response.text) % 3 == 0)\n",
    "nan": "def score(item, response):\n    return float('nan')\n",
    "raises": "def score(item, response):\n    raise RuntimeError('no such table')\n",
}
VERBS = {
    "search": ["--particles", 3, "--iterations", 1, "--out", "runs", "--name", "run", "--monitor-share", 0],
    "compare": ["--methods", "base,best_single,random", "--seeds", 1, "--budget", 4, "--out", "runs/run"],
    "sweep": ["--trials", 2, "--budget", 4, "--out", "runs/run"],
    "lab": ["--cloud", 0, "--probes", 2, "--out", "runs/run"],
}
RESULT = {"search": "result.json", "compare": "compare.json", "sweep": "sweep.json", "lab": "lab.json"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    words = ("ants", "bees", "cats", "dogs", "elks", "foxes", "goats", "hens", "jays", "kites", "larks", "moles")
    items = {
        "dev": [{"id": f"d{k}", "question": f"Tell me about {word}."} for k, word in enumerate(words)],
        "test": [{"id": f"t{k}", "question": f"What are {word}?"} for k, word in enumerate(words[:6])],
    }
    judged = {"scorer": "topic_interest", "options": {"topic": "animals", "prompt": "plain", "max_tokens": 4}}
    for name, scorer in {
        "judged": judged,
        **{kind: {"scorer": f"./{kind}.py:score", "options": {"max_tokens": 4}} for kind in LETTERS},
    }.items():
        task = {
            "name": name,
            "title": name,
            "editions": {"own": {"item_sets": {"animals": {**scorer, "items": items}}}},
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(task))
    for kind, text in LETTERS.items():
        (tmp_path / f"{kind}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def run(here, folder, base, adapters):
    """Runs a verb on a task; search is resumed by its own verb, the others by the same command."""

    def call(verb, task, *more):
        experts = [part for one in adapters for part in ("--experts", one)]
        if verb == "search" and (folder / "runs" / "run" / "settings.yaml").exists():
            return here("resume", "runs/run", *(more[-2:] if "--budget-tokens" in more else []))
        models = ["--base-model", base, *experts, "--device", "cpu"]
        return here(verb, "--task", f"{task}.yaml", *models, *VERBS[verb], *more)

    return call


def values(verb, folder):
    """All values of models on test that the result of a verb has."""
    result = json.loads((folder / "runs" / "run" / RESULT[verb]).read_text())
    if verb == "search":
        return [row["test"] for row in result["rows"]]
    if verb == "compare":
        return [outcome["test"]["value"] for outcome in result["outcomes"]]
    if verb == "sweep":
        return [result[name]["test"]["value"] for name in ("picked", "defaults", "best_initial")]
    return [model["test"]["value"] for design in result["designs"] for model in design["models"]]


def judge(server):
    return ["--judge", "stub-1", "--judge-url", server.url, "--judge-timeout", 5]


def rated(asked):
    criteria = ("relevance", "usefulness", "specificity", "clarity")
    return says(json.dumps({"reason": "so", **dict.fromkeys(criteria, 1 + len(asked.last) % 9)}), usage=(900, 100))


@pytest.mark.parametrize("verb", VERBS)
def test_an_unreachable_judge_stops_the_verb_and_nothing_of_it_is_kept(verb, run, folder, judge_server, monkeypatch):
    monkeypatch.setattr("utilities.judges.client.FIRST_WAIT", 0.0)
    judge_server.answer = lambda asked: error(500, "down")
    stopped = run(verb, "judged", *judge(judge_server))
    refused(stopped, "unreachable", "Progress is saved")
    assert not (folder / "runs" / "run" / RESULT[verb]).exists()
    judge_server.answer = rated
    finished = run(verb, "judged", *judge(judge_server))
    assert finished.returncode == 0, finished.stderr
    assert "returns no log-probabilities" in " ".join((finished.stdout + finished.stderr).split())
    assert None not in values(verb, folder)


@pytest.mark.parametrize("verb", VERBS)
def test_a_spent_budget_stops_the_verb_and_a_larger_one_continues_it(verb, run, folder, judge_server):
    judge_server.answer = rated
    stopped = run(verb, "judged", *judge(judge_server), "--budget-tokens", 9000)
    refused(stopped, "budget is spent", "--budget-tokens")
    assert not (folder / "runs" / "run" / RESULT[verb]).exists()
    finished = run(verb, "judged", *judge(judge_server), "--budget-tokens", 9_000_000)
    assert finished.returncode == 0, finished.stderr
    assert None not in values(verb, folder)


@pytest.mark.parametrize("kind", ["nan", "raises"])
@pytest.mark.parametrize("verb", VERBS)
def test_models_that_no_item_of_can_be_scored_end_the_verb_with_the_reason(verb, kind, run):
    reason = {"nan": "nan", "raises": "no such table"}[kind]
    refused(run(verb, kind), "no model could be scored", reason)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_was_interrupted_at_any_record_ends_as_one_that_was_not(verb, run, folder, monkeypatch):
    assert run(verb, "right").returncode == 0
    expected = values(verb, folder)
    assert None not in expected
    (folder / "runs" / "run").rename(folder / "runs" / "whole")
    save, left = Store.save_records, [0]

    def interrupted(store, name, evaluations):
        save(store, name, evaluations)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Store, "save_records", interrupted)
    codes = []
    while not codes or codes[-1] == 130:
        left[0] = 4
        codes.append(run(verb, "right").returncode)
        assert len(codes) < 40
    assert codes[-1] == 0 and 130 in codes
    assert values(verb, folder) == expected


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_the_notes_of_its_session_and_tracks_its_values(verb, run, folder):
    (folder / "own.py").write_text(
        "def tell(event):\n    with open('seen.jsonl', 'a') as log:\n        print(event.model_dump_json(), file=log)\n"
    )
    task = yaml.safe_load((folder / "right.yaml").read_text())
    items = task["editions"]["own"]["item_sets"]["animals"]["items"]
    items["test"][0] = {**items["dev"][0], "id": "t0"}
    (folder / "right.yaml").write_text(yaml.safe_dump(task))
    done = run(verb, "right", "--display", "plain", "--track", "own.py:tell")
    assert done.returncode == 0, done.stderr
    assert "animals: 1 of 6 test items also occur in dev (contamination)" in done.stdout
    tracked = {}
    for line in (folder / "seen.jsonl").read_text().splitlines():
        tracked |= scalars(parse_event(line), folder / "runs" / "run")
    of_test = {value for name, value in tracked.items() if name.startswith("test/")}
    assert of_test == set(values(verb, folder))
    assert verb == "lab" or any(name.startswith("search/") for name in tracked)
