import json
import math
from string import ascii_uppercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from utilities.core import Evaluation, Item, ItemResult, Reason, Response, Score, Unscored, Usage
from utilities.errors import in_words


def options(n):
    letters = [*ascii_uppercase, "AA"]
    return {letters[k]: f"option {k}" for k in range(n)}


def result(item_id, value=None, cluster=None):
    outcome = Unscored(Reason.TRUNCATED) if value is None else Score(value)
    return ItemResult(item_id, cluster or item_id, "", Response(""), outcome)


@pytest.mark.parametrize("n", [2, 3, 26])
def test_an_item_has_2_to_26_options(n):
    item = Item(id="1", question="Which?", choices=options(n), answer="A")
    assert len(item.choices) == n


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"choices": options(0)}, "0 options; 2 to 26 are accepted"),
        ({"choices": options(1)}, "1 options; 2 to 26 are accepted"),
        ({"choices": options(27)}, "27 options; 2 to 26 are accepted"),
        ({"question": ""}, "question: .*at least 1 character"),
        ({"question": " \n"}, "the question is empty"),
        ({"choices": {"A": "yes", "B": " "}}, "an option is empty"),
        ({"choices": {"A": "yes", "B": ""}}, "an option is empty"),
        ({"choices": {"A": "yes", "B": 2}}, r"choices.B: Input should be a valid string \(got 2\)"),
        ({"answer": "C"}, r"the answer 'C' is none of the options \['A', 'B'\]"),
        ({"answer": "a"}, "the answer 'a' is none of"),
        ({"answer": None}, "the answer None is none of"),
        ({"answer": 0}, "answer: Input should be a valid string"),
        ({"id": 1.5}, "id: Input should be a valid string"),
        ({"id": None}, "id: Input should be a valid string"),
        ({"question": "\ud800"}, "question: Input should be a valid string"),
    ],
)
def test_a_malformed_item_is_refused_in_words(fields, message):
    good = {"id": "1", "question": "Which?", "choices": options(2), "answer": "A"}
    assert Item(**good).answer == "A"
    with pytest.raises(ValidationError) as caught:
        Item(**{**good, **fields})
    with pytest.raises(ValueError, match=message):
        raise ValueError(in_words(caught.value))


def test_every_mistake_of_an_item_is_told_in_one_line():
    with pytest.raises(ValidationError) as caught:
        Item(id=[], question=3)
    told = in_words(caught.value)
    assert "id:" in told and "question:" in told and "\n" not in told


def test_a_number_is_an_id_and_a_prompt_is_a_question_and_other_fields_are_left_alone():
    item = Item(id=7, prompt="Say something.", colour="red")
    assert (item.id, item.question, item.choices, item.answer) == ("7", "Say something.", None, None)


def test_a_question_wins_over_a_prompt():
    assert Item(id="1", question="this", prompt="that").question == "this"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e101, -1e308])
def test_a_score_is_finite(value):
    with pytest.raises(ValueError, match="else an item is Unscored"):
        Score(value)


def test_an_evaluation_is_the_mean_with_the_ordinary_standard_error():
    values = [1.0, 0.0, 1.0, 1.0]
    evaluation = Evaluation.of([result(str(k), v) for k, v in enumerate(values)], Usage(requests=4, seconds=0.5))
    sample_variance = sum((v - 0.75) ** 2 for v in values) / 3
    assert evaluation.value == 0.75
    assert evaluation.se == pytest.approx(math.sqrt(sample_variance / 4), rel=1e-12)
    assert (evaluation.n, evaluation.n_unscored, evaluation.problem) == (4, 0, None)
    assert evaluation.usage == Usage(4, 0.5)
    assert evaluation.leaves == {"": evaluation}


def test_the_standard_error_of_clustered_items_equals_a_hand_computation():
    # Mean 1/2. Sums of the residuals by cluster: a = 1/2 + 1/2 = 1, b = -1/2, c = -1/2.
    # Variance of the mean: 3/2 * (1 + 1/4 + 1/4) / 4² = 9/64, so the standard error is 3/8.
    rows = [("1", 1.0, "a"), ("2", 1.0, "a"), ("3", 0.0, "b"), ("4", 0.0, "c")]
    evaluation = Evaluation.of([result(*row) for row in rows])
    assert evaluation.se == pytest.approx(3 / 8, rel=1e-12)


