"""A user's own function as a utility: whatever it does, the item is scored or says why not, and the run goes on."""

import asyncio
import math
import sys
import threading
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from utilities.core import Evaluation, Item, Reason, Response, Score
from utilities.errors import UserError
from utilities.scorers.function import GIVE_UP_AFTER, DecoratedFunction, FunctionScorer, utility

SHORT = 0.05
"""Seconds that a call may take where it is meant to take longer."""


class Scripted:
    """A model that answers each prompt with the number of its item, and keeps what it was asked."""

    def __init__(self):
        self.asked = []

    async def generate(self, prompts, *, max_tokens, stop=()):
        self.asked.append((prompts, max_tokens, stop))
        return [Response(str(k), k) for k, _ in enumerate(prompts)]


@pytest.fixture
def released():
    """What calls that are late wait for: they end with the test, and leave no thread at work."""
    event = threading.Event()
    yield event
    event.set()


def items(n):
    return [Item(id=str(k), question=f"Question {k}?") for k in range(n)]


def evaluate(function, n=1, **options):
    return asyncio.run(FunctionScorer(function, **options)(Scripted(), items(n)))


def raises(error):
    def function(item, response):
        raise error

    return function


def test_the_value_is_the_mean_of_what_the_function_returns():
    evaluation = evaluate(lambda item, response: float(response.text), 5)
    assert isinstance(evaluation, Evaluation)
    assert (evaluation.value, evaluation.n, evaluation.n_unscored) == (2.0, 5, 0)
    assert [r.outcome for r in evaluation.results] == [Score(float(k)) for k in range(5)]


def test_the_function_sees_the_item_and_all_of_the_response():
    seen = []
    evaluate(lambda item, response: seen.append((item, response)) or 1.0, 2)
    assert seen == [(item, Response(str(k), k)) for k, item in enumerate(items(2))]


def test_the_model_is_asked_as_the_options_say():
    model = Scripted()
    scorer = FunctionScorer(lambda item, response: 0.0, prompt="plain", max_tokens=3, stop=["\n"])
    asyncio.run(scorer(model, items(1)))
    assert model.asked == [(["Question 0?\nAnswer:"], 3, ("\n",))]


@pytest.mark.parametrize(
    ("returned", "value"),
    [
        (True, 1.0),
        (False, 0.0),
        (3, 3.0),
        (-0.5, -0.5),
        (Fraction(1, 4), 0.25),
        (Decimal("0.5"), 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(2), 2.0),
        (np.bool_(True), 1.0),
        (np.array(0.25), 0.25),
    ],
)
def test_whatever_is_a_number_counts(returned, value):
    assert evaluate(lambda item, response: returned).results[0].outcome == Score(value)


BAD = {
    "an exception": (raises(ValueError("no such key")), Reason.MALFORMED, "the utility raised ValueError: no such key"),
    "an assertion": (raises(AssertionError()), Reason.MALFORMED, "the utility raised AssertionError"),
    "an exit": (lambda item, response: sys.exit(3), Reason.MALFORMED, "the utility raised SystemExit: 3"),
    "an interrupt": (raises(KeyboardInterrupt()), Reason.MALFORMED, "the utility raised KeyboardInterrupt"),
    "NaN": (lambda item, response: math.nan, Reason.OUT_OF_RANGE, "the utility returned nan"),
    "infinity": (lambda item, response: math.inf, Reason.OUT_OF_RANGE, "the utility returned inf"),
    "minus infinity": (lambda item, response: -math.inf, Reason.OUT_OF_RANGE, "the utility returned -inf"),
    "a NaN of numpy": (lambda item, response: np.float32("nan"), Reason.OUT_OF_RANGE, "the utility returned nan"),
    "a text": (lambda item, response: "0.5", Reason.MALFORMED, "returned '0.5', which is no number"),
    "None": (lambda item, response: None, Reason.MALFORMED, "returned None, which is no number"),
    "a list": (lambda item, response: [1.0], Reason.MALFORMED, "returned [1.0], which is no number"),
    "a complex number": (lambda item, response: 1j, Reason.MALFORMED, "returned 1j, which is no number"),
    "two numbers": (lambda item, response: np.array([1, 2]), Reason.MALFORMED, "the utility raised TypeError"),
    "a number too large": (lambda item, response: 10**400, Reason.MALFORMED, "the utility raised OverflowError"),
}


@pytest.mark.parametrize("what", BAD)
def test_an_item_without_a_number_is_unscored_with_the_reason_and_the_others_are_scored(what):
    bad, reason, detail = BAD[what]

    def function(item, response):
        return bad(item, response) if item.id == "4" else float(response.text)

    evaluation = evaluate(function, 12)
    outcome = evaluation.results[4].outcome
    assert outcome.reason is reason
    assert detail in outcome.detail
    assert (evaluation.n, evaluation.n_unscored, evaluation.problem) == (11, 1, None)
    assert evaluation.value == pytest.approx((sum(range(12)) - 4) / 11)


@pytest.mark.parametrize("what", BAD)
def test_more_than_a_tenth_of_them_is_not_comparable(what):
    bad, reason, _ = BAD[what]
    evaluation = evaluate(lambda item, response: bad(item, response) if item.id in "37" else 1.0, 10)
    assert (evaluation.value, evaluation.se, evaluation.n) == (None, None, 8)
    assert evaluation.problem == "2 of 10 items are unscored (limit 10%)"
    assert [r.outcome.reason for r in evaluation.results if not isinstance(r.outcome, Score)] == [reason] * 2


