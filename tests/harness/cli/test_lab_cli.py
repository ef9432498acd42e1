"""`python run.py lab` from the command line."""

import json

import pytest
from conftest import refused
from lab_task import make_task

from harness.lab.result import Examination


@pytest.fixture
def sums(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_task(tmp_path)


@pytest.fixture
def options(sums, base, adapters):
    experts = [part for folder in adapters for part in ("--experts", folder)]
    return ["--task", "sums.yaml", "--base-model", base, *experts, "--device", "cpu", "--cloud", "0"]


def test_a_lab_is_printed_and_as_json(sums, options, here):
    done = here("lab", "mine.py:vowels", *options, "--out", "lab")
    assert done.returncode == 0, done.stderr
    assert "on sums (own); 3 experts, 24 dev and 22 test items" in done.stdout
    assert "mine.py:vowels: fit as report only" in done.stdout or "mine.py:vowels: not fit" in done.stdout
    assert "Written: lab/lab.json, lab/lab.png" in done.stdout
    again = here("lab", "mine.py:vowels", *options, "--out", "lab", "--json")
    told = Examination.model_validate_json(again.stdout)
    assert told.designs == Examination.model_validate_json((sums / "lab" / "lab.json").read_text()).designs
    refused(here("resume", "lab"), "is a lab folder", "re-run the original `lab` command")
    refused(here("lab", "mine.py:length", *options, "--out", "lab"), "cannot resume `lab` in lab", "mine.py:length")
    stored = here("lab", "mine.py:length", "--responses", "lab", "--out", "stored", "--json", "--display", "none")
    assert json.loads(stored.stdout)["engine"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["numerik"], ["Did you mean 'numeric'"]),
        (["mine.py:vowel"], ["Did you mean 'vowels'"]),
        (["yours.py:f"], ["does not exist", "yours.py"]),
        (["numeric", "numeric"], ["named twice"]),
        (["multiple_choice"], ["item 'i0'", "no choices"]),
        (["pairwise"], ["add --judge"]),
        (["--labels", "labels.jsonl"], ["labels.jsonl: cannot be read"]),
        (["--labels", "mine.py"], [".jsonl or .csv"]),
        (["--task", "some"], ["unknown task 'some'"]),
        (["--responses", "runs/none"], ["--responses already determines the task"]),
        (["--limit", "none"], ["limit"]),
    ],
)
def test_a_mistake_ends_with_code_2_and_one_sentence(sums, options, here, arguments, words):
    refused(here("lab", *options, *arguments), *words)


def test_a_folder_without_answers_is_refused(sums, here):
    refused(here("lab", "mine.py:vowels", "--responses", "none"), "none is no run folder")


def test_no_task_is_answered_with_the_tasks_that_there_are(here):
    refused(here("lab", "numeric"), "no task given", "medical")
