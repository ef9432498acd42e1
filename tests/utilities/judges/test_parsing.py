"""Replies of judges: what is a rating, what is an object, and what is neither."""

import json
import math
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from utilities.core import Reason, Unscored
from utilities.judges.parsing import Reply, TokenChoice, as_object, as_rating, expected_rating, refused

MALFORMED, OUT_OF_RANGE, REFUSED, TRUNCATED = Reason.MALFORMED, Reason.OUT_OF_RANGE, Reason.REFUSED, Reason.TRUNCATED
FENCE = "```"


class Verdict(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rating: float = Field(ge=1, le=10)
    reason: str = ""
    kind: Literal["good", "bad"] = "good"


class Count(BaseModel):
    n: int


def outcome(found):
    return found.reason if isinstance(found, Unscored) else found


# Ratings in words

RATINGS = {
    # as they are asked for, and as judges write them
    "Rating: 7/10": 7,
    " 8/10": 8,
    "10/10": 10,
    "1/10": 1,
    "7": 7,
    "7.": 7,
    "**7**": 7,
    "[[7]]": 7,
    "Rating: 7": 7,
    "rating: 7": 7,
    "RATING : 7 / 10": 7,
    "Rating 7": 7,
    "Rating - 7/10": 7,
    "Rating – 7/10": 7,  # noqa: RUF001
    "**Rating:** 7 / 10": 7,
    "**Rating**: 8 / 10": 8,
    "**Rating: 8/10**": 8,
    "Rating: **8**/10": 8,
    "Rating: `8/10`": 8,
    "Rating: [[8]]": 8,
    "Rating: [8]/10": 8,
    "Rating (1-10): 8": 8,
    "### Rating\n8/10": 8,
    "**Rating:**\n\n8/10\n": 8,
    "Rating:\n8\n": 8,
    "Rating: 8 out of 10": 8,
    "I rate this 3 out of 10": 3,
    "I'd give a rating of 4.": 4,
    "My rating is 4, because it is short.": 4,
    "Rating: 7.5/10": 7.5,
    "Overall Rating: 6/10": 6,
    '"Rating: 6/10"': 6,
    f"{FENCE}\nRating: 6/10\n{FENCE}": 6,
    "The answer is clear, though 3/4 of it is padding.\n\nRating: 6/10\n\nI hope that this helps!": 6,
    "It names 24 cities and 2 errors. Rating: 6/10.": 6,
    "Rating: 6/10. Again, the rating is 6.": 6,
    # other scripts
    "Rating: ７/１０": 7,  # noqa: RUF001
    "Rating：7／10": 7,  # noqa: RUF001
    "Rating: ٧/١٠": 7,  # noqa: RUF001
    "评分：8/10": 8,  # noqa: RUF001
    "我给这个回答8/10，因为它很清楚。": 8,  # noqa: RUF001
    "我给这个回答打7分": MALFORMED,
    # several ratings: the last line of its own
    "Depth rating: 8/10\nClarity rating: 6/10\nOverall rating: 7/10": 7,
    "Rating: 4/10\nOn reflection it is better.\nFinal rating: 6/10": 6,
    "Rating: 4/10, or rather 6/10": MALFORMED,
    "8/10 for style, 4/10 for facts": MALFORMED,
    "6/10-7/10": MALFORMED,
    # what a candidate wrote about itself
    'The answer ends with "Rating: 10/10", which is not for it to say.\nRating: 2/10': 2,
    "Rating: 10/10 stands in the answer itself.\nRating: 2/10": 2,
    "> Rating: 10/10\n\nRating: 2/10": 2,
    "Rating: 2/10\n\n> Rating: 10/10": 2,
    "Rating: 2/10. The answer claims “Rating: 10/10”.": 2,
    "Rating: 2/10. The answer claims Rating: 10/10.": MALFORMED,
    'It says "10/10".': MALFORMED,
    "It claims 10/10 for itself. Rating: none": MALFORMED,
    # not one number
    "Rating: seven": MALFORMED,
    "Rating: ?/10": MALFORMED,
    "Rating: N/A": MALFORMED,
    "Rating:": MALFORMED,
    "between 6 and 8": MALFORMED,
    "Rating: between 6 and 8": MALFORMED,
    "Rating: 6-8": MALFORMED,
    "6-8/10": MALFORMED,
    "Rating: 6 to 8/10": MALFORMED,
    "Rating: 7 or 8": MALFORMED,
    "Rating: 7,5/10": MALFORMED,
    "Rating: 7.5.1": MALFORMED,
    "Rating: 7th": MALFORMED,
    "Rating: 70%": MALFORMED,
    "Rating: ½/10": MALFORMED,
    "Rating: 7½/10": MALFORMED,
    "Rating: 4/5": MALFORMED,
    "Rating: 70/100": MALFORMED,
    "On 7/10/2024 it was true.": MALFORMED,
    "Rating:\n1. It is clear.\n2. It is short.": MALFORMED,
    "Rating:\n1\nIt is short.": 1,
    "## Rating\n\n**7**": 7,
    "7 8": MALFORMED,
    "I like it.": MALFORMED,
    "": MALFORMED,
    " \n\t": MALFORMED,
    "Rating: NaN/10": MALFORMED,
    '{"rating": 7}': MALFORMED,
    '{"rating": 1': MALFORMED,
    # one number, elsewhere
    "Rating: 70/10": OUT_OF_RANGE,
    "Rating: 0/10": OUT_OF_RANGE,
    "Rating: 11": OUT_OF_RANGE,
    "70": OUT_OF_RANGE,
    "-7": OUT_OF_RANGE,
    "Rating: -3/10": OUT_OF_RANGE,
    "Rating: −3/10": OUT_OF_RANGE,  # noqa: RUF001
    "Rating: " + "9" * 500: OUT_OF_RANGE,
    # thoughts
    "<think>A 2/10? Rating: 2/10? No.</think>\nRating: 7/10": 7,
    "<think>Rating: 2/10, I should say, but": TRUNCATED,
    "<think>Rating: 2/10</think>": MALFORMED,
    "<think>I cannot rate this highly.</think>It is fine.": MALFORMED,
    "<think>Hm.</think>I cannot rate this.": REFUSED,
    # refusals
    "I'm sorry, but I can't assist with that.": REFUSED,
    "I’m sorry, I can’t help with this request.": REFUSED,  # noqa: RUF001
    "Sorry, I cannot rate this answer out of 10.": REFUSED,
    "As an AI language model, I do not have opinions.": REFUSED,
    "I am unable to evaluate medical advice.": REFUSED,
    "I must respectfully decline.": REFUSED,
    "抱歉，我无法评价这个回答。": REFUSED,  # noqa: RUF001
    "I'm sorry, I can't give this more. Rating: 3/10": 3,
    "I cannot find a single mistake.": MALFORMED,
}


@pytest.mark.parametrize(("text", "expected"), RATINGS.items(), ids=lambda value: repr(value)[:60])
def test_a_rating_is_read_strictly(text, expected):
    found = as_rating(Reply(text))
    assert outcome(found) == expected
    if isinstance(found, Unscored):
        assert found.raw == text and found.detail


def test_a_rating_after_the_judges_own_next_question_does_not_count():
    assert as_rating(Reply("Rating: 7/10\n\n**Question:** And now?\nRating: 2/10")) == 7.0
    assert as_rating(Reply("Question: What?\nAnswer: That.\nRating: 4/10")) == 4.0


@pytest.mark.parametrize("text", ["Rating: 3.5 stars of 5", "Rating: 4 of 5", "Rating: 4 points out of 5"])
def test_a_rating_on_another_scale_is_not_read(text):
    assert isinstance(as_rating(Reply(text)), Unscored)


@pytest.mark.parametrize("text", ["Rating: 1", "Rating: 7/10", "7", '{"rating": 1', ""])
@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS"])
def test_a_reply_that_was_cut_off_is_never_a_rating(text, reason):
    assert outcome(as_rating(Reply(text, finish_reason=reason))) is TRUNCATED


def test_a_reply_that_the_server_withheld_is_a_refusal_and_an_unknown_end_is_malformed():
    assert outcome(as_rating(Reply("Rating: 7/10", finish_reason="content_filter"))) is REFUSED
    assert outcome(as_rating(Reply("", finish_reason="SAFETY"))) is REFUSED
    assert outcome(as_rating(Reply("Rating: 7/10", finish_reason="abort"))) is TRUNCATED
    assert outcome(as_rating(Reply("Rating: 7/10", finish_reason="moonlight"))) is MALFORMED


@pytest.mark.parametrize(
    "reason", ["end_turn", "end", "STOP", "<|im_end|>", "COMPLETE", "eos_token", "done", "completed", ""]
)
def test_a_reply_is_complete_by_any_servers_word_for_it(reason):
    assert outcome(as_rating(Reply("Rating: 7/10", finish_reason=reason))) == 7


@pytest.mark.parametrize("reason", ["model_length", "MAX_TOKENS", "max_output_tokens", "model_context_window_exceeded"])
def test_a_reply_is_cut_off_by_any_servers_word_for_it(reason):
    assert outcome(as_rating(Reply("Rating: 1", finish_reason=reason))) is TRUNCATED


@pytest.mark.parametrize("reason", ["guardrail_intervened", "ERROR_TOXIC", "sensitive", "content-filter"])
def test_a_reply_is_withheld_by_any_servers_word_for_it(reason):
    assert outcome(as_rating(Reply("Rating: 7/10", finish_reason=reason))) is REFUSED


def test_reasoning_without_an_answer_is_named_as_that():
    used_up = as_rating(Reply("", finish_reason="length", thought=True))
    assert outcome(used_up) is TRUNCATED and "reasoning" in used_up.detail and "--judge-max-tokens" in used_up.detail
    nothing = as_rating(Reply("", thought=True))
    assert outcome(nothing) is MALFORMED and "reasoning_content" in nothing.detail


def test_a_rating_is_read_on_other_scales():
    assert as_rating(Reply("Rating: 4/5"), 1, 5) == 4
    assert as_rating(Reply("0"), 0, 3) == 0
    assert as_rating(Reply("Rating (0-100): 70"), 0, 100) == 70
    assert outcome(as_rating(Reply("Rating: 7/10"), 1, 5)) is MALFORMED
    assert outcome(as_rating(Reply("Rating: 7"), 1, 5)) is OUT_OF_RANGE


@given(st.integers(1, 10), st.sampled_from(["Rating: {}/10", "**Rating:** {} / 10", "{}/10", "Rating: {}", "{}"]))
def test_every_rating_in_every_accepted_form_is_itself(rating, form):
    assert as_rating(Reply(form.format(rating))) == rating


# JSON objects

OBJECTS = {
    '{"rating": 7}': 7,
    '{"rating": 7.5, "reason": "clear"}': 7.5,
    '  \n{"rating": 7}\n ': 7,
    f'{FENCE}\n{{"rating": 7}}\n{FENCE}': 7,
    f'{FENCE}json\n{{"rating": 7}}\n{FENCE}': 7,
    f'Here it is:\n{FENCE}json\n{{\n  "rating": 7,\n  "reason": "a {{brace}} and a \\" quote"\n}}\n{FENCE}\nEnjoy!': 7,
    'The set {1, 2} is good, so: {"rating": 7}.': 7,
    '{"rating": 3} was my first thought, but {"rating": 7}': 7,
    'The answer holds {"rating": 10}, which is its own.\n{"rating": 2}': 2,
    '{"rating": 2, "reason": "it says {\\"rating\\": 10}"}': 2,
    '{"rating": 7}]': MALFORMED,
    '[{"rating": 3}, {"rating": 9}]': MALFORMED,
    '{"rating": 3}\n{"rating": 9, "why": 1}': MALFORMED,  # the last one counts, also where it is wrong
    '<think>{"rating": 1}</think>{"rating": 7}': 7,
    '<think>{"rating": 1}': TRUNCATED,
    '<think>{"rating": 1}</think>': MALFORMED,
    # values that are not what they seem
    '{"rating": "7"}': MALFORMED,
    '{"rating": true}': MALFORMED,
    '{"rating": null}': MALFORMED,
    '{"rating": [7]}': MALFORMED,
    '{"rating": NaN}': MALFORMED,
    '{"rating": Infinity}': MALFORMED,
    '{"rating": 1e999}': MALFORMED,
    '{"rating": 3, "rating": 9}': MALFORMED,
    '{"rating": 7, "rating": 7}': MALFORMED,
    '{"rating": 7, "extra": 1}': MALFORMED,
    '{"rating": 7, "kind": "GOOD"}': MALFORMED,
    '{"reason": "clear"}': MALFORMED,
    '{"rating": 7,}': MALFORMED,
    "{'rating': 7}": MALFORMED,
    "{rating: 7}": MALFORMED,
    "{}": MALFORMED,
    '"rating": 7': MALFORMED,
    "7": MALFORMED,
    "Rating: 7/10": MALFORMED,
    "It is good.": MALFORMED,
    "": MALFORMED,
    '{"rating": 70}': OUT_OF_RANGE,
    '{"rating": -1, "reason": "bad"}': OUT_OF_RANGE,
    '{"rating": 70, "kind": "other"}': MALFORMED,
    # cut off, and the server says "stop"
    '{"rating": 1': TRUNCATED,
    '{"rating": 7, "reason": "it is': TRUNCATED,
    '{"rating": 7, "reason": "it is}': TRUNCATED,
    '{"rating": 3}\n{"rating": 1': TRUNCATED,
    '{"parts": {"rating": 1}, "rest": ': TRUNCATED,
    f'{FENCE}json\n{{"rating": 1\n{FENCE}': TRUNCATED,
    "Here it is: {": TRUNCATED,
    # refusals
    "I'm sorry, but I can't provide that.": REFUSED,
    'I cannot rate this. {"rating": 1}': 1,
}


@pytest.mark.parametrize(("text", "expected"), OBJECTS.items(), ids=lambda value: repr(value)[:60])
def test_an_object_is_read_strictly(text, expected):
    found = as_object(Reply(text), Verdict)
    assert (found.rating if isinstance(found, Verdict) else found.reason) == expected
    if isinstance(found, Unscored):
        assert found.raw == text and found.detail


@pytest.mark.parametrize("text", ['{"rating": 1', '{"rating": 1}', "", "{"])
def test_a_reply_that_was_cut_off_is_never_an_object(text):
    assert outcome(as_object(Reply(text, finish_reason="length"), Verdict)) is TRUNCATED


def test_what_was_wrong_with_an_object_is_told_by_field():
    found = as_object(Reply('{"rating": 70, "kind": "other"}'), Verdict)
    assert "rating: " in found.detail and "kind: " in found.detail


@pytest.mark.parametrize(
    "text",
    [
        '{"n": ' * 100_000,
        '{"n": {' * 50_000 + "}" * 50_000,
        "[" * 100_000 + '{"n": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"n": ' + "9" * 10_000 + "}",
        '{"n": "\\ud800"}',
        '{"n": "\ud800"}',
        '{"' + "\\" * 100_001,
        "{" + " " * 100_000,
        "{ " * 100_000,
    ],
    ids=["open", "unbalanced", "deep", "long number", "surrogate", "raw surrogate", "backslashes", "spaces", "braces"],
)
def test_what_breaks_json_readers_is_unscored(text):
    assert outcome(as_object(Reply(text), Count)) in {MALFORMED, TRUNCATED}


@given(st.builds(Verdict, rating=st.floats(1, 10), reason=st.text(st.characters(exclude_categories=["Cs"]))))
def test_every_object_comes_back_out_of_prose_and_fences(verdict):
    text = f'I thought of {{"rating": 1}} and {{braces}}.\n{FENCE}json\n{verdict.model_dump_json()}\n{FENCE}\nYes.'
    assert as_object(Reply(text), Verdict) == verdict


@given(st.builds(Verdict, rating=st.floats(1, 10), reason=st.text(max_size=40)), st.data())
def test_no_beginning_of_an_object_is_an_object(verdict, data):
    text = json.dumps(verdict.model_dump())
    cut = text[: data.draw(st.integers(1, len(text) - 1))]
    assert outcome(as_object(Reply(cut), Verdict)) in {TRUNCATED, MALFORMED}


# No text ever raises

PIECES = ["Rating", ":", " ", "\n", "7", "10", "/", "-", "1", ".", ",", "**", "[", "(", '"', "{", "}", "\\", "<think>"]
PIECES += ["</think>", '{"rating": ', "out of", "I cannot rate", "\uff17", "\u00bd", "\u2013", ">", "`", "NaN", "\0"]
TEXTS = st.text() | st.text(st.characters()) | st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
FINISHES = st.sampled_from(["stop", "length", "content_filter", "", "other"])


@settings(max_examples=200)
@given(TEXTS, FINISHES)
def test_every_text_is_a_value_in_range_or_unscored(text, finish):
    tokens = tuple(TokenChoice(character, {character: -0.1}) for character in text)
    reply = Reply(text, finish_reason=finish, tokens=tokens)
    rating = as_rating(reply)
    assert isinstance(rating, Unscored) or 1 <= rating <= 10
    found = as_object(reply, Verdict)
    assert isinstance(found, Verdict | Unscored)
    expected = expected_rating(reply)
    assert expected is None or 1 <= expected <= 10
    if finish in {"length", "content_filter", "other"}:
        assert isinstance(rating, Unscored) and isinstance(found, Unscored) and expected is None
    assert Reply.from_json(reply.to_json()) == reply


@pytest.mark.parametrize(
    "piece", ["Rating", "Rating:\n7 ", "7/10 ", "- ", "1,", '"', "“", "> ", "I cannot ", "{ ", '{"']
)
def test_a_long_reply_is_read_in_one_go(piece):
    # Reading in quadratic time would not end before the test's own time does.
    text = piece * (200_000 // len(piece))
    assert isinstance(as_object(Reply(text), Verdict), Unscored)
    assert isinstance(as_rating(Reply(text)), float | Unscored)


def test_a_refusal_is_told_from_words_about_an_answer():
    assert refused("I'm sorry, but I can't help with that.")
    assert not refused('I cannot help with that. {"verdict": "supported"}')
    assert not refused("I cannot help but smile. Rating: 9/10")
    assert not refused("x" * 1000 + " I cannot rate this.")


# Replies as they are stored


def test_a_reply_survives_being_stored():
    tokens = (TokenChoice("7", {"7": -0.1, "8": -math.inf}), TokenChoice("/10", {}))
    reply = Reply("7/10 é \ud800", "m", 3, 2, tokens, "length", True)
    stored = reply.to_json()
    assert stored.isascii()
    assert Reply.from_json(stored) == reply


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", '{"text": "x"}', '{"tokens": [1]}', "[" * 99999])
def test_what_is_no_stored_reply_is_said_so(text):
    with pytest.raises(ValueError):
        Reply.from_json(text)


# Expected ratings


def tokens(*choices):
    return tuple(TokenChoice(token, {t: math.log(p) for t, p in top.items()}) for token, top in choices)


def expected(text, *choices):
    return expected_rating(Reply(text, tokens=tokens(*choices)))


def test_the_expected_rating_is_the_mean_under_the_judges_probabilities():
    found = expected("Rating: 8/10", ("Rating", {}), (":", {}), (" 8", {" 8": 0.6, " 7": 0.2}), ("/", {}), ("10", {}))
    assert found == pytest.approx((0.6 * 8 + 0.2 * 7) / 0.8)


def test_tokens_of_the_same_number_add_up_and_other_tokens_do_not_count():
    found = expected("8", ("8", {"8": 0.3, " 8": 0.3, "2": 0.2, "The": 0.1, "70": 0.05, "0": 0.05}))
    assert found == pytest.approx((0.6 * 8 + 0.2 * 2) / 0.8)


def test_numbers_of_small_probability_are_no_expected_rating():
    assert expected("8", ("8", {"8": 0.4, "The": 0.6})) is None


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("8/10", ()),
        ("Rating: 8/10", [("something", {"8": 1.0}), (" else", {})]),
        ("good", [("good", {"8": 1.0})]),
        ("Rating: 7.5/10", [("Rating: ", {}), ("7", {"7": 1.0}), (".", {}), ("5", {}), ("/10", {})]),
        ("8/10", [("8/10", {"8/10": 1.0})]),
    ],
    ids=["no tokens", "other tokens", "no rating", "a fraction", "one token for all"],
)
def test_there_is_no_expected_rating_where_nothing_tells_it(text, choices):
    assert expected(text, *choices) is None


def test_a_chosen_ten_of_two_tokens_is_parted_from_one():
    choices = ("1", {"1": 0.8, "9": 0.2}), ("0", {"0": 0.75, "/": 0.25}), ("/", {}), ("1", {}), ("0", {})
    assert expected("10/10", *choices) == pytest.approx(0.8 * 0.75 * 10 + 0.8 * 0.25 * 1 + 0.2 * 9)


def test_a_chosen_one_may_have_become_ten():
    choices = ("1", {"1": 0.8, "2": 0.2}), ("/", {"/": 0.9, "0": 0.1}), ("1", {}), ("0", {})
    assert expected("1/10", *choices) == pytest.approx(0.8 * 0.9 * 1 + 0.8 * 0.1 * 10 + 0.2 * 2)


def test_a_one_that_was_not_chosen_counts_only_where_ten_is_one_token():
    first = ("9", {"9": 0.6, "1": 0.4})
    assert expected("9/10", first, ("/", {}), ("1", {}), ("0", {})) == pytest.approx(9)
    assert expected("9/10", first, ("/", {}), ("10", {})) == pytest.approx(0.6 * 9 + 0.4 * 1)


def test_the_place_is_that_of_the_rating_and_not_of_another_number():
    choices = ("3", {"3": 1.0}), (" errors. Rating:", {}), (" 4", {" 4": 0.5, " 6": 0.5}), ("/", {}), ("10", {})
    assert expected("3 errors. Rating: 4/10", *choices) == pytest.approx(5)


def test_tokens_around_the_text_move_the_place():
    choices = ("\n", {}), ("4", {"4": 0.5, "6": 0.5}), ("/10", {}), ("</s>", {})
    assert expected("4/10", *choices) == pytest.approx(5)


def test_log_probabilities_that_are_none_do_no_harm():
    top = {"4": math.nan, "6": 0.0, "8": 5.0, "2": -math.inf}
    assert expected_rating(Reply("6", tokens=(TokenChoice("6", top),))) == pytest.approx(7)
