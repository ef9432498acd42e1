"""Exact match: what is read from a reply is what the gold answer is."""

import asyncio

import pytest

from utilities.core import Item, Response, Score, scorer_registry
from utilities.errors import UserError
from utilities.scorers.exact_match import ExactMatch


class Scripted:
    def __init__(self, *texts):
        self.answers = [Response(text) for text in texts]

    async def generate(self, prompts, *, max_tokens, stop=()):
        return self.answers


def item(answer, id="1"):
    return Item(id=id, question="What?", answer=answer)


def test_it_is_registered_under_its_name():
    assert scorer_registry.get("exact_match") is ExactMatch


@pytest.mark.parametrize(
    ("reads", "text", "gold", "score"),
    [
        # words: case, punctuation, articles and what comes after the first line do not count
        ("auto", "The Eiffel Tower.", "eiffel tower", 1.0),
        ("auto", " \nEiffel Tower\nIt stands in Paris.", "Eiffel Tower", 1.0),
        ("auto", "It is the Eiffel Tower", "Eiffel Tower", 0.0),
        ("auto", "", "Eiffel Tower", 0.0),
        ("auto", "", "A", 0.0),
        ("auto", "the", "A", 0.0),
        ("auto", "A", "A", 1.0),
        # a number
        ("auto", "The shortest path has 5 edges", "5", 1.0),
        ("auto", "5.0", "5", 1.0),
        ("auto", "5 or 6", "5", 0.0),
        ("auto", "no path", "5", 0.0),
        # yes or no
        ("auto", "Yes, there is a path.", "yes", 1.0),
        ("auto", "No.", "Yes", 0.0),
        ("auto", "No.", " no ", 1.0),
        ("auto", "perhaps", "no", 0.0),
        # only what is asked for
        ("text", "5.0", "5", 0.0),
        ("text", "5", "5", 1.0),
        ("text", "Yes, there is", "yes", 0.0),
        ("number", "it is 5", "5", 1.0),
        ("yes_no", "Yes, there is", "yes", 1.0),
    ],
)
def test_a_reply_is_right_where_it_says_the_gold_answer(reads, text, gold, score):
    assert ExactMatch(reads).score_one(item(gold), Response(text)) == Score(score)


def test_the_value_is_the_share_of_right_replies():
    items = [item("yes", "1"), item("7", "2"), item("Paris", "3"), item("no", "4")]
    evaluation = asyncio.run(ExactMatch()(Scripted("yes", "7", "London", "???"), items))
    assert (evaluation.value, evaluation.n, evaluation.n_unscored) == (0.5, 4, 0)
    again = asyncio.run(ExactMatch().score(items, [r.response for r in evaluation.results]))
    assert again == [r.outcome for r in evaluation.results]


@pytest.mark.parametrize(
    ("reads", "answer", "problem"),
    [
        ("auto", "anything", None),
        ("auto", None, "the item has no answer"),
        ("number", "5", None),
        ("number", "five", "its answer 'five' is no number"),
        ("number", None, "the item has no answer"),
        ("yes_no", "No", None),
        ("yes_no", "maybe", "its answer 'maybe' is neither yes nor no"),
        ("yes_no", "", "the item has no answer"),
    ],
)
def test_an_item_with_another_kind_of_answer_is_refused(reads, answer, problem):
    assert ExactMatch(reads).check(item(answer)) == problem


@pytest.mark.parametrize(
    ("reads", "message"),
    [("nubmer", "unknown reads 'nubmer'. Did you mean 'number'"), (True, "unknown reads 'True'")],
)
def test_a_misspelled_kind_is_refused(reads, message):
    with pytest.raises(UserError, match=message):
        ExactMatch(reads)
