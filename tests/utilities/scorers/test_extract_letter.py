# ruff: noqa: RUF001  (characters that look alike are what is tested)
import json
from string import ascii_uppercase

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from utilities.reply_text import plain_text
from utilities.scorers.extract_letter import extract_letter


def lettered(*options):
    return dict(zip(ascii_uppercase, options, strict=False))


CITIES = lettered("London", "Berlin", "Paris", "Rome")
TEN = lettered("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
THIRTEEN = lettered(*(f"{month} of that year" for month in range(1, 14)))
CANCERS = lettered("lung cancer", "small cell lung cancer", "Vitamin C deficiency", "None of the above")
NUMBERS = lettered("5", "-5", "3.5", "1,500", "50%")
YES_NO = lettered("Yes", "No")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        # bare letters, and what surrounds them
        ("C", "C"),
        ("c", "C"),
        (" C\n", "C"),
        ("C.", "C"),
        ("(C)", "C"),
        ("[C]", "C"),
        ("C)", "C"),
        ("c)", "C"),
        ("b.", "B"),
        ("a", "A"),
        ("'C'", "C"),
        ("**C**", "C"),
        ("__C__", "C"),
        ("`C`", "C"),
        ("- C", "C"),
        ("\uff23", "C"),
        ("\uff08\uff23\uff09", "C"),
        ("\U0001d402", "C"),
        ("\u200bC", "C"),
        # a leading letter and an explanation
        ("C. Paris", "C"),
        ("C.Paris", "C"),
        ("C) Paris is the capital of France.", "C"),
        ("**C**: Paris", "C"),
        ("C - Paris", "C"),
        ("C \u2014 Paris", "C"),
        ("C\n\nParis has been the capital since 987.", "C"),
        ("C because B is wrong", "C"),
        ("C, since A, B and D are not in France", "C"),
        ("C Paris", "C"),
        ("A is wrong. B", "B"),
        ("C. London", "C"),
        ("B. Berlin\n\nA. London is wrong, and D. Rome is wrong too.", "B"),
        # statements
        ("Answer: C", "C"),
        ("answer: c", "C"),
        ("ANSWER: C", "C"),
        ("Answer:C", "C"),
        ("Answer C", "C"),
        ("Answer:\n\n\nC", "C"),
        ("Answer\uff1a\uff23", "C"),
        ("### Answer: C", "C"),
        ("**Answer:** (C)", "C"),
        ("<answer>C</answer>", "C"),
        ("The answer is C.", "C"),
        ("The answer is 'C'.", "C"),
        ("The answer is (c)", "C"),
        ("The answer is a", "A"),
        ("The correct answer is: C. Paris", "C"),
        ("The best answer is therefore option C", "C"),
        ("The answer to this question is most likely C", "C"),
        ("Answer: The correct option is C, Paris.", "C"),
        ("A and B are in other countries. The answer is C. D is a city in Italy.", "C"),
        ("It is C. It cannot be D or A.", "C"),
        ("I think it is b)", "B"),
        ("I think it is b", "B"),
        ("It's D", "D"),
        ("I\u2019d go with D, but A is close", "D"),
        ("I would choose A because B is in Germany", "A"),
        ("C is correct", "C"),
        ("Of A, B and D none is in France, so option C is the right answer.", "C"),
        ("D is not the answer. C is the best answer. B is older.", "C"),
        ("The answer is Paris. B is a city in Germany.", "C"),
        (r"\boxed{C}", "C"),
        (r"$\boxed{\text{(C)}}$", "C"),
        (r"A and B fail, so the answer is \boxed{\mathbf{C}}.", "C"),
        (r"B would be odd and D even. \boxed{\text{Paris}}", "C"),
        (r"\text{(C)}", "C"),
        (r"\(C\)", "C"),
        # the only letter
        ("option C", "C"),
        ("My reasoning leads to C", "C"),
        ("Both T cells and K cells are involved, so B", "B"),
        ("A patient in London would say B", "B"),
        # the text of an option
        ("Paris", "C"),
        ("paris.", "C"),
        ("PARIS", "C"),
        ("It is Paris.", "C"),
        ("The answer is **Paris**", "C"),
        ("That would be the city of Paris, I believe", "C"),
        ("A capital such as Paris", "C"),
        # denials
        ("not A, but B", "B"),
        ("Not London but Paris", "C"),
        ("The answer is not A, it is B", "B"),
        ("It isn't A. B", "B"),
        ("It can never be A, so B", "B"),
        ("neither A nor B but C", "C"),
        ("C rather than D", "C"),
        ("C instead of D", "C"),
        ("Anything except A: so B", "B"),
        ("A and B are wrong, so C", "C"),
        ("A, B, and D are all incorrect: C", "C"),
        ("A can be ruled out, B", "B"),
        ("A is ruled out, B", "B"),
        ("A is not correct, B", "B"),
        ("I don't think A is correct, C", "C"),
        ("B is not a city in France", "B"),
    ],
)
def test_what_names_one_of_four_options(text, letter):
    assert extract_letter(text, CITIES) == letter


