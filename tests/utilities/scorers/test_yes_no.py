# ruff: noqa: RUF001  (characters that look alike are meant)
import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utilities.core import Item, Response
from utilities.errors import UserError
from utilities.scorers.yes_no import YesNo, extract_yes_no

TRUE_FALSE = ("True", "False")
EVIDENCE = ("supported", "not supported")


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Yes.", "yes"),
        ("no", "no"),
        ("NO!", "no"),
        ("**Neutral**", "neutral"),
        ("'Yes'", "yes"),
        ("\uff39\uff45\uff53", "yes"),
        (" no\n\nExplanation: yes would be right elsewhere.", "no"),
        ("No, because yes is wrong", "no"),
        ("No it is not", "no"),
        ("Yes - the host expects it", "yes"),
        ("Yes, there is no doubt", "yes"),
        ("Yes. There is no evidence against it.", "yes"),
        ("Yes! Yes!", "yes"),
        ("No evidence speaks against it, so yes", "yes"),
        ("not yes, no", "no"),
        ("neither yes nor no, but neutral", "neutral"),
        ("The action is neutral.", "neutral"),
        ("Answer: no", "no"),
        ("The answer is no, since a yes would need an invitation.", "no"),
        ("It depends: yes and no have their reasons. Final answer: Yes", "yes"),
        ("I would say no.", "no"),
        (r"$\boxed{\text{no}}$", "no"),
    ],
)
def test_what_states_a_verdict(text, verdict):
    assert extract_yes_no(text) == verdict


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not sure",
        "I know nothing",
        "Yesterday",
        "neutrality matters",
        "No one knows",
        "no-one",
        "There is no evidence",
        "No evidence was found",
        "Yes and no",
        "Yes or no?",
        "yes/no",
        "Yes, no",
        "Yes. No.",
        "yes, but also no",
        "neither yes nor no",
        "It is not neutral",
        "yes is wrong",
        "So the answer is yes. Answer: no",
        "The answer is yes or no",
        "true",
    ],
)
def test_what_states_none_or_contradicts_itself(text):
    assert extract_yes_no(text) is None


@pytest.mark.parametrize(
    ("answers", "text", "verdict"),
    [
        (TRUE_FALSE, "true", "True"),
        (TRUE_FALSE, "It is false that he left.", "False"),
        (TRUE_FALSE, "That is not true.", None),
        (TRUE_FALSE, "It isn't true", None),
        (TRUE_FALSE, "It is neither true nor false", None),
        (TRUE_FALSE, "True or false", None),
        (TRUE_FALSE, "yes", None),
        (EVIDENCE, "The claim is supported", "supported"),
        (EVIDENCE, "The claim is not supported", "not supported"),
        (EVIDENCE, "Not supported.", "not supported"),
        (("yes", "YES"), "Yes", "yes"),
        (("a+b", "(c"), "The answer is (c", "(c"),
        ((), "yes", None),
        (("", "  "), "yes", None),
        (["yes", "no"], "no", "no"),
    ],
)
def test_other_words_may_be_asked_for(answers, text, verdict):
    assert extract_yes_no(text, answers) == verdict


