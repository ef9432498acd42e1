"""The main job where a part of the task is a group of items: the same truths as for item sets."""

import json
import shutil

import pytest
import yaml
from peft import PeftModel
from test_adapt import Stopped, StopsAfterEveryStep, accuracy, job, lasting
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.run_folder.store import Store
from harness.session.provenance import changed_inputs, provenance
from harness.session.session import open_session
from harness.session.settings import run_settings

DOMAINS = ("sea", "land", "air")


@pytest.fixture(scope="module")
def task_file(tmp_path_factory):
    """A task of 24 sums in three domains, with a set of its own for ten of them that is not grouped."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "data").mkdir()
    items = [
        {
            "question": f"How many are {k} and {k}?",
            "choices": {"A": f"{2 * k}", "B": f"{2 * k + 5}", "C": "none"},
            "answer": "ABC"[k * k % 3],
            "domain": DOMAINS[k % 3],
        }
        for k in range(48)
    ]
    for name, dev, test in (("sums", items[:24], items[24:]), ("few", items[:10], items[30:40])):
        (folder / "data" / f"{name}.json").write_text(json.dumps({"dev": dev, "test": test}))
    described = {"scorer": "multiple_choice", "options": {"prompt": "plain", "answer_by": "text"}}
    sets = {name: {**described, "file": f"{name}.json"} for name in ("sums", "few")}
    sets["sums"]["group_by"] = "domain"
    task = {"name": "mine", "title": "Sums", "combine": "minimum", "editions": {"own": {"item_sets": sets}}}
    (folder / "task.yaml").write_text(yaml.safe_dump(task))
    return folder / "task.yaml"


@pytest.fixture(scope="module")
def given(task_file, base, adapters):
    """Settings of a small job on that task; a test adds its own."""

    def make(**changes):
        flat = {"task": str(task_file), "base_model": str(base), "particles": 4, "iterations": 2, "device": "cpu"}
        return run_settings({**flat, "experts": [str(folder) for folder in adapters], **changes})

    return make


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    """An undisturbed run: its result and folder."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return job(given(), folder), folder


def group_values(model, base, task, split):
    """Plain transformers: the accuracy of each domain of `sums`, and of `few`."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    sums, few = (task.item_sets[name].split(split) for name in ("sums", "few"))
    groups = [[item for item in sums if item.domain == domain] for domain in DOMAINS]
    return [accuracy(model.eval(), tokenizer, items) for items in (*groups, few)]


@pytest.mark.parametrize("combine", [None, "mean"])
def test_the_winner_scores_with_plain_peft_what_the_result_says_of_its_groups(combine, given, base, whole, tmp_path):
    settings = given(combine=combine)
    result = job(settings, tmp_path / "run") if combine else whole[0]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), result.winner.adapter)
    task = open_session(settings).task
    for split, said in (("dev", result.winner.dev), ("test", result.winner.test)):
        values = group_values(model, base, task, split)
        assert said == pytest.approx(sum(values) / 4 if combine else min(values), abs=1e-12)
    assert all(row.n == 34 and row.problem is None for row in result.rows)


def test_the_records_name_the_groups(whole):
    records = Store(whole[1]).records("test_winner")
    assert {part: len(results) for (_, part), results in records.items()} == {
        **{f"sums:{domain}": 8 for domain in DOMAINS},
        "few": 10,
    }


def test_stopped_within_the_final_table_it_ends_the_same(given, whole, tmp_path):
    """The rows before are read from their records, whose parts are groups."""

    def stop(event):
        if event.kind == "testing" and event.done == 4:
            raise Stopped

    with pytest.raises(Stopped):
        job(given(), tmp_path / "run", stop)
    job(given(), tmp_path / "run")
    assert lasting(tmp_path / "run") == lasting(whole[1])


@pytest.mark.slow
def test_stopped_after_every_single_step_it_ends_the_same(given, whole, tmp_path):
    stops = 0
    while True:
        try:
            job(given(), tmp_path / "run", kind=StopsAfterEveryStep)
            break
        except Stopped:
            stops += 1
    # The beginning, three iterations, two finalists on dev, five rows on test and the base model on dev.
    assert stops == 1 + 3 + 2 + 6
    assert lasting(tmp_path / "run") == lasting(whole[1])


def test_another_combination_or_other_groups_are_another_task(given, task_file, tmp_path):
    then = provenance(open_session(given()))
    assert changed_inputs(then, provenance(open_session(given(combine="minimum")))) == []
    assert len(changed_inputs(then, provenance(open_session(given(combine="mean"))))) == 1
    shutil.copytree(task_file.parent, tmp_path / "mine")
    own = tmp_path / "mine" / "task.yaml"
    own.write_text(task_file.read_text().replace("group_by: domain", "group_by: null"))
    assert len(changed_inputs(then, provenance(open_session(given(task=str(own)))))) == 1


def test_other_weights_are_another_task(given, task_file, tmp_path):
    shutil.copytree(task_file.parent, tmp_path / "mine")
    own, said = tmp_path / "mine" / "task.yaml", yaml.safe_load(task_file.read_text())
    del said["editions"]["own"]["item_sets"]["sums"]["group_by"]
    found = []
    for weights in ({"sums": 1, "few": 2}, {"few": 2, "sums": 1}, {"sums": 1, "few": 3}):
        own.write_text(yaml.safe_dump({**said, "combine": "weighted_mean", "weights": weights}, sort_keys=False))
        found.append(provenance(open_session(given(task=str(own))))["task"])
    assert found[0] == found[1] != found[2]
