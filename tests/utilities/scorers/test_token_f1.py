import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utilities.core import Item, Response
from utilities.scorers.token_f1 import TokenF1, token_f1


@pytest.mark.parametrize(
    ("prediction", "gold", "f1"),
    [
        ("the Eiffel Tower", "Eiffel tower.", 1.0),
        ("the cat sat", "a cat", 2 / 3),  # precision 1/2, recall 1
        ("in Paris, France", "Paris", 1 / 2),
        ("tower Eiffel", "Eiffel tower", 1.0),  # order does not count
        ("cat cat cat", "cat", 1 / 2),  # repetition is paid for
        ("cat cat dog", "cat cat", 4 / 5),
        ("dog", "cat", 0.0),
        ("3.5", "35", 0.0),
        ("-7", "7", 0.0),
        ("Größe", "GRÖSSE", 1.0),
        ("Ελλάδα και Κύπρος", "Ελλάδα", 1 / 2),
        ("नई दिल्ली", "दिल्ली", 2 / 3),
        ("北京大学", "北京", 2 / 3),  # four characters against two
        ("東京タワー", "東京", 4 / 7),
        ("北京 University", "北京university", 1.0),
        ("ประเทศไทย", "ไทย", 0.0),  # one word, not parted
        ("", "", 1.0),
        ("  ", "\n", 1.0),
        ("", "cat", 0.0),
        ("cat", "", 0.0),
        ("A", "", 0.0),
        ("...", "", 0.0),
        ("A", "The", 0.0),
    ],
)
def test_hard_cases(prediction, gold, f1):
    assert token_f1(prediction, gold) == pytest.approx(f1, abs=1e-12)


texts = st.text() | st.lists(st.sampled_from(["the", "cat", "Cat", "dog", "-7", "猫", "é"])).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(texts, texts)
def test_it_is_symmetric_and_between_zero_and_one(a, b):
    assert 0.0 <= token_f1(a, b) <= 1.0
    assert token_f1(a, b) == token_f1(b, a)


@settings(max_examples=200, deadline=None)
@given(texts)
def test_a_text_agrees_wholly_with_itself(text):
    assert token_f1(text, text) == 1.0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from("bcdef"), min_size=1), st.lists(st.sampled_from("bcdef"), min_size=1))
def test_it_is_the_harmonic_mean_of_precision_and_recall(said, wanted):
    shared = sum(min(said.count(word), wanted.count(word)) for word in set(said))
    precision, recall = shared / len(said), shared / len(wanted)
    expected = 2 * precision * recall / (precision + recall) if shared else 0.0
    assert token_f1(" ".join(said), " ".join(wanted)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("part", ["1", ".", "1.", "the ", "中", "é", "\u0301", "-"])
def test_no_text_of_100_kilobytes_hangs(part):
    text = part * (100_000 // len(part))
    assert token_f1(text, text) == 1.0


def scored(scorer, item, text):
    (outcome,) = asyncio.run(scorer.score([item], [Response(text)]))
    return outcome.value


def test_token_f1_reads_the_first_line_alone():
    item = Item(id="1", question="?", answer="the Lyme disease")
    assert scored(TokenF1(), item, " Lyme disease\nQuestion: and so on") == 1.0
    assert scored(TokenF1(), item, "a disease") == pytest.approx(2 / 3)
    assert scored(TokenF1(), item, "") == 0.0


def test_token_f1_reads_what_follows_the_thoughts():
    item = Item(id="1", question="?", answer="Lyme disease")
    assert scored(TokenF1(), item, "<think>\nA cold?\n</think>\n\nLyme disease\n\nQuestion: next?") == 1.0
