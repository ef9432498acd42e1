"""Where sentences end, in several scripts, and where a full stop ends none."""

# ruff: noqa: RUF001 - the punctuation of other scripts is meant

import pytest

from utilities.judges.sentences import is_finished, is_question, sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is red. It is big!", ["It is red.", "It is big!"]),
        ("Dr. Smith met Mrs. Jones vs. Li. They spoke.", ["Dr. Smith met Mrs. Jones vs. Li.", "They spoke."]),
        ("It costs 3.5 dollars. That is 1.000,5 yen.", ["It costs 3.5 dollars.", "That is 1.000,5 yen."]),
        ("See example.com. Then go.", ["See example.com.", "Then go."]),
        ("Use fruit, e.g. Apples or i.e. Pears. Eat.", ["Use fruit, e.g. Apples or i.e. Pears.", "Eat."]),
        ("J. K. Rowling wrote it. George W. Bush read it.", ["J. K. Rowling wrote it.", "George W. Bush read it."]),
        ("It began in World War I. It ended.", ["It began in World War I.", "It ended."]),
        ("See no. 5. The answer is no. It is so.", ["See no. 5.", "The answer is no.", "It is so."]),
        ('"Why?" he asked. "Go!" She went.', ['"Why?" he asked.', '"Go!"', "She went."]),
        ("Well... perhaps. Wait... Then go.", ["Well... perhaps.", "Wait...", "Then go."]),
        ("no capitals here. so it goes.", ["no capitals here.", "so it goes."]),
        ("北京是中国的首都。它有2000万人口！真的吗？", ["北京是中国的首都。", "它有2000万人口！", "真的吗？"]),
        ("他说：“你好。”然后走了。", ["他说：“你好。”", "然后走了。"]),
        ("القاهرة عاصمة مصر. هل هذا صحيح؟ نعم.", ["القاهرة عاصمة مصر.", "هل هذا صحيح؟", "نعم."]),
        ("दिल्ली राजधानी है। यह बड़ी है।", ["दिल्ली राजधानी है।", "यह बड़ी है।"]),
        ("no end", ["no end"]),
    ],
)
def test_a_sentence_ends_where_a_reader_ends_it(text, expected):
    assert sentences(text) == expected


def test_lines_end_sentences_and_their_marks_are_no_part_of_them():
    text = "# Cars\n- one seat\n* two   seats. Three doors\n2. fourth\n(a) fifth\n> said\n\n**Bold** stays\n- - nested"
    assert sentences(text) == [
        "Cars",
        "one seat",
        "two seats.",
        "Three doors",
        "fourth",
        "fifth",
        "said",
        "**Bold** stays",
        "nested",
    ]


@pytest.mark.parametrize("text", ["", " \n\t", "...", "!?", "---\n***", "。"])
def test_signs_alone_are_no_sentence(text):
    assert sentences(text) == []


def test_nothing_but_white_space_and_marks_is_lost():
    text = "First one. Second, with 3.5 and Dr. X! Third?"
    assert " ".join(sentences(text)) == text


def test_a_long_sentence_comes_in_parts_of_so_many_words():
    assert sentences("one two three four five. Six seven!", 2) == ["one two", "three four", "five.", "Six seven!"]
    assert sentences("北京是中国的首都。", 3) == ["北京是", "中国的", "首都。"]
    assert sentences("x" * 100, 1) == ["x" * 40, "x" * 40, "x" * 20]


@pytest.mark.parametrize("text", ["Is it so?", "他来吗？", "هل هذا صحيح؟", '"Is it?"', "**Really?**"])
def test_a_question_is_known_by_its_end(text):
    assert is_question(text)
    assert not is_question(text + " Yes.")


@pytest.mark.parametrize("text", ["It is. ", "是的。", '"Go!"', "है।", "and so on…"])
def test_an_end_is_known_in_every_script(text):
    assert is_finished(text)
    assert not is_finished(text + " and then")
    assert not is_finished("")
