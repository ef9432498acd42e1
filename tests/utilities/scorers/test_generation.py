"""Scorers of generated answers: what is asked, what is kept, and what becomes of an answer that never came."""

import asyncio

import pytest

from utilities.core import Item, Reason, Response, Score, Unscored
from utilities.errors import UserError
from utilities.prompts import prompt_hash
from utilities.scorers.base import item_results
from utilities.scorers.generation import GenerationScorer


class Scripted:
    """A model that answers from a list, and keeps what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    async def generate(self, prompts, *, max_tokens, stop=()):
        self.asked.append((prompts, max_tokens, stop))
        return self.answers


class Loud(GenerationScorer):
    """1 for an answer in capitals."""

    def score_one(self, item, response):
        return Score(float(response.text.isupper()))


def item(id="1", question="Which animal?", answer="ANT", **fields):
    return Item(id=id, question=question, answer=answer, **fields)


def evaluate(scorer, items, *answers):
    model = Scripted(*answers)
    return asyncio.run(scorer(model, items)), model


def test_the_value_is_the_mean_score_of_the_responses():
    items = [item(str(k)) for k in range(4)]
    answers = [Response(text, 3, "length") for text in ("ANT", "ant", "BEE", "CAT")]
    evaluation, _ = evaluate(Loud(), items, *answers)
    assert (evaluation.value, evaluation.n, evaluation.n_unscored, evaluation.usage.requests) == (0.75, 4, 0, 4)
    assert [r.response for r in evaluation.results] == answers
    assert [r.item_id for r in evaluation.results] == ["0", "1", "2", "3"]


def test_the_model_is_asked_as_the_options_say():
    evaluation, model = evaluate(Loud("plain", max_tokens=7, stop=["\n", "Q:"]), [item()], Response("ANT"))
    assert model.asked == [(["Which animal?\nAnswer:"], 7, ("\n", "Q:"))]
    assert evaluation.results[0].prompt_hash == prompt_hash("Which animal?\nAnswer:")


def test_a_single_stop_text_is_not_its_letters():
    assert Loud(stop="END").stop == ("END",)


def test_a_template_never_sees_the_answer():
    secret = item(answer="xyzzy", domain="xyzzy", source="xyzzy")
    for variable in ("answer", "source", "item"):
        with pytest.raises(UserError, match="not a valid template"):
            Loud(f"{{{{ question }}}} {{{{ {variable} }}}}")
    assert Loud("{{ question }} {{ choices }} {{ preamble }}").prompt.render(secret) == "Which animal? {} "


def test_a_worked_example_stands_before_the_question():
    _, model = evaluate(
        Loud("one_shot"), [item(preamble="Q: 1 + 1? 2", choices={"A": "x", "ANT": "y"})], Response("ANT")
    )
    assert model.asked[0][0] == ["Q: 1 + 1? 2\n\nQuestion: Which animal?\nA: x\nANT: y\nThe answer is"]


def test_an_answer_that_never_came_keeps_its_reason_and_is_not_scored():
    failed = Unscored(Reason.TRANSPORT, "the line is cut", attempts=3, raw="AN")
    items = [item(str(k)) for k in range(10)]
    evaluation, _ = evaluate(Loud(), items, *[Response("ANT")] * 4, failed, *[Response("bee")] * 5)
    assert (evaluation.value, evaluation.n, evaluation.n_unscored) == (4 / 9, 9, 1)
    assert evaluation.results[4].outcome == failed
    assert evaluation.results[4].response == Response("AN", finish_reason="unanswered")


def test_too_many_answers_that_never_came_are_not_comparable():
    failed = Unscored(Reason.TRUNCATED)
    evaluation, _ = evaluate(Loud(), [item(str(k)) for k in range(10)], failed, failed, *[Response("ANT")] * 8)
    assert (evaluation.value, evaluation.problem) == (None, "2 of 10 items are unscored (limit 10%)")


def test_stored_responses_are_scored_again_without_the_model():
    items = [item(str(k)) for k in range(3)]
    evaluation, _ = evaluate(Loud(), items, Response("ANT"), Response("x"), Response(""))
    again = asyncio.run(Loud().score(items, [r.response for r in evaluation.results]))
    assert again == [r.outcome for r in evaluation.results]


def test_items_are_clustered_by_their_source():
    items = [item("1", source="fact"), item("2", source="fact"), item("3")]
    evaluation, _ = evaluate(Loud(), items, *[Response("ANT")] * 3)
    assert [r.cluster for r in evaluation.results] == ["fact", "fact", "3"]


def test_only_answers_reach_the_scorer_and_results_keep_the_order_of_the_items():
    seen = []

    class Noting(Loud):
        async def score(self, items, responses):
            seen.append([(i.id, r.text) for i, r in zip(items, responses, strict=True)])
            return await super().score(items, responses)

    lost = Unscored(Reason.BUDGET)
    found = asyncio.run(
        item_results(Noting(), [item("a"), item("b"), item("c")], ["x", "y", "z"], [lost, Response("B"), Response("c")])
    )
    assert seen == [[("b", "B"), ("c", "c")]]
    assert [(r.item_id, r.prompt_hash, r.outcome) for r in found] == [
        ("a", "x", lost),
        ("b", "y", Score(1.0)),
        ("c", "z", Score(0.0)),
    ]


@pytest.mark.parametrize("answers", [[], [Response("A")], [Response("A")] * 3])
def test_another_number_of_answers_is_an_error_and_not_another_evaluation(answers):
    with pytest.raises(ValueError, match="zip"):
        evaluate(Loud(), [item("1"), item("2")], *answers)


@pytest.mark.parametrize("answer", [None, "", " \n"])
def test_an_item_without_an_answer_is_refused(answer):
    assert Loud().check(item()) is None
    assert Loud().check(item(answer=answer)) == "the item has no answer"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "plian"}, "unknown prompt 'plian'. Did you mean 'plain'"),
        ({"max_tokens": 0}, "max_tokens is 0; a whole number from 1 is accepted"),
        ({"max_tokens": -3}, "max_tokens is -3"),
        ({"max_tokens": 2.5}, "max_tokens is 2.5"),
        ({"max_tokens": "many"}, "max_tokens is 'many'"),
        ({"max_tokens": None}, "max_tokens is None"),
    ],
)
def test_an_option_that_means_nothing_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        Loud(**options)