YES_NO = ("yes", "no")
IS_OR_NOT = ("是", "否")
TRUTH = ("true", "false")
RUSSIAN = ("да", "нет")
JAPANESE = ("はい", "いいえ")
KOREAN = ("예", "아니요")
THAI = ("ใช่", "ไม่ใช่")
ARABIC = ("نعم", "لا")
HINDI = ("हाँ", "नहीं")
CHINESE = ("对", "错")
CORRECT = ("正确", "错误")
SPANISH = ("sí", "no")
GERMAN = ("ja", "nein")
OTHER_SCRIPTS = [
    ("答案是no。", "no", YES_NO),
    ("答えはyesです。", "yes", YES_NO),
    ("정답은 no입니다", "no", YES_NO),
    ("yes입니다", "yes", YES_NO),
    ("คำตอบคือyes", "yes", YES_NO),
    ("Yes。因为", "yes", YES_NO),
    ("否", "否", IS_OR_NOT),
    ("否。", "否", IS_OR_NOT),
    ("答案是是", "是", IS_OR_NOT),
    ("答案：是", "是", IS_OR_NOT),
    ("是", "是", IS_OR_NOT),
    ("Answer: 是", "是", IS_OR_NOT),
    ("True", "true", TRUTH),
    ("答案是true", "true", TRUTH),
    ("Да", "да", RUSSIAN),
    ("Ответ: нет.", "нет", RUSSIAN),
    ("нет, это не так", "нет", RUSSIAN),
    ("はい", "はい", JAPANESE),
    ("いいえ、違います", "いいえ", JAPANESE),
    ("答えははいです", "はい", JAPANESE),
    ("예", "예", KOREAN),
    ("정답은 아니요입니다", "아니요", KOREAN),
    ("ใช่", "ใช่", THAI),
    ("ไม่ใช่", "ไม่ใช่", THAI),
    ("คำตอบคือใช่", "ใช่", THAI),
    ("نعم", "نعم", ARABIC),
    ("الجواب هو لا", "لا", ARABIC),
    ("हाँ", "हाँ", HINDI),
    ("उत्तर: नहीं", "नहीं", HINDI),
    ("答案是对的", "对", CORRECT + CHINESE),
    ("错误", "错误", CORRECT),
    ("答案：正确", "正确", CORRECT),
    ("<think>no</think>yes", "yes", YES_NO),
    ("no way</think>yes", "yes", YES_NO),
    ("[THINK]no[/THINK]yes", "yes", YES_NO),
    ("<thinking>The answer is no.</thinking>\nThe answer is yes.", "yes", YES_NO),
    ("<think>The answer is yes", None, YES_NO),
    ("No\n\nQ: Is it?\nA: Yes", "no", YES_NO),
    ("The answer is no.\n\nQuestion: x?\nThe answer is yes.", "no", YES_NO),
    ("No\n\nIs glass hard?\nAnswer: Yes", "no", YES_NO),
    ("False\nTrue or false: x\nAnswer: True", "false", TRUTH),
    ("Yes. The answer would be no only in winter.", "yes", YES_NO),
    ("The answer is yes. It would be no if it rained.", "yes", YES_NO),
    ("Nein.", "nein", GERMAN),
    ("Antwort: Ja", "ja", GERMAN),
    ("Ja, natürlich", "ja", GERMAN),
    ("**Yes**", "yes", YES_NO),
    ("No evidence", None, YES_NO),
    ("yes or no", None, YES_NO),
    ("There is no doubt", None, YES_NO),
    ("nope", None, YES_NO),
    ("I know", None, YES_NO),
    ("Si.", None, SPANISH),
    ("No, porque", "no", SPANISH),
]


@pytest.mark.parametrize(("text", "verdict", "words"), OTHER_SCRIPTS)
def test_verdicts_of_every_script_after_thoughts_and_before_further_questions(text, verdict, words):
    assert extract_yes_no(text, words) == verdict


pieces = st.sampled_from(
    ("yes", "No", "neutral", "not ", " ", "\n", ", ", ". ", " and ", "answer", " is ", "\x00", "\u0130")
)
any_text = st.text() | st.text(st.characters()) | st.lists(pieces, max_size=20).map("".join)


@settings(deadline=None)
@given(any_text, st.lists(any_text, max_size=5))
def test_any_text_yields_one_of_the_answers_or_none(text, answers):
    assert extract_yes_no(text, answers) in {*answers, None}
    assert extract_yes_no(text) in {"yes", "no", "neutral", None}


@settings(deadline=None)
@given(st.lists(st.text("bcdfghjklmpqrstvwxz", min_size=2), min_size=2, unique=True), st.data())
def test_a_stated_word_is_the_verdict(answers, data):
    word = data.draw(st.sampled_from(answers))
    for template in ("{}", "{}.", "The answer is {}.", "Answer: {}", "**{}**, because"):
        assert extract_yes_no(template.format(word.upper()), answers) == word


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(("nothing", "yesterday", "is", "not", "neutrality", "The", "noon", "--", "5", "answer")))
)
def test_prose_without_the_words_states_none(prose):
    assert extract_yes_no(" ".join(prose)) is None


@pytest.mark.parametrize(
    "piece", ["yes ", "no ", "yes or ", "not yes or ", "not ", "answer is ", " . ", "yes - ", "\x00"]
)
def test_long_replies_are_read_too(piece):
    """100 kB of what the patterns repeat on: a pattern of quadratic time runs into the test's time limit."""
    text = piece * (100_000 // len(piece))
    assert extract_yes_no(text) in {"yes", "no", None}
    assert extract_yes_no(f"neutral\n{text}") in {"neutral", None}


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