def test_one_cluster_has_no_standard_error():
    assert Evaluation.of([result("1", 1.0, "a"), result("2", 0.0, "a")]).se is None
    assert Evaluation.of([result("1", 1.0)]).se is None


def test_unscored_items_leave_the_mean_and_are_counted():
    rows = [result(str(k), 1.0 if k < 10 else 0.0) for k in range(20)]
    evaluation = Evaluation.of([*rows, result("x"), result("y")])
    assert (evaluation.value, evaluation.n, evaluation.n_unscored) == (0.5, 20, 2)
    assert evaluation.se == Evaluation.of(rows).se
    assert len(evaluation.results) == 22


@pytest.mark.parametrize("n", [10, 20, 30, 70, 640, 1270])
def test_ten_percent_unscored_is_comparable_and_one_more_is_not(n):
    at = [result(str(k), None if k < n // 10 else 1.0) for k in range(n)]
    past = [result(str(k), None if k <= n // 10 else 1.0) for k in range(n)]
    assert Evaluation.of(at).value == 1.0
    refused = Evaluation.of(past)
    assert (refused.value, refused.se, refused.n, refused.n_unscored) == (None, None, n - n // 10 - 1, n // 10 + 1)
    assert refused.problem == f"{n // 10 + 1} of {n} items are unscored (limit 10%)"


@pytest.mark.parametrize("n", [0, 1, 5])
def test_without_any_score_an_evaluation_has_no_value(n):
    evaluation = Evaluation.of([result(str(k)) for k in range(n)])
    assert (evaluation.value, evaluation.se, evaluation.n, evaluation.n_unscored) == (None, None, 0, n)
    assert evaluation.problem == "no item could be scored"


# -- JSON --------------------------------------------------------------------------------------------------------------

any_float = st.floats()  # with NaN and the infinities
finite = st.floats(-1e100, 1e100)
texts = st.text(max_size=5)
responses = st.builds(
    Response,
    texts,
    st.integers(0, 10**6),
    st.sampled_from(["stop", "length", "unanswered"]),
    st.none() | st.lists(any_float, max_size=3).map(tuple),
    st.lists(texts, max_size=2).map(tuple),
)
outcomes = st.builds(Score, finite, st.dictionaries(texts, any_float, max_size=2)) | st.builds(
    Unscored, st.sampled_from(Reason), texts, st.integers(1, 5), texts
)
results = st.lists(st.builds(ItemResult, texts, texts, texts, responses, outcomes), max_size=3).map(tuple)


def evaluations(parts):
    return st.builds(
        Evaluation,
        st.none() | any_float,
        st.none() | any_float,
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        st.builds(Usage, st.integers(0, 10**6), any_float),
        st.none() | texts,
        results,
        parts,
    )


@settings(deadline=None)
@given(evaluations(st.just({}) | st.dictionaries(texts, evaluations(st.just({})), max_size=2)))
def test_an_evaluation_survives_json_with_nan_infinities_and_none_as_what_they_are(evaluation):
    text = evaluation.to_json()
    json.loads(text, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    again = Evaluation.from_json(text)
    assert repr(again) == repr(evaluation)  # equality does not tell 0.0 from -0.0 and finds no NaN equal to itself
    assert type(again.leaves) is dict and all(isinstance(leaf, Evaluation) for leaf in again.leaves.values())


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, -0.0, 0.0, 0.1 + 0.2, 5e-324])
def test_no_value_is_read_back_as_another(value):
    again = Evaluation.from_json(Evaluation(value, value, 0, 0).to_json())
    assert repr((again.value, again.se)) == repr((value, value))


@pytest.mark.parametrize(
    "text", ["", "{}", "null", '{"value": 1}', '{"value": "much", "se": 1, "n": 1, "n_unscored": 0}']
)
def test_what_is_no_evaluation_is_refused(text):
    with pytest.raises(ValueError, match=r"Evaluation|JSON"):
        Evaluation.from_json(text)
