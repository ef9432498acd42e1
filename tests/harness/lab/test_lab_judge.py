"""Labs whose designs ask a judge: a real server that says what a test wants."""

import re
from functools import partial

import pytest
import yaml
from lab_task import make_task, settings
from stub_server import error, says

from harness.lab.lab import LabOptions, examine_designs, examine_stored
from utilities.errors import UserError

JUDGE = """
from pydantic import BaseModel

from utilities.core import Unscored
from utilities.judges.panel_scorer import JudgedScorer, Judgement
from utilities.judges.parsing import Message, as_object
from utilities.prompts import Prompt


class Mark(BaseModel):
    mark: int


class Marks(JudgedScorer):
    name = "marks"

    def __init__(self, judge=None):
        super().__init__(Prompt("Mark {{ answer | data('answer') }}"), 100, judge, "plain", 6, ())

    async def judgement(self, judge, replicate, item, answer):
        asked = [Message("user", self.template.render(answer=answer))]
        found = await judge.ask_for(asked, lambda reply: as_object(reply, Mark), replicate=replicate)
        return found if isinstance(found, Unscored) else Judgement(found.value.mark)
"""


@pytest.fixture
def sums(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_task(tmp_path)


@pytest.fixture
def given(base, adapters):
    return partial(settings, base, adapters)


@pytest.fixture
def interest(sums):
    """A task that a judge rates."""
    data = {"scorer": "topic_interest", "options": {"topic": "sums", "prompt": "plain", "max_tokens": 4}}
    data |= {"file": "sums.json"}
    task = {"name": "interest", "title": "Sums", "editions": {"own": {"item_sets": {"sums": data}}}}
    (sums / "interest.yaml").write_text(yaml.safe_dump(task))
    (sums / "judge.py").write_text(JUDGE)
    return sums


@pytest.fixture
def judged(interest, given, judge_server):
    """Settings of a lab with the stub judge, which rates by a number that it makes of the whole prompt."""
    judge_server.answer = lambda asked: says(f"Rating: {1 + sum(asked.last.encode()) % 10}/10")

    def make(**changes):
        own = {"judge": ("stub-1",), "judge_url": judge_server.url, "judge_cache": str(interest / "cache.sqlite")}
        own |= {"task": "interest.yaml", "option": ("variant=paper", "expected=false")}
        return given(**{**own, **changes})

    return make


def by_check(examined):
    return {finding.check: finding for finding in examined.findings}


def test_a_judge_is_asked_under_other_words_and_again_and_its_cost_is_told_first(interest, judged, judge_server):
    told, asked_before = [], []

    def progress(text):
        told.append(text)
        asked_before.append(judge_server.count)

    found, _ = examine_designs(judged(), LabOptions(cloud=0, probes=22), interest / "lab", progress)
    place = next(k for k, text in enumerate(told) if text.startswith("judge cost"))
    text = told[place]
    assert asked_before[place] == 0
    estimate = re.match(r"judge cost estimate \(stub-1\): ([\d,]+) requests .* \$0\.00", text)
    assert judge_server.count <= int(estimate[1].replace(",", ""))
    checks = by_check(found.designs[0])
    for check in ("retest", "padding", "paraphrases", "attacks", "ladder"):
        assert checks[check].verdict != "not applicable", checks[check].advice
    assert checks["retest"].value == 0
    assert checks["retest"].numbers["replicates"] == 3
    assert found.cost.requests == judge_server.count
    assert found.judges == ["stub-1"]
    prompts = {asked.last for asked in judge_server.requests}
    assert any("Somebody with an interest" in prompt for prompt in prompts)
    assert any("There are many aspects to this" in prompt for prompt in prompts)
    assert any("Thought process:" in prompt for prompt in prompts)
    assert checks["cost"].numbers["evaluation_judge_requests"] == 24


def test_a_judge_that_changes_its_mind_fails_the_retest(interest, judged, judge_server):
    judge_server.answer = lambda asked: says(f"Rating: {1 + 7 * judge_server.count % 10}/10")
    found, _ = examine_designs(judged(), LabOptions(cloud=0, probes=22), interest / "lab")
    assert by_check(found.designs[0])["retest"].verdict == "fail"


def test_what_the_budget_ends_goes_on_with_more_of_it_and_pays_nothing_twice(interest, judged, judge_server):
    wanted = LabOptions(cloud=0, probes=22)
    with pytest.raises(UserError, match=r"budget is spent .*Progress is saved"):
        examine_designs(judged(budget_tokens=8000), wanted, interest / "lab")
    paid = judge_server.count
    assert 0 < paid < 8000 / 25
    found, _ = examine_designs(judged(budget_tokens=10**6), wanted, interest / "lab")
    asked = [asked.body["messages"][-1]["content"] for asked in judge_server.requests]
    whole = judge_server.count
    assert found.cost.requests == whole
    assert len(asked) - len(set(asked)) <= 2 * 22 * 3  # what is asked again on purpose: two replicates of three experts
    examine_designs(judged(budget_tokens=10**6), wanted, interest / "lab")
    assert judge_server.count == whole


@pytest.mark.slow
def test_designs_of_one_judge_stand_side_by_side_with_one_that_asks_nobody(interest, judged):
    designs = ("mine.py:length", "topic_interest,expected=true", "topic_interest")
    wanted = LabOptions(designs, cloud=0, probes=22)
    with pytest.raises(UserError, match="does not take its options"):
        examine_designs(judged(), wanted, interest / "lab")
    settings = judged(option=())
    wanted = LabOptions(
        ("mine.py:length", "topic_interest,variant=paper", "topic_interest,variant=paper,expected=false"), 0
    )
    found, _ = examine_designs(settings, wanted, interest / "lab")
    assert [one.design for one in found.designs] == list(wanted.designs)
    assert len(found.compared.agreements) == 3
    assert all(by_check(one)["failures"].verdict == "pass" for one in found.designs)


def test_a_judge_of_ones_own_in_a_file_is_given_the_judge(interest, judged, judge_server):
    judge_server.answer = lambda asked: says(f'{{"mark": {len(asked.last) % 5}}}')
    wanted = LabOptions(("judge.py:Marks",), cloud=0, probes=22)
    found, folder = examine_designs(judged(option=()), wanted, interest / "lab")
    checks = by_check(found.designs[0])
    assert checks["failures"].verdict == "pass"
    assert checks["paraphrases"].verdict != "not applicable"
    paid = judge_server.count
    again, _ = examine_stored([folder], {}, wanted, interest / "stored")
    assert judge_server.count == paid
    assert by_check(again.designs[0])["attacks"] == checks["attacks"]


def test_a_wrong_key_ends_the_lab_in_words(interest, judged, judge_server):
    judge_server.answer = lambda asked: error(401, "no such key")
    with pytest.raises(UserError, match="401"):
        examine_designs(judged(), LabOptions(cloud=0), interest / "lab")