@pytest.mark.parametrize(
    "text",
    [
        # nothing
        "",
        "   \n ",
        "none of them",
        "I do not know.",
        "Madrid",
        # letters within words, articles, pronouns, names
        "Apple",
        "Answer",
        "Answer:",
        "A patient with a fever",
        "The answer is A patient with a fever",
        "A 45-year-old man",
        "a city",
        "The D-dimer and the C-reactive protein",
        "N/A",
        "Made in the U.S.A.",
        "37 \u00b0C",
        "37 \u2103",
        "P(B) = 0.3",
        "A++",
        "Parisian",
        # letters beyond the options
        "E",
        "E.",
        "Answer: E",
        "The answer is E. Paris",
        "E. Paris",
        # more than one
        "A or B",
        "A/B",
        "A, B",
        "A and B",
        "a) or b)",
        "both A and B",
        "either A or B is right",
        "Answer: A B",
        "Answer: A and B",
        "Answer: Option A or Option B",
        "The answer is either A or B.",
        "The answer is A. No, the answer is B.",
        r"\boxed{A} or \boxed{B}",
        r"\boxed{A \text{ and } B}",
        "A. London\nB. Berlin\nC. Paris\nD. Rome",
        "London or Paris",
        "The answer is London or Paris",
        "C, London",
        "A or E",
        # only denials
        "not A",
        "The answer is not A.",
        "Neither A nor B",
        "A is wrong",
        "A can be ruled out",
        "It is not Paris",
    ],
)
def test_what_names_none_of_four_options_or_several(text):
    assert extract_letter(text, CITIES) is None


