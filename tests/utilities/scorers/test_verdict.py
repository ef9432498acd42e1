import asyncio

import pytest

from utilities.core import Item, Response
from utilities.errors import UserError
from utilities.scorers.token_overlap import TokenF1
from utilities.scorers.verdict import YesNo

VERDICTS = {"A": "yes", "B": "no", "C": "neutral"}


def scored(scorer, item, text):
    (outcome,) = asyncio.run(scorer.score([item], [Response(text)]))
    return outcome.value


@pytest.mark.parametrize(
    ("gold", "text", "value"),
    [("A", "Yes, it is.", 1.0), ("A", "No.", 0.0), ("B", "no, because yes would be wrong", 1.0), ("C", "neutral", 1.0)],
)
def test_a_verdict_is_compared_with_the_text_of_the_right_option(gold, text, value):
    assert scored(YesNo(), Item(id="1", question="?", choices=VERDICTS, answer=gold), text) == value


def test_a_reply_without_a_verdict_is_a_wrong_reply():
    assert scored(YesNo(), Item(id="1", question="?", answer="no"), "I am not sure.") == 0.0


def test_an_item_whose_answer_is_no_verdict_is_refused():
    assert YesNo().check(Item(id="1", question="?", answer="No")) is None
    assert "maybe" in YesNo().check(Item(id="1", question="?", answer="maybe"))
    assert YesNo(answers=("true", "false")).check(Item(id="1", question="?", answer="true")) is None


@pytest.mark.parametrize("answers", [[True, False], "yes", ["yes", None]])
def test_answers_that_are_no_words_are_refused(answers):
    with pytest.raises(UserError, match="need quotes"):
        YesNo(answers=answers)


def test_token_f1_reads_the_first_line_alone():
    item = Item(id="1", question="?", answer="the Lyme disease")
    assert scored(TokenF1(), item, " Lyme disease\nQuestion: and so on") == 1.0
    assert scored(TokenF1(), item, "a disease") == pytest.approx(2 / 3)
    assert scored(TokenF1(), item, "") == 0.0
