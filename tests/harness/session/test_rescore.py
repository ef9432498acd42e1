"""Stored responses scored again: `python run.py score runs/NAME --utility OTHER`."""

import json

import pytest
import yaml

from harness.run_folder.store import Store

MINE = """
def length(item, response):
    return len(response.text)


def known(item, response):
    return 1.0
"""


@pytest.fixture
def ran(here, base, adapters, tmp_path, monkeypatch):
    """The records of `evaluate` on a generated answer and on options, in a folder of one's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    items = [{"id": str(k), "question": f"What is {k} and {k}?", "answer": str(2 * k)} for k in range(4)]
    (tmp_path / "data" / "sums.json").write_text(json.dumps({"dev": items, "test": items[1:]}))
    sums = {"scorer": "numeric", "options": {"prompt": "plain", "max_tokens": 3}, "file": "sums.json"}
    task = {"name": "sums", "title": "Sums", "editions": {"own": {"item_sets": {"sums": sums}}}}
    (tmp_path / "sums.yaml").write_text(yaml.safe_dump(task))
    (tmp_path / "mine.py").write_text(MINE)
    experts = [part for folder in adapters for part in ("--experts", folder)]
    options = ["--task", "sums.yaml", "--base-model", base, *experts, "--device", "cpu"]
    done = here("evaluate", *options, "--split", "dev", "--out", "kept")
    assert done.returncode == 0, done.stderr
    return tmp_path / "kept"


def scores(here, *arguments):
    done = here("score", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)}


def test_the_own_utility_finds_again_what_was_stored(here, ran):
    rows = scores(here, ran)
    assert len(rows) > 2
    assert all(row["value"] == row["stored"] and row["n"] == 4 for row in rows.values())


def test_another_utility_reads_the_stored_responses(here, ran):
    rows = scores(here, ran, "--utility", "mine.py:length")
    stored = Store.open(ran)
    kept = stored.records("evaluate_dev")
    stored.close()
    for (label, _), results in kept.items():
        assert rows[label]["value"] == pytest.approx(sum(len(r.response.text) for r in results) / len(results))
    assert scores(here, ran, "--utility", "mine.py:known")["base model"]["value"] == 1.0


def test_another_utility_has_its_own_options(here, ran):
    rows = scores(here, ran, "--utility", "exact_match", "--option", "reads=number")
    assert all(row["value"] == row["stored"] for row in rows.values())


def test_what_was_scored_again_is_kept_and_not_scored_again_itself(here, ran):
    scores(here, ran, "--utility", "mine.py:length")
    assert (ran / "records" / "rescored-mine-py-length-evaluate_dev.parquet").is_file()
    assert len(scores(here, ran, "--utility", "mine.py:length")) == len(scores(here, ran))


def test_a_utility_that_needs_what_was_not_stored_leaves_every_item_unscored(here, ran):
    done = here("score", ran, "--utility", "gold_logprob")
    assert done.returncode == 0
    assert "no log-probabilities" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "is no run folder"),
        (["kept", "--utility", "numerik"], "Did you mean 'numeric'"),
        (["kept", "--utility", "mine.py:lenght"], "Did you mean 'length'"),
    ],
)
def test_a_mistake_ends_with_code_2_and_one_sentence(here, ran, arguments, words):
    done = here("score", *arguments)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr


def test_data_that_changed_since_is_named(here, ran, tmp_path):
    items = [{"id": f"other-{k}", "question": f"What is {k}?", "answer": str(k)} for k in range(4)]
    (tmp_path / "data" / "sums.json").write_text(json.dumps({"dev": items, "test": items[1:]}))
    done = here("score", ran)
    assert done.returncode == 2
    assert "not in the data any more" in done.stderr
