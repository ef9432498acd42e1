"""A user's own search, from its file to the verdicts that rest on it."""

import asyncio
import json

import pytest
from scripted_panel import ScriptedJudge, ScriptedPanel

from utilities.core import Item, Reason, Response, Unscored
from utilities.errors import UserError
from utilities.judges.evidence import Passage
from utilities.judges.factuality import Factuality
from utilities.judges.search_tool import SearchFailed, SearchTool

ASKED = """
asked = []
"""
FINDS = """
def find(query):
    asked.append(query)
    return ["Ants  eat leaves.", ("zoo/bees", "Bees eat honey."), ""]
"""


@pytest.fixture
def tool(tmp_path):
    def made(body):
        path = tmp_path / "my_search.py"
        path.write_text(ASKED + body)
        return f"{path}:find"

    return made


def found(spec, *queries, k=3):
    async def all_of_them():
        search = SearchTool(spec)
        return [await search.search(query, k) for query in queries]

    return asyncio.run(all_of_them())


def test_texts_and_pairs_are_passages_and_only_as_many_as_wanted(tool):
    passages = [Passage("find", "Ants eat leaves."), Passage("zoo/bees", "Bees eat honey.")]
    assert found(tool(FINDS), "ants") == [passages]
    assert found(tool(FINDS), "ants", k=1) == [passages[:1]]


def test_the_same_query_is_asked_once(tool):
    spec = tool("def find(query):\n    asked.append(query)\n    return [f'{query} {len(asked)}']\n")
    told = found(spec, "ants", "bees", "ants")
    assert [passages[0].text for passages in told] == ["ants 1", "bees 2", "ants 1"]


def test_a_search_may_be_async(tool):
    assert found(tool("async def find(query):\n    return [query]\n"), "ants") == [[Passage("find", "ants")]]


def test_what_a_search_raises_is_a_failure_and_never_no_evidence(tool):
    with pytest.raises(SearchFailed) as caught:
        found(tool("def find(query):\n    raise OSError('the web is down')\n"), "ants")
    assert caught.value.why.reason is Reason.TRANSPORT
    assert "my_search.py:find: OSError: the web is down" in caught.value.why.detail


@pytest.mark.parametrize("given", ["None", "'Ants eat leaves.'", "[7]", "[('a', 'b', 'c')]", "[None]"])
def test_what_is_no_list_of_passages_is_the_users_mistake(tool, given):
    with pytest.raises(UserError, match="expected a list of texts, or of pairs"):
        found(tool(f"def find(query):\n    return {given}\n"), "ants")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("find = 7\n", "it is no function"),
        ("def fnd(query):\n    return []\n", "Did you mean 'fnd'"),
        ("def find(:\n", "could not be run"),
    ],
)
def test_what_is_no_search_is_told_before_anything_is_asked(tool, body, told):
    with pytest.raises(UserError, match=told):
        Factuality(evidence=tool(body))
    with pytest.raises(UserError, match="does not exist"):
        Factuality(evidence="/nowhere/my_search.py:find")


def scored(spec):
    reply = json.dumps({"reasoning": "It says so.", "verdict": "supported"})
    claims = json.dumps({"claims": ["Ants eat leaves."]})
    judge = ScriptedJudge(lambda asked: reply if '"verdict"' in asked.text else claims, "j")
    scorer = Factuality(k=1, evidence=spec, judge=ScriptedPanel([judge], 1, False))
    (outcome,) = asyncio.run(scorer.score([Item(id="1", question="What do ants eat?")], [Response("Leaves.")]))
    return outcome, judge


def test_claims_are_held_against_what_a_search_finds(tool):
    outcome, judge = scored(tool(FINDS))
    assert outcome.value == 1.0
    assert "Bees eat honey." in judge.asked[-1].text
    (claim,) = json.loads(outcome.notes)["claims"]
    assert claim["evidence"][1] == {"source": "zoo/bees", "text": "Bees eat honey."}


def test_where_a_search_fails_the_item_is_unscored(tool):
    outcome, _ = scored(tool("def find(query):\n    raise OSError('down')\n"))
    assert isinstance(outcome, Unscored)
    assert outcome.reason is Reason.TRANSPORT
