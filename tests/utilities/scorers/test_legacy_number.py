import pytest
from hypothesis import given
from hypothesis import strategies as st

from utilities.scorers.extract_number import extract_number, parse_number, same_number
from utilities.scorers.legacy_number import legacy_number


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