TOWNS = {"A": "Oslo", "B": "Lima", "C": "Rome", "D": "Cairo"}
CHINESE = {"A": "苹果", "B": "香蕉", "C": "葡萄", "D": "西瓜"}
DIGITS = {"1": "Oslo", "2": "Lima", "3": "Rome", "4": "Cairo"}
SMALL = {"a": "Oslo", "b": "Lima", "c": "Rome", "d": "Cairo"}
KOREAN = {"A": "사과", "B": "바나나", "C": "포도"}
THAI = {"A": "แมว", "B": "สุนัข", "C": "ปลา"}
ARABIC = {"A": "تفاح", "B": "موز", "C": "عنب"}
CYRILLIC = {"А": "Осло", "Б": "Лима", "В": "Рим", "Г": "Каир"}
GREEK = {"α": "Oslo", "β": "Lima", "γ": "Rome"}
KANA = {"ア": "犬", "イ": "猫", "ウ": "鳥"}
STEMS = {"甲": "Oslo", "乙": "Lima", "丙": "Rome"}
HANGUL = {"가": "Oslo", "나": "Lima", "다": "Rome"}
ROMAN = {"i": "Oslo", "ii": "Lima", "iii": "Rome", "iv": "Cairo"}
BRACKETS = {"(A)": "Oslo", "(B)": "Lima", "(C)": "Rome"}
OTHER_SCRIPTS = [
    ("A ou B", None, TOWNS),
    ("A или B", None, TOWNS),
    ("B는 아니다", None, TOWNS),
    ("não é B", None, TOWNS),
    ("no es la B", None, TOWNS),
    ("ليست B", None, TOWNS),
    ("לא B", None, TOWNS),
    ("B नहीं", None, TOWNS),
    ("ไม่ใช่ B", None, TOWNS),
    ("התשובה היא B", "B", TOWNS),
    ("答案选A", "A", TOWNS),
    ("选择D。", "D", TOWNS),
    ("本题选C", "C", TOWNS),
    ("因此，正确答案是A。", "A", TOWNS),
    ("答案：（C）", "C", TOWNS),
    ("答案为Ａ", "A", TOWNS),
    ("我选C，因为A太冷", "C", TOWNS),
    ("C。因为罗马最古老", "C", TOWNS),
    ("A不对，B也不对，答案是D", "D", TOWNS),
    ("答案不是A，而是B", "B", TOWNS),
    ("正确答案应该是B。", "B", TOWNS),
    ("正しい答えはDです", "D", TOWNS),
    ("答えはB。", "B", TOWNS),
    ("Bが正解です", "B", TOWNS),
    ("選択肢Cが正しい", "C", TOWNS),
    ("정답: C", "C", TOWNS),
    ("답은 D번이다.", "D", TOWNS),
    ("정답은C입니다", "C", TOWNS),
    ("C번이 맞습니다", "C", TOWNS),
    ("คำตอบที่ถูกต้องคือ C", "C", TOWNS),
    ("ข้อ B", "B", TOWNS),
    ("ข้อB ถูกต้อง", "B", TOWNS),
    ("เลือกD", "D", TOWNS),
    ("ตอบ C เพราะว่า", "C", TOWNS),
    ("Die richtige Antwort ist D.", "D", TOWNS),
    ("La réponse est A.", "A", TOWNS),
    ("La réponse correcte est la C", "C", TOWNS),
    ("A resposta é B", "B", TOWNS),
    ("Правильный ответ — A", "A", TOWNS),
    ("Правильный ответ: А.", "A", TOWNS),
    ("Ответ: Д", None, TOWNS),
    ("Α", "A", TOWNS),
    ("С", "C", TOWNS),
    ("Ответ — С, потому что", "C", TOWNS),
    ("В этом городе холодно, ответ D", "D", TOWNS),
    ("الجواب الصحيح هو B", "B", TOWNS),
    ("الإجابة: C", "C", TOWNS),
    ("सही उत्तर B है", "B", TOWNS),
    ("उत्तर: C", "C", TOWNS),
    ("Đáp án đúng là C", "C", TOWNS),
    ("Die Antwort ist nicht A, sondern B.", "B", TOWNS),
    ("我觉得香蕉是对的", "B", CHINESE),
    ("应该是葡萄吧", "C", CHINESE),
    ("苹果和香蕉", None, CHINESE),
    ("正确答案是：B. 香蕉", "B", CHINESE),
    ("B. 香蕉", "B", CHINESE),
    ("정답은 바나나입니다", "B", KOREAN),
    ("바나나예요", "B", KOREAN),
    ("คำตอบคือปลา", "C", THAI),
    ("ปลา", "C", THAI),
    ("الجواب هو موز", "B", ARABIC),
    ("3", "3", DIGITS),
    ("3)", "3", DIGITS),
    ("Option 3", "3", DIGITS),
    ("The answer is (3).", "3", DIGITS),
    ("The correct option is 4: Cairo", "4", DIGITS),
    ("I would choose 2", "2", DIGITS),
    ("2. Lima", "2", DIGITS),
    ("Answer: 5", None, DIGITS),
    ("12", None, DIGITS),
    ("The answer is 2.5", None, DIGITS),
    ("1 or 2", None, DIGITS),
    ("٢", "2", DIGITS),
    ("答案是2", "2", DIGITS),
    ("２", "2", DIGITS),
    ("It is 3", "3", DIGITS),
    ("[2]", "2", DIGITS),
    ("**2**", "2", DIGITS),
    ("2 because 1 is cold", "2", DIGITS),
    (r"\boxed{3}", "3", DIGITS),
    ("In 2 towns it rains, so Rome", "3", DIGITS),
    ("Lima, a town with 3 trams", "2", DIGITS),
    ("c", "c", SMALL),
    ("C)", "c", SMALL),
    ("(d)", "d", SMALL),
    ("The answer is D", "d", SMALL),
    ("a city", None, SMALL),
    ("e", None, SMALL),
    ("option c", "c", SMALL),
    ("C. Rome", "c", SMALL),
    ("答案是b", "b", SMALL),
    ("Б", "Б", CYRILLIC),
    ("Ответ: В", "В", CYRILLIC),
    ("В", "В", CYRILLIC),
    ("Рим", "В", CYRILLIC),
    ("(Г)", "Г", CYRILLIC),
    ("Правильный ответ Б.", "Б", CYRILLIC),
    ("β", "β", GREEK),
    ("The answer is γ", "γ", GREEK),
    ("イ", "イ", KANA),
    ("答えはイです", "イ", KANA),
    ("答えは猫です", "イ", KANA),
    ("乙", "乙", STEMS),
    ("答案是乙", "乙", STEMS),
    ("나", "나", HANGUL),
    ("정답은 나", "나", HANGUL),
    ("정답: 다", "다", HANGUL),
    ("ii", "ii", ROMAN),
    ("The answer is iii.", "iii", ROMAN),
    ("iv)", "iv", ROMAN),
    ("(B)", "(B)", BRACKETS),
    ("B", "(B)", BRACKETS),
    ("The answer is B", "(B)", BRACKETS),
    ("5", "2", {"1": "4", "2": "5", "3": "7"}),
    ("The answer is A.</think>B", "B", TOWNS),
    ("<thinking>A</thinking>B", "B", TOWNS),
    ("<|channel|>analysis<|message|>The answer is A<|end|><|start|>assistant<|channel|>final<|message|>B", "B", TOWNS),
    ("[THINK]A?[/THINK]C", "C", TOWNS),
    ("<think>The answer is A", None, TOWNS),
    ("<reasoning>A</reasoning><answer>B</answer>", "B", TOWNS),
    ("◁think▷A◁/think▷B", "B", TOWNS),
    ("B<think>maybe A</think>", "B", TOWNS),
    ("<THINK>The answer is A</THINK>\nD", "D", TOWNS),
    ("<think>A</think><think>B</think>C", "C", TOWNS),
    ("B\nQ: Next?\nA: D", "B", TOWNS),
    ("B.\n\nProblem 2: x\nAnswer: A", "B", TOWNS),
    ("The answer is B.\n\nQ: And?\nThe answer is A.", "B", TOWNS),
    ("答案是B\n\n问题：还有吗？\n答案是C", "B", TOWNS),
    ("B\n\nWhich town has trams?\nA. x\nB. y\nAnswer: D", "B", TOWNS),
    ("Lima\n\nQuestion: And the oldest?\nAnswer: Rome", "B", TOWNS),
    ("B\n\nHuman: and?\n\nAssistant: C", "B", TOWNS),
    ("B<|im_end|>\n<|im_start|>user\nwhat?<|im_end|>\nC", "B", TOWNS),
    ("Answer: B\n\n### Question 2\nAnswer: A", "B", TOWNS),
    ("Question: Which town?\nAnswer: B", "B", TOWNS),
    ("B\n\nExplanation: A is correct only in winter", "B", TOWNS),
    ("C. The answer would be D if it were hot.", "C", TOWNS),
    ("The answer is B, although A would be correct if it snowed.", "B", TOWNS),
    ("B. A would be right only in May.", "B", TOWNS),
    ("B, unless it rains, then D is correct.", "B", TOWNS),
    ("The answer is B if I remember correctly.", "B", TOWNS),
    ("B. Only A is wrong.", "B", TOWNS),
    ("The answer is B, the only one by the sea", "B", TOWNS),
    ("Vitamin C", "C", TOWNS),
    ("缺乏维生素C", None, TOWNS),
    ("A型血", None, TOWNS),
    ("B超显示", None, TOWNS),
    ("I think A.", "A", TOWNS),
    ("The answer is A or D", None, TOWNS),
    ("答案是A或B", None, TOWNS),
    ("A和B", None, TOWNS),
    ("Both A and B", None, TOWNS),
    ("選B", "B", TOWNS),
    ('{"answer": "B"}', "B", TOWNS),
    ("<answer>B</answer>", "B", TOWNS),
    ("Option B: Lima", "B", TOWNS),
    ("La respuesta correcta es la opción B", "B", TOWNS),
    ("Antwort: B", "B", TOWNS),
]


