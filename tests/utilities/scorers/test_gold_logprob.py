"""The log-probability of the gold answer: values worked out by hand, and what must hold for all of them."""

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utilities.core import ChoiceLogprobs, Item, Reason, Response, Score, scorer_registry
from utilities.scorers.gold_logprob import GoldLogprob
from utilities.scorers.multiple_choice import MultipleChoice

LETTERS = "ABCDEFGH"


class Scripted:
    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    async def choice_logprobs(self, prompts, options):
        self.asked.append((prompts, options))
        return self.answers


def item(answer="A", id="1", choices=("ant", "bumblebee", "cat")):
    return Item(id=id, question="Which animal?", choices=dict(zip(LETTERS, choices, strict=False)), answer=answer)


def free(answer="an ant", id="1"):
    return Item(id=id, question="Which animal?", answer=answer)


def says(*logprobs, tokens=None):
    return ChoiceLogprobs(tuple(logprobs), tokens or (1,) * len(logprobs))


def evaluate(scorer, items, *answers):
    model = Scripted(*answers)
    return asyncio.run(scorer(model, items)), model


def value(gold, logprobs, scorer=GoldLogprob):
    options = [f"option {k}" for k in range(len(logprobs))]
    response = Response("", choice_logprobs=tuple(logprobs))
    (outcome,) = asyncio.run(scorer().score([item(LETTERS[gold], choices=options)], [response]))
    return outcome.value


def test_it_is_registered_under_its_name():
    assert scorer_registry.get("gold_logprob") is GoldLogprob


@pytest.mark.parametrize(
    ("logprobs", "gold", "expected"),
    [
        ((-1, -2, -3), "A", -0.4076059644443804),  # -ln(1 + 1/e + 1/e²)
        ((-1, -2, -3), "B", -1.4076059644443804),
        ((-1, -2, -3), "C", -2.4076059644443804),
        ((-7, -7, -7), "B", -math.log(3)),
        ((math.log(0.5), math.log(0.3), math.log(0.2)), "C", math.log(0.2)),
        ((-1000, -1001, -1e6), "A", -0.3132616875182228),  # -ln(1 + 1/e); exp(-1000) alone is 0
        ((-5, -math.inf, -math.inf), "A", 0.0),
    ],
)
def test_the_value_is_that_of_a_softmax_over_the_options(logprobs, gold, expected):
    evaluation, _ = evaluate(GoldLogprob(), (item(gold),), says(*logprobs))
    assert evaluation.value == pytest.approx(expected, abs=1e-12)
    assert evaluation.value <= 0


def test_guessing_among_four_options_is_the_logarithm_of_a_quarter():
    assert value(2, [-3.5] * 4) == pytest.approx(math.log(1 / 4), abs=1e-12)


def test_length_normalisation_divides_by_the_characters_before_the_softmax():
    # By character: ant -1.0, bumblebee -0.5, cat -2.0.
    evaluation, _ = evaluate(GoldLogprob("plain", "text", "length"), (item("B"),), says(-3, -4.5, -6))
    expected = -math.log(math.exp(-0.5) + 1 + math.exp(-1.5))
    assert evaluation.value == pytest.approx(expected, abs=1e-12)


scores = st.lists(st.floats(-30, 0), min_size=2, max_size=8)


@settings(deadline=None)
@given(scores, st.integers(0, 7), st.floats(0.01, 10))
def test_raising_the_gold_options_log_probability_raises_the_value(logprobs, gold, raised):
    gold %= len(logprobs)
    higher = [x + raised * (k == gold) for k, x in enumerate(logprobs)]
    assert value(gold, higher) > value(gold, logprobs)
    assert value(gold, higher, MultipleChoice) >= value(gold, logprobs, MultipleChoice)


