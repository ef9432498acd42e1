"""Numeric answers: equal numbers are right however they are written, and no number is wrong."""

import asyncio

import pytest

from utilities.core import Item, Response, Score, scorer_registry
from utilities.scorers.numeric import Numeric


class Scripted:
    def __init__(self, *texts):
        self.answers = [Response(text) for text in texts]

    async def generate(self, prompts, *, max_tokens, stop=()):
        return self.answers


def item(answer="42", id="1"):
    return Item(id=id, question="How many?", answer=answer)


def test_it_is_registered_under_its_name():
    assert scorer_registry.get("numeric") is Numeric


@pytest.mark.parametrize(
    ("text", "gold", "score"),
    [
        ("42", "42", 1.0),
        ("The answer is 42.", "42", 1.0),
        ("6 times 7 is 42", "42", 1.0),
        ("42 and then 43", "42", 0.0),
        ("$1,234.50", "1234.5", 1.0),
        ("1234.5", "1,234.50", 1.0),
        ("0.75", "3/4", 1.0),
        ("-7", "-7", 1.0),
        ("7", "-7", 0.0),
        ("1e3", "1,000", 1.0),
        ("420", "42", 0.0),
        ("forty-two", "42", 0.0),
        ("", "42", 0.0),
    ],
)
def test_a_reply_is_right_where_its_final_number_is_the_gold_one(text, gold, score):
    assert Numeric().score_one(item(gold), Response(text)) == Score(score)


def test_a_reply_without_a_number_is_wrong_and_not_unscored():
    items = [item("1", "a"), item("2", "b")]
    evaluation = asyncio.run(Numeric()(Scripted("1", "no idea"), items))
    assert (evaluation.value, evaluation.n, evaluation.n_unscored) == (0.5, 2, 0)
    again = asyncio.run(Numeric().score(items, [r.response for r in evaluation.results]))
    assert again == [r.outcome for r in evaluation.results]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("1,234.50", None),
        ("-3/4", None),
        (None, "the item has no answer"),
        ("many", "its answer 'many' is no number"),
        ("3 and 4", "its answer '3 and 4' is no number"),
    ],
)
def test_an_item_whose_answer_is_no_number_is_refused(answer, problem):
    assert Numeric().check(item(answer)) == problem
