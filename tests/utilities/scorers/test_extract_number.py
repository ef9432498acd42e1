# ruff: noqa: RUF001  (characters that look alike are what is tested)
import json
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utilities.scorers.extract_number import MAX_LENGTH, extract_number, parse_number, same_number

# How a number alone is read; a gold answer and a reply that is nothing else are read alike.
WRITTEN = {
    "42": "42",
    "-7": "-7",
    "+3": "3",
    "\u22127": "-7",  # minus
    "\u20137": "-7",  # en dash
    "\uff0d7": "-7",  # full-width
    "007": "7",
    "5.": "5",
    ".5": "1/2",
    "-.5": "-1/2",
    "3.14": "157/50",
    "42.00": "42",
    "1,234.50": "1234.5",
    "1,234,567": "1234567",
    "1{,}234": "1234",
    "1\\,234": "1234",
    "1.234,5": "1234.5",
    "1.234.567": "1234567",
    "1.234": "1.234",
    "1,2": "1.2",
    "0,125": "0.125",
    "1,2345": "1.2345",
    "$5": "5",
    "-$5": "-5",
    "$-5": "-5",
    "\\$5": "5",
    "$42$": "42",
    "€1.50": "1.5",
    "5 €": "5",
    "50%": "50",
    "50 %": "50",
    "50\\%": "50",
    "0.5%": "0.5",
    "3/4": "3/4",
    "-3/4": "-3/4",
    "12 / 4": "3",
    "1,000/8": "125",
    "3\u20444": "3/4",  # fraction slash
    "½": "1/2",
    "-½": "-1/2",
    "⅚": "5/6",
    "3½": "7/2",
    "3 ½": "7/2",
    "3 1/2": "7/2",
    "-3 1/2": "-7/2",
    "\\frac{3}{4}": "3/4",
    "-\\frac{3}{4}": "-3/4",
    "\\frac{-3}{4}": "-3/4",
    "\\dfrac{ 3 }{ 4 }": "3/4",
    "3\\frac{1}{2}": "7/2",
    "1e3": "1000",
    "1E+2": "100",
    "2.5e-2": "1/40",
    "3 \\times 10^{5}": "300000",
    "3 × 10^-1": "3/10",
    "４２": "42",
    "٤٢": "42",
    "४२.५": "42.5",
    " 42\n": "42",
    # no numbers
    "": None,
    "none": None,
    "two": None,
    "四": None,
    "B12": None,
    "x_1": None,
    "x_{1}": None,
    "3rd": None,
    "21ST": None,
    "10²": None,
    "2^10": None,
    "10:30": None,
    "12/05/2024": None,
    "1.2.3": None,
    "192.168.0.1": None,
    "1,2,3": None,
    "1,234,56": None,
    "3/0": None,
    "0/0": None,
    "1e999999999": None,
    "1e-999999999": None,
    "inf": None,
    "nan": None,
    "-": None,
    "$": None,
}

