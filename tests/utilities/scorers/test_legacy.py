"""The reference's parsers as scorers, beside those to use: where they differ, and that both are kept apart."""

import asyncio

import pytest

from utilities.core import Item, Response, Score, scorer_registry
from utilities.scorers.legacy import LegacyLetter, LegacyNumber
from utilities.scorers.multiple_choice_generated import MultipleChoiceGenerated
from utilities.scorers.numeric import Numeric


class Scripted:
    def __init__(self, *texts):
        self.answers, self.asked = [Response(text) for text in texts], []

    async def generate(self, prompts, *, max_tokens, stop=()):
        self.asked.append(prompts)
        return self.answers


def lettered(answer, id="1"):
    choices = {"A": "ant", "B": "bumblebee", "C": "cat"}
    return Item(id=id, question="Which animal?", choices=choices, answer=answer)


def numbered(answer, id="1"):
    return Item(id=id, question="How many?", answer=answer)


def test_they_are_registered_under_their_names():
    assert scorer_registry.get("legacy_letter") is LegacyLetter
    assert scorer_registry.get("legacy_number") is LegacyNumber


@pytest.mark.parametrize(
    ("text", "gold", "legacy", "now"),
    [
        ("B", "B", 1.0, 1.0),
        ("Answer: B", "B", 0.0, 1.0),  # the A of "Answer"
        ("Answer: B", "A", 1.0, 0.0),
        ("A or B", "A", 1.0, 0.0),
        ("no idea", "A", 0.0, 0.0),
    ],
)
def test_letters(text, gold, legacy, now):
    assert LegacyLetter().score_one(lettered(gold), Response(text)) == Score(legacy)
    assert MultipleChoiceGenerated().score_one(lettered(gold), Response(text)) == Score(now)


@pytest.mark.parametrize(
    ("text", "gold", "legacy", "now"),
    [
        ("15", "15", 1.0, 1.0),
        ("150", "15", 1.0, 0.0),
        ("15 and 4 make 19", "15", 1.0, 0.0),
        ("36000", "36,000", 0.0, 1.0),
        ("5.0", "5", 1.0, 1.0),
        ("0.50", "1/2", 0.0, 1.0),
        ("no idea", "15", 0.0, 0.0),
    ],
)
def test_numbers(text, gold, legacy, now):
    assert LegacyNumber().score_one(numbered(gold), Response(text)) == Score(legacy)
    assert Numeric().score_one(numbered(gold), Response(text)) == Score(now)


def test_numbers_of_the_last_words_only():
    told = Response("15 and 4 make as I think 19")
    assert LegacyNumber().score_one(numbered("15"), told) == Score(1.0)
    assert LegacyNumber(last_words=5).score_one(numbered("15"), told) == Score(0.0)
    assert LegacyNumber(last_words=5).score_one(numbered("19"), told) == Score(1.0)


@pytest.mark.parametrize(
    ("scorer", "items"),
    [
        (LegacyLetter(), [lettered("A", "1"), lettered("C", "2")]),
        (LegacyNumber(), [numbered("1", "1"), numbered("2", "2")]),
    ],
)
def test_their_value_is_a_share_and_stored_responses_are_scored_again(scorer, items):
    evaluation = asyncio.run(scorer(Scripted("A 1", "who knows"), items))
    assert (evaluation.value, evaluation.n, evaluation.n_unscored) == (0.5, 2, 0)
    again = asyncio.run(scorer.score(items, [r.response for r in evaluation.results]))
    assert again == [r.outcome for r in evaluation.results]


def test_letters_are_asked_for_with_the_options_listed():
    model = Scripted("A")
    asyncio.run(LegacyLetter()(model, [lettered("A")]))
    assert "A. ant\nB. bumblebee\nC. cat" in model.asked[0][0]


def test_items_of_another_kind_are_refused():
    assert LegacyLetter().check(lettered("A")) is None
    assert LegacyLetter().check(numbered("1")) == "the item has no choices"
    assert LegacyNumber().check(numbered("1")) is None
    assert LegacyNumber().check(numbered(None)) == "the item has no answer"
