# ruff: noqa: RUF001  (signs of other scripts are what is tested)
"""Near in meaning, as far as shared words tell: in English, and in scripts without endings or spaces."""

import pytest

from utilities.text_similarity import NEAR, SAME, nearness, stems, without_repeats


def near(one, other):
    return nearness(frozenset(stems(one)), frozenset(stems(other)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How do I charge the batteries?", ["charg", "batter"]),
        ("Charging a battery", ["charg", "batter"]),
        ("Tell me, please: what should I know about 2024?", ["2024"]),
        ("电池", ["电池"]),
        ("батареи", ["ба", "ат", "та", "ар", "ре", "еи"]),
        ("", []),
        ("?!", []),
    ],
)
def test_stems_are_what_a_text_is_about(text, expected):
    assert stems(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I choose a thesis advisor?", "What matters when choosing an advisor for my thesis?"),
        ("Explain how regenerative braking works.", "How does regenerative braking work?"),
        ("在家给汽车充电要花多少钱？", "汽车在家充电要花多少钱？"),
        ("كم تكلفة شحن البطارية في المنزل؟", "ما هي تكلفة شحن البطارية في المنزل؟"),
        ("Сколько стоит зарядка дома?", "Сколько стоит зарядить машину дома?"),
    ],
)
def test_the_same_in_other_words_is_near(one, other):
    assert near(one, other) >= NEAR


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I choose a thesis advisor?", "How do I write a statement of purpose?"),
        ("Explain how regenerative braking works.", "Explain how insurance works."),
        ("在家给汽车充电要花多少钱？", "旧电池是怎样回收的？"),
        ("ما هي تكلفة شحن السيارة في المنزل؟", "كيف يتم إعادة تدوير البطاريات القديمة؟"),
        ("Сколько стоит зарядка дома?", "Как перерабатывают старые батареи?"),
    ],
)
def test_another_matter_is_not_near(one, other):
    assert near(one, other) < NEAR


def test_nearness_is_the_shared_part_of_both():
    assert nearness({"a", "b"}, {"b", "c"}) == 1 / 3
    assert nearness({"a"}, {"b"}) == 0
    assert nearness({"a"}, {"a"}) == nearness(set(), set()) == 1
    assert nearness({"a"}, set()) == 0


def test_the_first_of_those_that_ask_the_same_is_kept():
    texts = ["How long does a battery last?", "How long do batteries last?", "Who invented the battery?", "so on"]
    assert without_repeats(texts) == [texts[0], texts[2], texts[3]]


def test_stems_of_the_topic_can_be_left_out():
    texts = ["Electric cars: insurance?", "Electric cars: noise?"]
    assert near(*texts) >= SAME
    assert without_repeats(texts) == texts[:1]
    assert without_repeats(texts, frozenset(stems("electric cars"))) == texts