# The final number of a reply; None of these is a number as a whole.
REPLIES = {
    # where nothing is stated, the last number
    "12 apples and 3": "3",
    "x=7": "7",
    "x = -7.": "-7",
    "5kg": "5",
    "5 km/h": "5",
    "10pm": "10",
    "3/4ths of it": "3/4",
    "1/3rd": "1/3",
    "３，４": "4",  # a full-width comma parts numbers
    "COVID-19": "19",
    "It is ½.": "1/2",
    "It is \\frac{3}{4} of it": "3/4",
    "Natalia sold 48+24 = <<48+24=72>>72 clips.": "72",
    "He has 7 left at 10:30": "7",
    "5 apples on the 3rd day": "5",
    "7 doses of B12": "7",
    "25 cm^2": "25",
    "25 cm²": "25",
    "wait...5": "5",
    "No.5": "5",
    "It costs $1,234.50, all in all.": "1234.5",
    "答えは42です。": "42",
    "Ответ: 42.": "42",
    "5 and 3/0": None,  # the number that counts cannot be read; the one before was not the answer
    # what is stated wins
    "The answer is 42. I needed 3 steps.": "42",
    "The answer is $42$ (see 3).": "42",
    "the answer is: **42**, not 43": "42",
    "**Answer:** $1,234 for 3 days": "1234",
    "**Answer**: 42\n\nStep 7": "42",
    "The answer equals -7, not 8": "-7",
    "The answer is about 3.14 (2 digits)": "3.14",
    "Final answer:\n\n42\n\n(after 3 steps)": "42",
    "The answer is x = 7, not 8": "7",
    "The answer is 3 + 4 = 7 dollars, not 8": "7",
    "The answer is 5. n = 3 boxes": "5",
    "The answer is 3\\times 4 = 12, not 13": "12",
    "The answer is 3 1/2 for 2 people": "7/2",
    "#### 42\n7": "42",
    "¡La respuesta es 5!": "5",
    "5! = 120": "120",
    "12 apples!": "12",
    "The answer is 42...": "42",
    "=> 5": "5",
    "> 5": "5",
    "48/2 = 24\n#### 1,000.00 on day 3": "1000",
    "\\boxed{42} of 50": "42",
    "\\boxed{\\text{42 apples}} of 50": "42",
    "\\boxed{\\frac{3}{4}} of 50": "3/4",
    "\\boxed{-\\dfrac{7}{2}} of 50": "-7/2",
    "\\boxed{x = 7} of 50": "7",
    "\\boxed{25\\text{ cm}^2} of 50": "25",
    "The final answer is $\\boxed{3\\frac{1}{2}}$ and 9": "7/2",
    # of several statements the last
    "The answer is 5. No: the answer is 7, as 9 > 7": "7",
    "#### 5\nThe answer is \\boxed{7} of 8": "7",
    "The answer is 5. The answer is clear, after 3 steps": "5",
    "The answer is 1e999999999, or 3": None,
    # what only looks like a statement
    "The answer is the sum of 3 and 4, 7": "7",
    "The answer isn't 5 but 7": "7",
    "My answers is 5, 7": "7",
    "Is 5 the answer? 7": "7",
    "#### 1. First step\nso 5": "5",
    "#### Step 1\nso 5": "5",
    "##### 4\nso 5": "5",
    "so 5\n####": "5",
}


# Thousands with blanks, with apostrophes and as in India; powers of ten; degrees; digits and separators of Arabic.
OTHER_NOTATIONS = {
    "12 500": "12500",
    "1 234 567,5": "1234567.5",
    "12\u202f500": "12500",
    "12'500": "12500",
    "12’500.25": "12500.25",
    "1,50,000": "150000",
    "12,34,567": "1234567",
    "6 × 10³": "6000",
    "6·10^3": "6000",
    "6 \\cdot 10^3": "6000",
    "6*10**3": "6000",
    "6×10⁻²": "0.06",
    "\\frac12": "1/2",
    "2\\frac13": "7/3",
    "30^\\circ": "30",
    "90^{\\circ}": "90",
    "١٢٫٥": "12.5",
    # exclamations
    "3.5!": "3.5",
    "$5!": "5",
    "2024!": "2024",
    "5 !": "5",
    "5!!!": "5",
    "5！": "5",
}

# Of each of these, a reader that takes a part for the whole reads a number.
EXPRESSIONS = [
    "Answer: ∛8",
    "Answer: {1, 2}",
    "Answer: |-5|",
    "Answer: ±3",
    "Answer: 5 to 3",
    "Answer: 5...7",
    "Answer: 3/4 of 8",
    "Answer: 7 pi",
    "Answer: 2a",
    "Answer: 3M",
    "Answer: $3B",
    "Answer: 3 bn",
    "Answer: 3 over 4",
    "Answer: 3 out of 4",
    "Answer: 5 squared",
    "Answer: 2 to the power of 5",
    "Answer: 2 sqrt(3)",
    "Answer: 2 times 3",
    "Answer: 6 divided by 2",
    "Answer: 3 plus 4",
    "Answer: 2 hours 30 minutes",
    "Answer: 1; 2",
    "Answer: 1, 2",
    "Answer: 3 und 4",
    "Answer: 3 y 4",
    "Answer: 3 或 4",
    "Answer: 3と4",
    "Answer: x = 3 or x = 4",
    "Answer: x=3, y=4",
    *(
        "\\boxed{3\\sqrt{2}}",
        "\\boxed{\\sqrt{2}}",
        "\\boxed{2\\pi}",
        "The answer is 2π.",
        "The answer is 3√2",
        "\\log 8",
        "log_2 8",
    ),
    *("\\boxed{\\frac{\\sqrt{3}}{2}}", "\\boxed{\\frac{\\pi}{4}}", "\\boxed{3x+2}", "\\boxed{2x}", "\\boxed{2+3i}"),
    *(
        "\\boxed{(3, 4)}",
        "The answer is (3,4).",
        "\\boxed{[3, 4]}",
        "\\boxed{\\{1, 2\\}}",
        "The answer is 3 or 4",
        "The answer is 3, 4 and 5",
    ),
    *(
        "The answer is 3 + 4",
        "The answer is 3 × 4",
        "2 x 3",
        "5-3",
        "(3)-7",
        "4\\cdot\\frac{3}{4}",
        "The answer is 3 ± 1",
        "2^3",
        "6 × 10 3",
    ),
    *("10–20", "between 10 and 20", "x > 5", "The answer is x \\geq 5", "The answer is 5'11", "12_500"),
    *("5!", "The answer is 5!", "**5!**", "The answer is 10! Great.", "5!!", "5!/3!", "5 ! / 2", "5/6!"),
    *("3 : 4", "7 mod 3", "7 choose 2", "5C2", "5 < x", "≥ 5", "Answer: > 5", "5 !=6", "10^{-3}"),
    *("0.333...", "3.(3)", "3 lakhs", "\\sqrt[3]{8}"),
    *("The answer is 5 million", "答案是5万", "5k", "2 dozen", "2024-05-03"),
]