@pytest.mark.parametrize(("text", "key", "choices"), OTHER_SCRIPTS)
def test_replies_in_every_script_to_keys_of_every_kind(text, key, choices):
    assert extract_letter(text, choices) == key


@pytest.mark.parametrize(
    ("choices", "text", "letter"),
    [
        # an option that contains another, or a letter, or all of it
        (CANCERS, "small cell lung cancer", "B"),
        (CANCERS, "Lung cancer.", "A"),
        (CANCERS, "It is a lung cancer, not small cell lung cancer", "A"),
        (CANCERS, "lung cancer or small cell lung cancer", None),
        (CANCERS, "vitamin C deficiency", "C"),
        (CANCERS, "None of the above.", "D"),
        (CANCERS, "none of them", None),
        (lettered("A", "B", "A and B", "neither"), "A and B", "C"),
        (lettered("A", "B", "A and B", "neither"), "Answer: B", "B"),
        (lettered("B", "A"), "A", "A"),
        (lettered("not B", "B is false"), "not B", "A"),
        (lettered("same", "same", "other"), "same", None),
        (lettered("same", "same", "other"), "B. same", "B"),
        (lettered("He left.", "He stayed."), "He stayed", "B"),
        (lettered("Christina_Applegate", "Jim_Carrey"), "Jim_Carrey", "B"),
        (lettered(r"$\frac{1}{2}$", r"$\frac{1}{3}$"), r"\frac{1}{3}", "B"),
        (lettered("is", "are", "was"), "The answer is C.", "C"),
        (lettered("is", "are", "was"), "is", "A"),
        (lettered("Answer:", "It is"), "Answer: B", "B"),
        (lettered("correct", "incorrect"), "The correct answer is B", "B"),
        # numbers are whole numbers
        (NUMBERS, "5", "A"),
        (NUMBERS, "-5", "B"),
        (NUMBERS, "\u22125", "B"),
        (NUMBERS, "The answer is 3.5.", "C"),
        (NUMBERS, "It costs $1,500, I think", "D"),
        (NUMBERS, "50%", "E"),
        (NUMBERS, "2.5", None),
        (NUMBERS, "15", None),
        # yes and no
        (YES_NO, "No, it is not", "B"),
        (YES_NO, "There is no evidence", None),
        (YES_NO, "There is no evidence against it, so the answer is yes", "A"),
        # many options: a letter may be a pronoun, or lie beyond the options
        (TEN, "J", "J"),
        (TEN, "The answer is I.", "I"),
        (TEN, "I", "I"),
        (TEN, "I is correct", "I"),
        (TEN, "I think it is b)", "B"),
        (TEN, "I am not sure", None),
        (TEN, "I'm sure about ten", "J"),
        (TEN, "I would say (g)", "G"),
        (TEN, "K", None),
        (THIRTEEN, "M. 13 of that year", "M"),
        (THIRTEEN, "3 of that year", "C"),
        (THIRTEEN, "It happened in 13 of that year", "M"),
        (THIRTEEN, "The answer is N", None),
        (lettered(*ascii_uppercase), "The answer is Z", "Z"),
        (lettered("a thing", "another"), "C", None),
    ],
)
def test_what_the_options_themselves_make_hard(choices, text, letter):
    assert extract_letter(text, choices) == letter


