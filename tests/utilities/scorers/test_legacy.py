"""The reference's parsers as scorers, beside those to use: where they differ, and that both are kept apart."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utilities.core import Item, Response, Score, scorer_registry
from utilities.scorers.extract_letter import extract_letter
from utilities.scorers.extract_number import extract_number, parse_number, same_number
from utilities.scorers.legacy import LegacyLetter, LegacyNumber, legacy_letter, legacy_number
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


CITIES = {"A": "London", "B": "Berlin", "C": "Paris", "D": "Rome"}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("C", "C"),
        ("(C) Paris", "C"),
        ("1234C and more text", "C"),
        ("12345C and more text", None),
        ("I think that it is C.", "C"),
        ("it must be paris, I think", "C"),
        ("the letter c", None),
        ("", None),
    ],
)
def test_it_looks_at_five_characters_of_the_beginning_then_of_the_end_then_for_an_options_text(text, letter):
    assert legacy_letter(text, CITIES) == letter


def test_letters_are_looked_for_in_the_order_of_the_options():
    assert legacy_letter("B, A", CITIES) == "A"
    assert legacy_letter("B, A", {"B": "Berlin", "A": "London"}) == "B"


def test_an_options_text_counts_inside_words_too():
    assert legacy_letter("the island of Ireland, maybe", {"A": "land", "B": "Ireland"}) == "A"
    assert extract_letter("the island of Ireland, maybe", {"A": "land", "B": "Ireland"}) == "B"


@pytest.mark.parametrize(
    ("text", "legacy", "letter"),
    [
        ("Answer: C", "A", "C"),
        ("ANSWER: D", "A", "D"),
        ("Berlin is wrong, it is C", "B", "C"),
        ("Depends", "D", None),
        ("Apple", "A", None),
        ("A patient with a fever", "A", None),
        ("B/A", "A", None),
        ("not A, but C", "A", "C"),
        ("B: Asia is no city", "A", "B"),
        ("B is wrong. C", "B", "C"),
        ("Definitely C", "D", "C"),
        ("I think it is b) Berlin, as in the DDR.", "D", "B"),
        ("the answer is c", None, "C"),
        ("We can say that the answer is B. It is not in DC", "C", "B"),
        ("chrome", "D", None),
        ("not london but paris", "A", "C"),
        ("Made in the USA", "A", None),
    ],
)
def test_where_it_differs_from_the_letter_that_is_named(text, legacy, letter):
    assert legacy_letter(text, CITIES) == legacy
    assert extract_letter(text, CITIES) == letter
    assert legacy != letter


@settings(deadline=None)
@given(st.text() | st.text("ABCDE. \n"))
def test_any_text_yields_a_key_or_none(text):
    assert legacy_letter(text, CITIES) in {*CITIES, None}


def correct(text, gold):
    return same_number(extract_number(text), parse_number(gold))


@pytest.mark.parametrize(
    ("text", "gold"), [("The answer is 15.", "15"), ("15", "15"), ("It costs $1,600.", "1,600"), ("-3", "-3")]
)
def test_both_accept_a_plain_right_answer(text, gold):
    assert legacy_number(text, gold)
    assert correct(text, gold)


@pytest.mark.parametrize(("text", "gold"), [("The answer is 7.", "15"), ("I do not know", "15"), ("", "15")])
def test_both_reject_a_plain_wrong_answer(text, gold):
    assert not legacy_number(text, gold)
    assert not correct(text, gold)


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("The answer is 150.", "15"),
        ("The answer is 215.", "15"),
        ("The answer is 1.5.", "5"),
        ("The answer is -15.", "15"),
        ("The answer is 15/4.", "15"),
        ("15 + 15 = 30, so the answer is 30.", "15"),
        ("It was at 10:15.", "15"),
        ("Vitamin B15", "15"),
        ("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", "15"),
        ("3,600", "600"),
    ],
)
def test_the_reference_accepts_what_is_wrong(text, gold):
    assert legacy_number(text, gold)
    assert not correct(text, gold)


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("The answer is 36000.", "36,000"),
        ("The answer is 36,000.", "36000"),
        ("The answer is \u22123.", "-3"),
        ("The answer is -$3.", "-3"),
        ("The answer is 1/2.", "0.5"),
        ("The answer is .5.", "0.5"),
        ("The answer is 1e3.", "1000"),
    ],
)
def test_the_reference_rejects_what_is_right(text, gold):
    assert not legacy_number(text, gold)
    assert correct(text, gold)


def test_only_the_last_words_count_where_the_reference_cuts():
    text = "15 apples are what she has at last \n"
    assert legacy_number(text, "15")
    assert legacy_number(text, "15", last_words=10)
    assert not legacy_number(text, "15", last_words=5)
    assert legacy_number("she has 15 of them at\nlast", "15", last_words=5)  # words are parted by spaces alone


@given(st.text(), st.text(), st.none() | st.integers(1, 20))
def test_fewer_words_never_accept_more(text, gold, last_words):
    assert legacy_number(text, gold) or not legacy_number(text, gold, last_words=last_words)


@given(st.text(), st.text(), st.text())
def test_whatever_stands_around_the_gold_answer_it_is_right(before, gold, after):
    assert legacy_number(f"[{before}{gold}{after}]", gold)
