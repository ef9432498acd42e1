from statistics import fmean

import pytest

from utilities.core import Item
from utilities.judges.canary import canaries
from utilities.lab.corruption import canary_answers, corruptions, padded_answer
from utilities.scorers.token_f1 import token_f1

TEXTS = [
    "The lithium iron phosphate cell lasts longest because its cathode is stable",
    "Limpets graze at high tide and return to the same place before the water falls",
    "A gearbox changes the ratio between the speed of an engine and that of the wheels",
    "Paris has been the capital of France since the tenth century with few interruptions",
]
FREE = [Item(id=str(k), question=f"Question {k}?", answer=TEXTS[k % 4] + f" case {k}") for k in range(40)]


def test_free_answers_get_worse_rung_by_rung():
    rungs = corruptions(FREE)
    assert list(rungs) == ["gold", "light", "heavy", "empty"]
    assert rungs["gold"] == [item.answer for item in FREE]
    assert set(rungs["empty"]) == {""}
    close = {
        name: fmean(token_f1(t, i.answer) for t, i in zip(texts, FREE, strict=True)) for name, texts in rungs.items()
    }
    assert close["gold"] == 1 > close["light"] > 0.75 > 0.55 > close["heavy"] > close["empty"] == 0
    assert all(text != item.answer for text, item in zip(rungs["light"], FREE, strict=True))


def test_the_same_seed_makes_the_same_answers():
    assert corruptions(FREE, 3) == corruptions(FREE, 3) != corruptions(FREE, 4)


def test_a_light_corruption_keeps_the_order():
    light = corruptions(FREE)["light"]
    for text, item in zip(light, FREE, strict=True):
        kept = [a == b for a, b in zip(text.split(), item.answer.split(), strict=True)]
        assert kept.count(False) == max(1, round(0.2 * len(kept)))


def test_options_and_short_answers_are_right_or_wrong():
    options = {"A": "Rome", "B": "Paris", "C": "Bern"}
    lettered = corruptions([Item(id=str(k), question="Q?", choices=options, answer="ABC"[k % 3]) for k in range(30)])
    assert list(lettered) == ["gold", "wrong", "empty"]
    assert all(w in options and w != g for w, g in zip(lettered["wrong"], lettered["gold"], strict=True))
    assert len(set(lettered["wrong"])) == 3
    numbers = corruptions([Item(id=str(k), question="Q?", answer=str(k % 7)) for k in range(30)])
    assert all(w != g for w, g in zip(numbers["wrong"], numbers["gold"], strict=True))


@pytest.mark.parametrize(
    "items", [[], [Item(id="1", question="Q?")], [Item(id=str(k), question="Q?", answer="yes") for k in range(5)]]
)
def test_without_other_answers_there_is_no_ladder(items):
    assert corruptions(items) == {}


def test_every_canary_answers_every_item(tmp_path):
    found = canary_answers(FREE)
    assert list(found) == [canary.name for canary in canaries()]
    assert found["repeated_question"] == [item.question for item in FREE]
    (tmp_path / "mine.yaml").write_text("name: mine\nattacks: me\ntemplate: 'Look: {{ question }}'\n")
    assert canary_answers(FREE[:1], tmp_path) == {"mine": ["Look: Question 0?"]}


def test_padding_keeps_the_answer_and_about_doubles_it():
    short, long = "LFP.", "word " * 200
    assert padded_answer(short).startswith("LFP. There are many aspects")
    assert padded_answer(short).count(".") == 4
    assert 1.7 < len(padded_answer(long).split()) / 200 < 2.3