def test_the_published_options_are_named_by_their_letters_and_by_their_texts(published):
    seen = 0
    for path in sorted(published.glob("*.json")):
        for item in json.loads(path.read_text(encoding="utf-8"))["test"][::40]:
            choices = item.get("choices") or {}
            for letter, option in choices.items():
                seen += 1
                for reply in (
                    "{}",
                    "{}.",
                    "({})",
                    "Answer: {}",
                    r"\boxed{{{}}}",
                    "{}. {}",
                    "The correct answer is: {}. {}",
                ):
                    assert extract_letter(reply.format(letter, option), choices) == letter
                # A few options are equal, or are letters themselves: their texts name nothing.
                if list(choices.values()).count(option) == 1 and sum(map(str.isalnum, option)) > 1:
                    assert extract_letter(f"I think it is {option}", choices) == letter
    assert seen > 500


# Pieces of what the rules look at, and of what they must survive.
PIECES = (
    "A",
    "b",
    "(C)",
    "I",
    "Z.",
    " ",
    "\n",
    ", ",
    "answer",
    " is ",
    ":",
    "not ",
    " or ",
    "Paris",
    "\\boxed{",
    "}",
    "**",
)
TRAPS = "\x00\x1c\u2028\ue000\ue01a\ud800\uff21\u0130\u00df\u2103\U0001d400"
any_text = st.text() | st.text(st.characters()) | st.lists(st.sampled_from([*PIECES, *TRAPS]), max_size=20).map("".join)
any_choices = st.lists(any_text, min_size=2, max_size=26).map(lambda options: lettered(*options))
vowelless = st.text("bcdfghjklmnpqrstvwxyz", min_size=2, max_size=8)  # none of the words of a statement or denial


