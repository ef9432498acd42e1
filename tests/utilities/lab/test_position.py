import asyncio
import json

import numpy as np
from scripted_panel import ScriptedJudge, ScriptedPanel

from utilities.core import Evaluation, Item, ItemResult, Response, Score
from utilities.judges.pairwise import Pairwise
from utilities.lab.checks.position import position, positions
from utilities.lab.material import Positions

ITEMS = [Item(id=str(k), question="Why?", answer="So.", source=f"s{k // 2}") for k in range(30)]


def evaluated(said):
    """An evaluation by the real scorer, with a judge who says what `said` answers to each prompt."""
    panel = ScriptedPanel([ScriptedJudge(lambda asked: json.dumps({"reason": "", "better": said(asked.text)}))])
    responses = [Response(f"answer {item.id}") for item in ITEMS]
    outcomes = asyncio.run(Pairwise(judge=panel).score(ITEMS, responses))
    results = [ItemResult(i.id, i.source, "", r, o) for i, r, o in zip(ITEMS, responses, outcomes, strict=True)]
    return Evaluation.of(results)


def test_verdicts_in_both_orders_are_read_from_the_records_of_pairwise():
    always_first = positions({"m": evaluated(lambda text: "first")})
    np.testing.assert_array_equal(always_first.ahead, np.ones(30))
    np.testing.assert_array_equal(always_first.behind, np.zeros(30))
    assert always_first.clusters == tuple(item.source for item in ITEMS)
    found = position(always_first)
    assert (found.value, found.verdict, found.numbers["flips"]) == (1, "fail", 1)
    assert "first position" in found.advice
    ties = position(positions({"m": evaluated(lambda text: "tie"), "n": evaluated(lambda text: "tie")}))
    assert (ties.value, ties.verdict, ties.numbers["pairs"]) == (0, "pass", 60)


def test_other_records_have_no_verdicts():
    notes = ("", "no JSON", "[]", '{"judgements": [{"raw": "7"}]}', '{"judgements": 3}', '{"judgements": [["a"]]}')
    results = [ItemResult(str(k), str(k), "", Response(""), Score(1.0, notes=note)) for k, note in enumerate(notes)]
    assert positions({"m": Evaluation.of(results)}) is None


def test_a_bias_and_its_interval():
    rng = np.random.default_rng(0)
    ahead = (rng.random(500) < 0.6).astype(float)
    behind = np.where(rng.random(500) < 0.4, 1 - ahead, ahead)
    clusters = tuple(str(k) for k in range(500))
    found = position(Positions(ahead, behind, clusters))
    assert found.value == np.mean(ahead - behind)
    assert found.low < found.value < found.high
    assert found.numbers["flips"] == np.mean(ahead != behind)
    assert "second position" in position(Positions(np.zeros(30), np.ones(30), clusters[:30])).advice


def test_few_pairs_are_said():
    found = position(Positions(np.array([np.nan] * 30 + [1.0]), np.ones(31), tuple(map(str, range(31)))))
    assert found.verdict == "not applicable"
    assert found.advice.startswith("1 pairs")