# Thoughts and further questions are no answer.
CONTINUED = {
    "<think>The answer is 5.</think>6": "6",
    "5? The answer is 5. No.</think> The answer is 6.": "6",
    "<think>It may be 5": None,
    "#### 18\n\nQuestion: How many doors?\n#### 99": "18",
    "#### 18\n\nHow many doors are there?\n#### 99": "18",
    "The answer is 18.\n\nQ: How many doors?\nAnswer: 7": "18",
    "18<|im_end|>\n<|im_start|>user\nAnd 7?": "18",
}


def number(text):
    return None if text is None else Fraction(text)


def as_id(value):
    return json.dumps(value)


@pytest.mark.parametrize(("text", "expected"), WRITTEN.items(), ids=as_id)
def test_a_number_alone_is_read_as_it_is_written(text, expected):
    assert parse_number(text) == number(expected)


@pytest.mark.parametrize("text", [text for text, value in WRITTEN.items() if value is not None], ids=as_id)
def test_a_reply_that_is_only_a_number_means_it(text):
    assert extract_number(text) == parse_number(text)


@pytest.mark.parametrize("text", [text for text, value in WRITTEN.items() if value is None], ids=as_id)
def test_a_reply_without_a_number_has_none(text):
    assert extract_number(text) is None


@pytest.mark.parametrize(("text", "expected"), REPLIES.items(), ids=as_id)
def test_the_final_number_of_a_reply(text, expected):
    assert extract_number(text) == number(expected)


@pytest.mark.parametrize(
    "text",
    [
        *("2**10", "--5", "⌊5.5⌋", "3 to 1", "3~5", "half of 12", "the root of 16", "20% of 50", "twice 5"),
        *("5 ft 7 in", "3 m 20 cm", "1 kg 500 g", "2h30", "3 k", "3 tens", "5 млн", "5 mil", "2 tausend"),
        "two hundred and 5",
    ],
)
def test_a_number_that_a_word_or_a_sign_changes_is_not_read(text):
    assert extract_number(text) is None
    assert extract_number(f"The answer is {text}") is None


@pytest.mark.parametrize(("text", "expected"), OTHER_NOTATIONS.items(), ids=as_id)
def test_a_number_in_another_notation_is_read_as_a_whole(text, expected):
    assert extract_number(f"The answer is {text}.") == number(expected)


@pytest.mark.parametrize("text", EXPRESSIONS, ids=as_id)
def test_a_part_of_an_expression_is_never_taken_for_the_whole(text):
    assert extract_number(text) is None
    assert parse_number(text) is None


@pytest.mark.parametrize(("text", "expected"), CONTINUED.items(), ids=as_id)
def test_the_first_answer_after_the_thoughts_counts(text, expected):
    assert extract_number(text) == number(expected)


@pytest.mark.parametrize("text", list(REPLIES), ids=as_id)
def test_a_gold_answer_is_a_number_as_a_whole_or_none(text):
    assert parse_number(text) is None


