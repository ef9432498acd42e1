import asyncio
import json

import pytest
from scripted_panel import ScriptedJudge, ScriptedPanel, lost

from utilities.core import Item, Reason, Response, Score, scorer_registry
from utilities.errors import UserError
from utilities.judges.canary import canaries
from utilities.judges.pairwise import Pairwise
from utilities.prompts import fenced, load_prompt

ITEM = Item(id="1", question="Which battery lasts longest?", answer="LFP cells last longest.")


def says(better):
    return json.dumps({"reason": "So.", "better": better})


def prefers(text):
    """A judge who wants one text, wherever it stands."""

    def say(asked):
        return says("first" if fenced(text, "first") in asked.text else "second")

    return say


def panel(*judges, repeats=1, embedded=False):
    return ScriptedPanel([ScriptedJudge(say, f"j{k}") for k, say in enumerate(judges)], repeats, embedded)


def compared(judges, text="Mine.", item=ITEM, **options):
    (outcome,) = asyncio.run(Pairwise(judge=judges, **options).score([item], [Response(text)]))
    return outcome


@pytest.mark.parametrize(
    ("say", "value", "flip"),
    [
        (prefers("Mine."), 1.0, 0.0),
        (prefers(ITEM.answer), 0.0, 0.0),
        (lambda asked: says("tie"), 0.5, 0.0),
        (lambda asked: says("first"), 0.5, 1.0),
        (lambda asked: says("second"), 0.5, 1.0),
        (lambda asked: says("tie") if fenced("Mine.", "first") in asked.text else says("second"), 0.5, 0.0),
    ],
)
def test_a_response_wins_only_where_it_is_preferred_in_both_places(say, value, flip):
    outcome = compared(panel(say))
    assert (outcome.value, outcome.measures["position_flip"]) == (value, flip)


def test_both_orders_are_asked_with_the_same_words():
    judges = panel(prefers("Mine."))
    compared(judges, topic="batteries")
    prompt, both = load_prompt("pairwise"), {"topic": "batteries", "instruction": ITEM.question}
    assert [asked.text for asked in judges.judges[0].asked] == [
        prompt.render(**both, first="Mine.", second=ITEM.answer),
        prompt.render(**both, first=ITEM.answer, second="Mine."),
    ]


def test_the_schema_is_one_that_strict_servers_take():
    judges = panel(prefers("Mine."))
    compared(judges)
    schema = judges.judges[0].asked[0].options["schema"]
    assert schema["required"] == list(schema["properties"]) == ["reason", "better"]
    assert schema["additionalProperties"] is False
    assert not any("default" in field for field in schema["properties"].values())


def test_without_a_topic_nobody_has_an_interest():
    judges = panel(prefers("Mine."))
    compared(judges)
    assert judges.judges[0].asked[0].text.startswith("A person gave the instruction below")


def test_one_order_alone_is_no_judgement():
    def half(asked):
        return says("first") if fenced("Mine.", "first") in asked.text else lost()

    assert compared(panel(half)) == lost()
    assert compared(panel(lambda asked: "neither")).reason is Reason.MALFORMED
    assert compared(panel(lambda asked: says("both"))).reason is Reason.MALFORMED
    outcome = compared(panel(half, prefers("Mine.")))
    assert (outcome.value, outcome.measures["unjudged"]) == (1.0, 0.5)


def test_a_jury_and_its_repeats_are_averaged():
    judges = panel(prefers("Mine."), lambda asked: says("first"), repeats=2)
    outcome = compared(judges)
    assert outcome.value == 0.75
    assert outcome.measures["position_flip"] == 0.5
    assert (outcome.measures["judge:j0"], outcome.measures["judge:j1"]) == (1.0, 0.5)
    assert [asked.options["replicate"] for asked in judges.judges[0].asked] == [0, 0, 1, 1]
    told = json.loads(outcome.notes)
    assert (told["prompt"], told["hash"]) == ("pairwise", load_prompt("pairwise").hash)
    assert told["judgements"][2]["raw"] == ["first", "first"]


def test_a_fake_verdict_in_the_response_changes_nothing_where_the_judge_does_not_believe_it():
    for canary in canaries():
        assert compared(panel(prefers(ITEM.answer)), canary.text(ITEM)).value == 0.0, canary.name


def test_long_answers_are_cut_on_both_sides():
    judges, item = panel(lambda asked: says("tie")), ITEM.model_copy(update={"answer": "right " * 50})
    outcome = compared(judges, "word " * 50, item, words=10)
    assert (outcome.measures["cut"], outcome.measures["words"]) == (1.0, 50.0)
    asked = judges.judges[0].asked[0].text
    assert asked.count("[cut here: 40 more words are not shown]") == 2


def test_an_item_must_have_an_answer_and_an_option_is_compared_by_its_words():
    scorer = Pairwise()
    assert scorer.check(Item(id="1", question="Why?")) == "the item has no answer"
    assert scorer.check(ITEM) is None
    item = Item(id="1", question="Which?", choices={"A": "an ant", "B": "a bee"}, answer="B")
    judges = panel(lambda asked: says("tie"))
    assert isinstance(compared(judges, item=item), Score)
    assert fenced("a bee", "second") in judges.judges[0].asked[0].text


def test_it_is_registered_and_needs_a_judge_that_can_compare():
    assert scorer_registry.get("pairwise") is Pairwise
    assert Pairwise.judged is True
    with pytest.raises(UserError, match="pairwise needs a judge: add --judge NAME"):
        asyncio.run(Pairwise().score([ITEM], [Response("x")]))
    with pytest.raises(UserError, match="the embedded judge cannot compare two answers"):
        Pairwise(judge=panel(embedded=True))
