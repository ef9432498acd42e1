"""Stored answers of a search leave out the dev items that it held out."""

import pytest

from harness.lab.stored_answers import Stored
from harness.session.session import BASE
from harness.session.settings import run_settings
from utilities.core import ItemResult, Response, Score
from utilities.errors import UserError
from utilities.tasks import load_task


def stored(answers):
    """Answers of models on dev by the ids of the items, as a search stores them."""
    parts = {
        (name, "dev"): {"cases": [ItemResult(one, one, "", Response(""), Score(1.0)) for one in ids]}
        for name, ids in answers.items()
    }
    return Stored(run_settings({"task": "medical"}), parts, "runs/one")


@pytest.fixture
def task():
    return load_task("medical", edition="mini", limit=4)


def test_the_task_keeps_the_dev_items_that_every_expert_answered(task):
    ids = [item.id for item in next(iter(task.item_sets.values())).dev]
    answered = stored({BASE: ids[:1], "ant": ids[:-1], "bee": ids[1:]}).answered(task)
    assert [item.id for item in next(iter(answered.item_sets.values())).dev] == ids[1:-1]
    assert {name: s.test for name, s in answered.item_sets.items()} == {n: s.test for n, s in task.item_sets.items()}


def test_an_item_set_without_such_items_is_refused(task):
    ids = [item.id for item in next(iter(task.item_sets.values())).dev]
    with pytest.raises(UserError, match=r"no dev item of .* has answers of every expert"):
        stored({"ant": ids[:1], "bee": ids[1:]}).answered(task)
