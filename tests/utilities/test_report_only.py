"""Task files with their items inside, report-only scorers, and judges for the scorers that need one."""

import asyncio

import pytest
import yaml

from utilities.core import Evaluation, Response, Score, scorer_registry
from utilities.errors import UserError
from utilities.scorer_by_name import make_scorer
from utilities.scorers.generation import GenerationScorer
from utilities.tasks import load_task


class Says:
    async def generate(self, prompts, *, max_tokens, stop=()):
        return [Response(f"{prompt.strip()}!", finish_reason="stop") for prompt in prompts]

    async def choice_logprobs(self, prompts, options):
        raise NotImplementedError


OWN = """
from utilities import utility

@utility()
def length(item, response):
    return float(len(response.text))

@utility()
def shouts(item, response):
    return float(response.text.endswith("!"))
"""


def write(folder, edition):
    (folder / "own.py").write_text(OWN)
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({"name": "own", "title": "Own", "editions": {"own": edition}}))
    return str(path)


def inline(**more):
    items = {"dev": ["One?", {"id": "two", "question": "Two?"}], "test": ["Three?"]}
    return {"item_sets": {"asked": {"scorer": "own.py:length", "items": items}}, **more}


def test_items_may_stand_in_the_task_file_as_texts_or_as_items(tmp_path):
    asked = load_task(write(tmp_path, inline())).item_sets["asked"]
    assert [(item.id, item.question) for item in asked.dev] == [("0", "One?"), ("two", "Two?")]
    assert [item.question for item in asked.test] == ["Three?"]
    assert "own.yaml" not in asked.origin or str(tmp_path) in asked.origin


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ({"dev": ["a"]}, "expected the lists dev and test, found dev"),
        ({"dev": ["a"], "test": [""]}, "question"),
        ({"dev": ["a"], "test": [3]}, "an item is an object"),
        ({"dev": ["a"], "test": []}, "split 'test' is empty"),
    ],
)
def test_a_mistake_in_inline_items_is_told(tmp_path, items, message):
    edition = {"item_sets": {"asked": {"scorer": "own.py:length", "items": items}}}
    with pytest.raises(UserError, match=message):
        load_task(write(tmp_path, edition))


def test_an_item_set_has_either_a_file_or_items(tmp_path):
    both = inline()
    both["item_sets"]["asked"]["file"] = "own.json"
    for edition in (both, {"item_sets": {"asked": {"scorer": "own.py:length"}}}):
        with pytest.raises(UserError, match="either a file or items"):
            load_task(write(tmp_path, edition))


def test_a_report_only_scorer_scores_the_same_responses_and_is_no_part_of_the_value(tmp_path):
    task = load_task(write(tmp_path, inline(report_only={"loud": {"scorer": "own.py:shouts"}})))
    found = asyncio.run(task(Says(), "dev"))
    assert found.value == len("One?!")
    loud = asyncio.run(task.report_only["loud"](task.item_sets["asked"].dev, found))
    assert loud.value == 1.0
    assert [r.response for r in loud.results] == [r.response for r in found.results]


def test_report_only_keeps_the_reason_of_an_unanswered_item(tmp_path):
    task = load_task(write(tmp_path, inline(report_only={"loud": {"scorer": "own.py:shouts"}})))
    found = asyncio.run(task(Says(), "dev"))
    lost = Response("", finish_reason="unanswered")
    results = [found.results[0], type(found.results[1])(**{**_fields(found.results[1]), "response": lost})]
    loud = asyncio.run(task.report_only["loud"](task.item_sets["asked"].dev, Evaluation.of(results)))
    assert loud.results[0].outcome == Score(1.0)
    assert loud.results[1].outcome is results[1].outcome


def _fields(result):
    return {name: getattr(result, name) for name in result.__dataclass_fields__}


@pytest.mark.parametrize(
    ("edition", "message"),
    [
        (inline(report_only={"loud": {"scorer": "own.py:shouts", "of": "askd"}}), "Did you mean 'asked'"),
        (inline(report_only={"loud": {"scorer": "nothing"}}), "report_only .loud.: unknown scorer .nothing."),
    ],
)
def test_a_mistake_in_report_only_is_refused(tmp_path, edition, message):
    with pytest.raises(UserError, match=message):
        load_task(write(tmp_path, edition))


def test_a_report_only_scorer_can_be_removed_or_get_other_options(tmp_path):
    path = write(tmp_path, inline(report_only={"exact": {"scorer": "regex", "options": {"pattern": "a"}}}))
    assert load_task(path, report_only={"exact": None}).report_only == {}
    with pytest.raises(UserError, match="does not take its options"):
        load_task(path, report_only={"exact": {"colour": "red"}})


def test_a_scorer_that_takes_a_judge_is_given_the_judges(monkeypatch):
    class Judged(GenerationScorer):
        def __init__(self, judge=None):
            super().__init__()
            self.judge = judge

    monkeypatch.setitem(scorer_registry._entries, "judged_in_a_test", Judged)
    panel = object()
    assert make_scorer("judged_in_a_test", {}, panel).judge is panel
    assert make_scorer("judged_in_a_test", {}).judge is None
    assert not hasattr(make_scorer("numeric", {}, panel), "judge")


def test_the_older_key_of_report_only_is_read(tmp_path):
    path = write(tmp_path, inline(beside={"exact": {"scorer": "regex", "options": {"pattern": "a"}}}))
    assert list(load_task(path).report_only) == ["exact"]