@settings(deadline=None)
@given(any_text, any_choices)
def test_any_text_yields_a_key_or_none(text, choices):
    assert extract_letter(text, choices) in {*choices, None}
    assert extract_letter(text, CITIES) in {*CITIES, None}


@settings(deadline=None)
@given(any_choices, st.data())
def test_a_statement_of_a_letter_is_that_letter_whatever_the_options(choices, data):
    letter = data.draw(st.sampled_from(list(choices)))
    template = data.draw(
        st.sampled_from(["The answer is {}.", "Answer: {}", "({})", "**{}**", r"\boxed{{{}}}", "{}", "{}."])
    )
    statement = template.format(letter)
    # An option that repeats the statement, or the part of it around the letter, is named by it as well.
    parts = [plain_text(option).casefold() for option in choices.values()]
    assume(not any(f"{word}{letter}".casefold() in part for word in ("is ", ": ") for part in parts))
    assert extract_letter(statement, choices) == letter


@settings(deadline=None)
@given(st.lists(vowelless, min_size=2, max_size=10, unique=True), st.data())
def test_an_options_own_text_is_that_option(options, data):
    choices = lettered(*options)
    letter = data.draw(st.sampled_from(list(choices)))
    for template in ("{}", "{}.", "**{}**", "The answer is {}"):
        assert extract_letter(template.format(choices[letter].upper()), choices) == letter


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(("quick", "brown", "foxes", "jump", "12", "dogs", "--", "3.5", "!", "?", "x2", "Answer")))
)
def test_prose_without_letters_and_options_names_none(prose):
    assert extract_letter(" ".join(prose), CITIES) is None


@settings(deadline=None)
@given(any_text)
def test_plain_text_is_plain_already(text):
    once = plain_text(text)
    assert "\n\n" not in once
    assert "  " not in once
    assert not set(once) & set("*_`{}$\\\ue000\ue01a")
    assert once == once.strip()


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "A ",
            "a",
            " ",
            "\n",
            "A, ",
            "A or ",
            "not A or ",
            "not ",
            "answer ",
            "answer:\n",
            "answer is the ",
            "it is the ",
        ),
        *(
            "(",
            "A, B are wrong ",
            "A, B, ",
            "London ",
            "Lon",
            "\\boxed{",
            "\x00",
            "\uff21 ",
            "A.\nB.\n",
            "A is correct ",
        ),
    ],
)
def test_long_replies_are_read_too(piece):
    """100 kB of what the patterns repeat on: a pattern of quadratic time runs into the test's time limit."""
    text = piece * (100_000 // len(piece))
    assert extract_letter(text, CITIES) in {*CITIES, None}
    assert extract_letter(f"{text}\nFinal answer: Q", CITIES) is None