def test_a_long_message_is_cut():
    assert len(evaluate(raises(ValueError("x" * 10_000))).results[0].outcome.detail) <= 300
    assert len(evaluate(lambda item, response: ["x" * 10_000]).results[0].outcome.detail) <= 300


def test_a_call_that_sleeps_past_the_limit_is_unscored(released):
    evaluation = evaluate(lambda item, response: released.wait(60), time_limit_s=SHORT)
    assert evaluation.results[0].outcome.reason is Reason.TIME
    assert evaluation.results[0].outcome.detail == "no score within 0.05 s"
    assert evaluation.problem == "no item could be scored"


def test_a_call_that_never_ends_is_unscored(released):
    def spins(item, response):
        while not released.is_set():
            pass
        return 1.0

    assert evaluate(spins, time_limit_s=SHORT).results[0].outcome.reason is Reason.TIME


def test_one_late_call_does_not_stop_the_others(released):
    def function(item, response):
        if item.id == "2":
            released.wait(60)
        return float(response.text)

    evaluation = evaluate(function, 12, time_limit_s=2.0)  # long enough for the calls that end at once
    assert evaluation.results[2].outcome.reason is Reason.TIME
    assert (evaluation.n, evaluation.n_unscored) == (11, 1)
    assert evaluation.value == pytest.approx((sum(range(12)) - 2) / 11)


def test_after_a_few_late_calls_the_function_is_not_called_again(released):
    called = []

    def function(item, response):
        called.append(item.id)
        return released.wait(60)

    evaluation = evaluate(function, 8, time_limit_s=SHORT)
    assert set(called) <= {"0", "1", "2"} and GIVE_UP_AFTER == 3  # on a busy machine a call may begin after its limit
    details = [r.outcome.detail for r in evaluation.results]
    assert details == ["no score within 0.05 s"] * 3 + ["not called: 3 calls before it did not return"] * 5
    assert {r.outcome.reason for r in evaluation.results} == {Reason.TIME}
    assert (evaluation.value, evaluation.n_unscored) == (None, 8)


def test_stored_responses_are_scored_again_without_the_model():
    scorer = FunctionScorer(lambda item, response: float(response.text))
    evaluation = asyncio.run(scorer(Scripted(), items(3)))
    again = asyncio.run(scorer.score(items(3), [r.response for r in evaluation.results]))
    assert again == [r.outcome for r in evaluation.results]


def test_any_item_may_be_given_to_a_function():
    scorer = FunctionScorer(lambda item, response: 0.0)
    assert scorer.check(Item(id="1", question="Why?")) is None


@pytest.mark.parametrize("limit", [0, -1, math.nan])
def test_a_time_limit_that_nothing_can_keep_is_refused(limit):
    with pytest.raises(UserError, match=f"time_limit_s is {limit}; a call needs more than 0 seconds"):
        FunctionScorer(lambda item, response: 0.0, time_limit_s=limit)


# -- the decorator -----------------------------------------------------------------------------------------------------


@utility(max_tokens=20, prompt="plain")
def short(item, response):
    return 1.0 - min(1.0, len(response.text) / 100)


def test_a_decorated_function_is_still_the_function():
    assert isinstance(short, DecoratedFunction)
    assert short(items(1)[0], Response("x" * 25)) == 0.75


def test_it_makes_a_scorer_with_its_options_and_those_given_later_win():
    assert (short.scorer().max_tokens, short.scorer().time_limit_s) == (20, 5.0)
    assert short.scorer(max_tokens=7, stop=["\n"]).max_tokens == 7
    assert short.scorer(max_tokens=7, stop=["\n"]).stop == ("\n",)
    assert short.scorer().stop == ()


def test_it_is_awaited_in_a_notebook():
    async def cell():  # where an event loop is at work already
        return await short.scorer()(Scripted(), items(3))

    evaluation = asyncio.run(cell())
    assert evaluation.value == pytest.approx(0.99)
    assert evaluation.n == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_token": 5}, "does not take its options .*max_token"),
        ({"function": len}, "does not take its options"),
        ({"prompt": "plian"}, "unknown prompt 'plian'. Did you mean 'plain'"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"time_limit_s": "long"}, "does not take its options"),
    ],
)
def test_a_wrong_option_is_named_where_it_is_written(options, message):
    with pytest.raises(UserError, match=message):
        utility(**options)(lambda item, response: 0.0)
    with pytest.raises(UserError, match=message):
        short.scorer(**options)


async def later(item, response):
    return 1.0


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda response: 0.0, r"<lambda> must take two arguments, score\(item, response\)"),
        (lambda item, response, gold: 0.0, "must take two arguments"),
        (lambda: 0.0, "must take two arguments"),
        (3, r"3 is no function: a utility is a function score\(item, response\) -> float"),
        (later, "later is async"),
        (FunctionScorer(lambda item, response: 0.0), "is async"),
    ],
)
def test_what_cannot_be_called_with_an_item_and_a_response_is_refused(function, message):
    with pytest.raises(UserError, match=message):
        utility()(function)


@pytest.mark.parametrize("function", [lambda *both: 1.0, lambda item, response, weight=1.0: weight, max])
def test_what_can_be_called_with_both_is_taken(function):
    assert isinstance(utility()(function), DecoratedFunction)