@settings(deadline=None)
@given(scores)
def test_the_probabilities_of_the_options_add_up_to_one_and_the_most_likely_is_the_accuracys_answer(logprobs):
    values = [value(k, logprobs) for k in range(len(logprobs))]
    assert math.fsum(map(math.exp, values)) == pytest.approx(1.0, abs=1e-9)
    right = [value(k, logprobs, MultipleChoice) for k in range(len(logprobs))]
    assert values[right.index(1.0)] == max(values)


@settings(deadline=None)
@given(scores, st.integers(0, 7), st.floats(-500, 500))
def test_what_all_options_share_does_not_count(logprobs, gold, shift):
    gold %= len(logprobs)
    assert value(gold, [x + shift for x in logprobs]) == pytest.approx(value(gold, logprobs), abs=1e-9)


def test_of_a_free_answer_it_is_the_log_probability_a_token():
    items = (free("an ant", "1"), free("bees", "2"))
    evaluation, model = evaluate(GoldLogprob("plain"), items, says(-6.0, tokens=(3,)), says(-0.5, tokens=(1,)))
    assert model.asked == [(["Which animal?\nAnswer:"] * 2, [[" an ant"], [" bees"]])]
    assert [r.outcome for r in evaluation.results] == [Score(-2.0), Score(-0.5)]
    assert evaluation.value == -1.25


def test_characters_do_not_normalise_a_free_answer_once_more():
    evaluation, _ = evaluate(GoldLogprob("plain", "text", "length"), (free(),), says(-6.0, tokens=(3,)))
    assert evaluation.value == -2.0


def test_stored_responses_are_scored_again_without_the_model():
    scorer, items = GoldLogprob("plain", "text", "length"), (item("B", "1"), free(id="2"), item("C", "3"))
    evaluation, _ = evaluate(scorer, items, says(-3, -4.5, -6), says(-7.0, tokens=(2,)), says(-1, -2, -3))
    assert evaluation.n == 3
    assert asyncio.run(scorer.score(items, [r.response for r in evaluation.results])) == [
        r.outcome for r in evaluation.results
    ]


def test_what_multiple_choice_stored_is_scored_too():
    items = (item("C"),)
    evaluation, _ = evaluate(MultipleChoice(), items, says(-1, -2, -3))
    (outcome,) = asyncio.run(GoldLogprob().score(items, [r.response for r in evaluation.results]))
    assert outcome.value == pytest.approx(-2.4076059644443804, abs=1e-12)


@pytest.mark.parametrize(
    ("asked", "answer", "reason"),
    [
        (item(), says(-1, math.nan, -2), Reason.MALFORMED),
        (item(), says(math.inf, -1, -2), Reason.MALFORMED),
        (item(), says(-1, -2), Reason.MALFORMED),
        (item(), says(), Reason.MALFORMED),
        (item("A"), says(-math.inf, -1, -2), Reason.OUT_OF_RANGE),
        (free(), says(math.nan), Reason.MALFORMED),
        (free(), says(math.inf), Reason.MALFORMED),
        (free(), says(-1, -2), Reason.MALFORMED),
        (free(), says(), Reason.MALFORMED),
        (free(), says(-math.inf), Reason.OUT_OF_RANGE),
    ],
)
def test_log_probabilities_that_are_none_are_unscored_and_not_a_low_value(asked, answer, reason):
    evaluation, _ = evaluate(GoldLogprob(), (asked,), answer)
    assert evaluation.results[0].outcome.reason is reason
    assert evaluation.value is None


def test_a_generated_response_has_no_log_probability():
    outcomes = asyncio.run(GoldLogprob().score((item(), free()), [Response("A"), Response("an ant")]))
    assert [outcome.reason for outcome in outcomes] == [Reason.NOT_APPLICABLE] * 2


def test_a_free_answer_is_accepted_and_none_is_refused():
    assert GoldLogprob().check(item()) is None
    assert GoldLogprob().check(free()) is None
    assert GoldLogprob().check(free(None)) == "the item has no answer"
