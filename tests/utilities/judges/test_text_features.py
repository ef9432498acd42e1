# ruff: noqa: RUF001  (punctuation of other scripts is meant)
import pytest

from utilities.core import Item, Response
from utilities.judges.text_features import TextFeatures, content_words, text_features, topic_vocabulary, words

VOCABULARY = topic_vocabulary(["How far does an electric car go?", "The battery of a car is charged at home."])


def told(*answers, question="What then?"):
    items = [Item(id=str(k), question=question) for k in range(len(answers))]
    return text_features(items, [Response(answer) for answer in answers], VOCABULARY)


def test_a_known_answer_has_known_companions():
    # Trigrams: 6, of which "the battery is" comes twice. Content words: battery, good, battery, new: two in the topic.
    found = told("The battery is good; the battery is new.", "A car!")
    assert found == TextFeatures(
        words=5.0, repetition=pytest.approx(1 / 12), on_topic=pytest.approx(0.75), distinct=1.0
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't panic, it's 3.5 km!", ["dont", "panic", "its", "3", "5", "km"]),
        ("state-of-the-art e_mail", ["state", "of", "the", "art", "e", "mail"]),
        ("Straße STRASSE ﬁne", ["strasse", "strasse", "fine"]),
        ("电动汽车，很好。", ["电", "动", "汽", "车", "很", "好"]),
        ("テスラ 3台", ["テ", "ス", "ラ", "3", "台"]),
        ("전기 자동차는 좋다.", ["전기", "자동차는", "좋다"]),
        ("हिन्दी में बैटरी।", ["हिन्दी", "में", "बैटरी"]),
        ("ما هي السيارة؟", ["ما", "هي", "السيارة"]),
        ("می‌شود", ["میشود"]),
        ("Что такое батарея?", ["что", "такое", "батарея"]),
        ("cafe\u0301", ["café"]),
        (" \n\t…!?", []),
        ("", []),
    ],
)
def test_words_are_those_of_any_script(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize("text", ["one two", "one two three", "", "one two three four"])
def test_short_answers_repeat_nothing(text):
    assert told(text).repetition == 0


@pytest.mark.parametrize("unit", ["the car is good ", "电动汽车", "машина очень хорошая ", "السيارة جيدة جدا "])
def test_an_answer_that_goes_in_circles_repeats_itself_in_any_script(unit):
    assert told(unit).repetition == 0
    assert told(unit * 50).repetition > 0.95


def test_repetition_is_within_an_answer_and_not_between_answers():
    assert told("the car is really good", "the car is really good").repetition == 0


def test_content_words_are_without_function_words_and_letters():
    assert content_words("What is the PhD in AI worth, and don't I need a 2nd?") == ["phd", "worth", "need", "2nd"]
    assert content_words("It was not of us") == []
    assert content_words("电动车") == ["电动", "动车"]
    assert content_words("電") == []


@pytest.mark.parametrize(
    ("topic", "on", "off"),
    [
        ("How is the battery of an electric car charged?", "Its battery is electric.", "The violin sounds warm."),
        ("电动汽车的电池怎么充电？", "电动汽车的电池很好", "小提琴的声音"),
        ("كيف تشحن بطارية السيارة؟", "بطارية السيارة", "صوت الكمان"),
        ("รถยนต์ไฟฟ้าชาร์จอย่างไร", "รถยนต์ไฟฟ้า", "เสียงดนตรี"),
    ],
)
def test_answers_on_the_topic_have_its_words_in_any_script(topic, on, off):
    items, vocabulary = [Item(id="1", question="?")], topic_vocabulary([topic])
    share = [text_features(items, [Response(text)], vocabulary).on_topic for text in (on, off)]
    assert share[0] > 0.6 > 0.35 > share[1]


def test_repeating_the_question_is_not_on_topic():
    question = "How is the battery of a car charged?"
    assert told(question, question=question).on_topic == 0
    assert told("The battery is electric.", question=question).on_topic == 1


@pytest.mark.parametrize("text", ["", "!?", "it is what it is"])
def test_an_answer_without_content_is_not_on_topic(text):
    assert told(text).on_topic == 0


def test_distinct_is_the_share_of_different_answers_however_they_are_written():
    assert told("Yes.", "yes", " YES!", "No").distinct == 0.5
    assert told("", "").distinct == 0.5


def test_answers_that_never_came_are_left_out():
    items = [Item(id=str(k), question="What then?") for k in range(3)]
    answers = [Response("a car is a car"), Response("the line is cut", finish_reason="unanswered"), Response("no")]
    assert text_features(items, answers, VOCABULARY) == told("a car is a car", "no")
    assert text_features(items[:1], answers[1:2], VOCABULARY) == TextFeatures(0.0, 0.0, 0.0, 0.0)


def test_another_number_of_answers_than_of_items_is_refused():
    with pytest.raises(ValueError):
        text_features([Item(id="1", question="?")], [], VOCABULARY)


def test_an_answer_of_ten_thousand_words_is_only_long():
    found = told(" ".join(f"word{k}" for k in range(10_000)))
    assert (found.words, found.repetition) == (10_000, 0)
