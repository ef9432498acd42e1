import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utilities.scorers.extract_letter import extract_letter
from utilities.scorers.legacy_letter import legacy_letter

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