def test_the_published_gold_answers_are_read(published):
    items = json.loads((published / "gsm8k.json").read_text())
    golds = [item["answer"] for split in ("dev", "test") for item in items[split]]
    assert [parse_number(gold) for gold in golds] == [Fraction(gold.replace(",", "")) for gold in golds]
    assert len(golds) == 1200


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("0.5", "1/2", True),
        ("1e3", "1,000", True),
        ("42.00", "42", True),
        ("-0", "0", True),
        ("0.33", "1/3", False),
        ("50%", "0.5", False),
        ("0.1", "0.10000000000000000000001", False),
        ("7", "-7", False),
        ("none", "7", False),
        ("7", "none", False),
        ("none", "none", False),
    ],
)
def test_numbers_are_the_same_only_exactly(a, b, same):
    assert same_number(parse_number(a), parse_number(b)) is same


def test_a_number_longer_than_the_limit_is_not_read():
    assert parse_number("9" * MAX_LENGTH) == 10**MAX_LENGTH - 1
    assert parse_number("9" * (MAX_LENGTH + 1)) is None
    assert parse_number(f"1e{MAX_LENGTH}") == 10**MAX_LENGTH
    assert parse_number(f"1e{MAX_LENGTH + 1}") is None
    assert parse_number(f"1e-{MAX_LENGTH + 1}") is None


# Patterns that make a search go back and forth: without bounds each takes minutes, and the test would time out.
@pytest.mark.parametrize(
    "part",
    [
        *("1", "1,", "123,", "1.234", "1/", "1 ", "1 1/1 ", "1e", "-", "$", " ", "½", "=", "{", "\\a", "\\frac{"),
        *("#", "#### ", "#=####", "#### x = ", "answer is ", "answer: \\a", "\\boxed{"),
    ],
    ids=as_id,
)
def test_no_repeated_text_of_100_kilobytes_hangs(part):
    text = part * (100_000 // len(part))
    for whole in (text, f"answer is {text}th", f"{text}^"):
        extract_number(whole)
        parse_number(whole)


PROPERTY = settings(max_examples=200, deadline=None)
numbers = st.integers(-(10**12), 10**12)
around = st.sampled_from(
    ["{}", "It is {}.", "({})", "x={}", "{} apples", "{}kg", "${}", "**{}**", "so\n{}\n", "答えは{}です"]
)


def signed(value, text):
    return f"-{text}" if value < 0 else text


@PROPERTY
@given(numbers, around)
def test_whole_numbers_survive_separators_and_units(value, frame):
    for text in (
        str(value),
        f"{value:,}",
        f"{value:,}".replace(",", "{,}"),
        f"{value}.0",
        f"{value}e0",
        f"{value:,}.00",
    ):
        assert extract_number(frame.format(text)) == value
        assert parse_number(text) == value


@PROPERTY
@given(st.decimals(-(10**9), 10**9, places=4), around)
def test_decimals_survive_separators_and_units(value, frame):
    exact = Fraction(value)
    continental = f"{value:,}".translate(str.maketrans(",.", ".,"))
    frame = frame.replace("({})", "{}")  # in brackets, "1,5" may be a pair
    for text in (f"{value:f}", f"{value:,}", continental, f"{value:.4e}" if value == 0 else f"{value * 1000:f}e-3"):
        assert extract_number(frame.format(text)) == exact
        assert parse_number(text) == exact


@PROPERTY
@given(numbers, st.integers(1, 10**6), around)
def test_fractions_survive_their_notations(top, bottom, frame):
    exact = Fraction(top, bottom)
    whole, rest = divmod(abs(top), bottom)
    for text in (
        f"{top}/{bottom}",
        f"{top} / {bottom}",
        f"{top:,}/{bottom:,}",
        signed(top, f"\\frac{{{abs(top)}}}{{{bottom}}}"),
        signed(top, f"{whole} {rest}/{bottom}"),
        signed(top, f"{whole}\\tfrac{{{rest}}}{{{bottom}}}"),
    ):
        assert extract_number(frame.replace("kg", " kg").format(text)) == exact
        assert parse_number(text) == exact


@PROPERTY
@given(numbers, numbers, st.sampled_from(["The answer is {}.", "Answer: **${}**", "#### {}", "so \\boxed{{{}}}"]))
def test_a_stated_number_wins_over_any_after_it(value, stray, statement):
    assert extract_number(statement.format(value) + f"\nIt took {stray} steps.") == value


@PROPERTY
@given(st.text() | st.text("0123456789.,:/-+ eE$%#=^{}\\½²×_answeri\n") | st.text("0123456789.,/-^ "))
def test_no_text_raises_and_what_is_read_is_exact(text):
    found, whole = extract_number(text), parse_number(text)
    assert found is None or isinstance(found, Fraction)
    assert whole is None or whole == found
