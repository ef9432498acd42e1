# ruff: noqa: RUF001  (characters that look alike are what is tested)
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utilities.scorers.normalize import normalize_answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Eiffel Tower!", "eiffel tower"),
        ("  an\tapple \n a  day ", "apple day"),
        ("Theatre, Anna and Ahab", "theatre anna and ahab"),  # words that begin like articles
        ("co-operate", "cooperate"),
        ("don't", "dont"),
        ("“Don’t”", "dont"),
        ("(yes)", "yes"),
        ("t.h.e. end", "end"),  # punctuation goes before articles do, as in SQuAD
        ("¿Qué?", "qué"),
        ("l'été", "lété"),
        ("e\u0301te\u0301", "été"),
        ("Straße", "strasse"),
        ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
        ("ＡＢＣ　１２３", "abc 123"),
        ("東京、日本。", "東京日本"),
        ("हिन्दी।", "हिन्दी"),  # the danda goes, the vowel signs stay
        ("ประเทศไทย", "ประเทศไทย"),
        ("a\u200bb\ufeff", "ab"),  # signs that nobody sees
        ("non\u00a0breaking", "non breaking"),
        ("C++ or C#", "c or c"),
        # numbers keep their marks
        ("3.5", "3.5"),
        ("-7", "-7"),
        ("\u22127", "-7"),
        ("-.5", "-.5"),
        (".5", ".5"),
        ("(-5)", "-5"),
        ("$5.", "5"),
        ("1,000", "1,000"),
        ("10:30", "10:30"),
        ("1990–1995", "1990-1995"),
        ("2^10", "2^10"),
        ("wait...5", "wait5"),
        ("B-12", "b12"),
        ("5, 6", "5 6"),
        # what would leave nothing is not done
        ("A", "a"),
        ("The", "the"),
        ("A.", "a"),
        ("+", "+"),
        ("…", "..."),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_hard_cases(text, expected):
    assert normalize_answer(text) == expected


@pytest.mark.parametrize(
    ("a", "b"), [("3.5", "35"), ("-7", "7"), ("A", ""), ("+", "-"), ("10:30", "1030"), ("हि", "ह")]
)
def test_different_answers_stay_different(a, b):
    assert normalize_answer(a) != normalize_answer(b)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_no_text_raises_and_words_are_parted_by_single_spaces(text):
    normal = normalize_answer(text)
    assert normal == " ".join(normal.split())
    assert bool(normal) == bool(unicodedata.normalize("NFKC", text).strip())


@settings(max_examples=200, deadline=None)
@given(st.text("abhtexyzäößéÀ "), st.sampled_from(["", "!", "  ", " the ", "«", "”"]))
def test_case_composition_and_punctuation_make_no_difference(text, mark):
    text = f"x {text}"
    for other in (text.upper(), unicodedata.normalize("NFD", text), f"{mark}{text}{mark}", f"the {text} an"):
        assert normalize_answer(other) == normalize_answer(text)


@settings(max_examples=200, deadline=None)
@given(st.text("abhteäß é.,'!? -"))
def test_to_normalise_twice_is_to_normalise_once(text):
    assert normalize_answer(normalize_answer(text)) == normalize_answer(text)
