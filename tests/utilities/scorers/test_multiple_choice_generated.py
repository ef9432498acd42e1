"""Multiple choice by generation: a reply counts where it names the gold option and no other."""

import asyncio

import pytest

from utilities.core import Item, Response, Score, scorer_registry
from utilities.scorers.multiple_choice_generated import MultipleChoiceGenerated

CHOICES = {"A": "ant", "B": "bumblebee", "C": "cat"}


class Scripted:
    def __init__(self, *texts):
        self.answers, self.asked = [Response(text) for text in texts], []

    async def generate(self, prompts, *, max_tokens, stop=()):
        self.asked.append((prompts, max_tokens))
        return self.answers


def item(answer="B", id="1"):
    return Item(id=id, question="Which animal?", choices=CHOICES, answer=answer)


def test_it_is_registered_under_its_name():
    assert scorer_registry.get("multiple_choice_generated") is MultipleChoiceGenerated


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("B", 1.0),
        (" B. bumblebee", 1.0),
        ("Answer: B", 1.0),
        ("a bumblebee", 1.0),
        ("A", 0.0),
        ("A or B", 0.0),
        ("D", 0.0),
        ("none of them", 0.0),
        ("", 0.0),
    ],
)
def test_a_reply_is_right_where_it_names_the_gold_option_alone(text, score):
    assert MultipleChoiceGenerated().score_one(item("B"), Response(text)) == Score(score)


def test_the_value_is_the_share_of_right_replies():
    items = [item(letter, str(k)) for k, letter in enumerate("ABCA")]
    evaluation = asyncio.run(MultipleChoiceGenerated()(Scripted("A", "(B)", "A", "who knows?"), items))
    assert (evaluation.value, evaluation.n, evaluation.n_unscored) == (0.5, 4, 0)
    again = asyncio.run(MultipleChoiceGenerated().score(items, [r.response for r in evaluation.results]))
    assert again == [r.outcome for r in evaluation.results]


def test_unless_told_otherwise_the_prompt_lists_the_options():
    model = Scripted("B")
    asyncio.run(MultipleChoiceGenerated()(model, [item()]))
    assert model.asked == [(["Question: Which animal?\nA. ant\nB. bumblebee\nC. cat\nAnswer:"], 10)]
    asyncio.run(MultipleChoiceGenerated("bare", max_tokens=3)(model, [item()]))
    assert model.asked[1] == (["Which animal?"], 3)


def test_an_item_without_options_is_refused():
    scorer = MultipleChoiceGenerated()
    assert scorer.check(item()) is None
    assert scorer.check(Item(id="1", question="Why?", answer="B")) == "the item has no choices"
