"""Abstaining in two rounds: what is kept, withdrawn and not proposed, and what becomes of a round that fails."""

import asyncio
import math

import pytest

from utilities.core import ChoiceLogprobs, Item, Reason, Response, Score, Unscored, scorer_registry
from utilities.errors import UserError
from utilities.prompts import prompt_hash
from utilities.scorers.abstain import Abstain

LOST = Unscored(Reason.TRANSPORT, "the line is cut", attempts=3)
LOG = {"A": (-1.0, -2.0, -3.0), "B": (-2.0, -1.0, -3.0), "true": (-1.0, -2.0), "false": (-2.0, -1.0)}


class Scripted:
    """A model with one list of answers for each round, and a note of what it was asked."""

    def __init__(self, *rounds):
        self.rounds, self.asked = [list(answers) for answers in rounds], []

    async def generate(self, prompts, *, max_tokens, stop=()):
        self.asked.append((list(prompts), max_tokens))
        answers = self.rounds.pop(0)
        return [Response(one) if isinstance(one, str) else one for one in answers]

    async def choice_logprobs(self, prompts, options):
        self.asked.append((list(prompts), [list(texts) for texts in options]))
        answers = self.rounds.pop(0)
        return [one if isinstance(one, Unscored) else says(*LOG.get(one, one)) for one in answers]


def says(*logprobs):
    return ChoiceLogprobs(tuple(logprobs), (1,) * len(logprobs))


def item(answer="A", id="1", **fields):
    choices = {"A": "ant", "B": "bumblebee", "C": "cat"}
    return Item(id=id, question="Which animal?", choices=choices, answer=answer, **fields)


def items(*answers):
    return [item(answer, str(k)) for k, answer in enumerate(answers)]


def evaluate(asked, *rounds, **options):
    model = Scripted(*rounds)
    return asyncio.run(Abstain(**options)(model, asked)), model


def outcomes(evaluation):
    return [r.outcome for r in evaluation.results]


def test_it_is_registered_under_its_name():
    assert scorer_registry.get("abstain") is Abstain


FIRST = ["A", "A", "A", "B", "no idea", "A or B"]
SECOND = ["true", "true", "false", "False."]  # those that proposed nothing are not asked again
GOLD = "ABABAA"
"""Kept right, kept wrong, withdrawn right, withdrawn right, nothing proposed, nothing proposed."""


def test_generated_kept_right_is_1_kept_wrong_is_minus_1_withdrawn_is_0_and_so_is_nothing_proposed():
    evaluation, model = evaluate(items(*GOLD), FIRST, SECOND)
    assert outcomes(evaluation) == [Score(1.0), Score(-1.0), Score(0.0), Score(0.0), Score(0.0), Score(0.0)]
    assert (evaluation.value, evaluation.n, evaluation.n_unscored) == (0.0, 6, 0)
    assert evaluation.usage.requests == 6 + 4
    assert [len(prompts) for prompts, _ in model.asked] == [6, 4]


def test_by_log_likelihood_kept_right_is_1_kept_wrong_is_minus_1_and_withdrawn_is_0():
    evaluation, model = evaluate(items(*"ABAB"), "AAAB", ["true", "true", "false", "false"], generated=False)
    assert outcomes(evaluation) == [Score(1.0), Score(-1.0), Score(0.0), Score(0.0)]
    assert [r.response.text for r in evaluation.results] == ["A", "A", "A", "B"]
    assert [r.response.choice_logprobs for r in evaluation.results] == [LOG["A"]] * 3 + [LOG["B"]]
    assert model.asked[0][1] == [[" A", " B", " C"]] * 4
    assert model.asked[1][1] == [[" true", " false"]] * 4


def test_the_value_is_effective_reliability():
    evaluation, _ = evaluate(items(*"AAAAAAAAAA"), "AAAAAABBBB", ["true"] * 4 + ["false"] * 4 + ["true"] * 2)
    assert evaluation.value == (4 - 2) / 10


def test_the_second_round_asks_about_the_words_of_the_proposed_option():
    evaluation, model = evaluate(items("A", "C"), ["(B)", "it is a cat"], ["true", "true"], max_tokens=4)
    assert model.asked[0] == (["Question: Which animal?\nA. ant\nB. bumblebee\nC. cat\nAnswer:"] * 2, 4)
    expected = [f"True or false: Which animal? {words}\nAnswer:" for words in ("bumblebee", "cat")]
    assert model.asked[1] == (expected, 4)
    assert {r.prompt_hash for r in evaluation.results} == {prompt_hash(model.asked[0][0][0])}


def test_a_second_reply_that_is_neither_keeps_the_answer():
    evaluation, _ = evaluate(items("A", "B"), ["A", "A"], ["who knows?", ""])
    assert outcomes(evaluation) == [Score(1.0), Score(-1.0)]


def test_a_tie_of_true_and_false_keeps_the_answer():
    evaluation, _ = evaluate(items("A"), ["A"], [(-1.0, -1.0)], generated=False)
    assert outcomes(evaluation) == [Score(1.0)]


def test_log_likelihoods_propose_as_multiple_choice_does():
    # Summed: ant -3 wins over bumblebee -4.5; by character bumblebee wins.
    answer = (-3.0, -4.5, -6.0)
    options = {"generated": False, "prompt": "plain", "answer_by": "text"}
    summed, _ = evaluate(items("B"), [answer], ["true"], normalize="none", **options)
    by_length, model = evaluate(items("B"), [answer], ["true"], normalize="length", **options)
    assert (outcomes(summed), outcomes(by_length)) == ([Score(-1.0)], [Score(1.0)])
    assert model.asked[1][0] == ["True or false: Which animal? bumblebee\nAnswer:"]


@pytest.mark.parametrize("generated", [True, False])
def test_where_nothing_is_asked_nothing_is_answered(generated):
    evaluation, _ = evaluate(items("A"), [LOST], [], generated=generated)
    assert outcomes(evaluation) == [LOST]
    assert evaluation.value is None


@pytest.mark.parametrize("generated", [True, False])
def test_what_a_round_could_not_answer_is_unscored_and_what_was_proposed_is_kept(generated):
    first, second = ["A", LOST, *"AAAAAAAAAA"], ["true", LOST, *["true"] * 9]
    evaluation, _ = evaluate(items(*"AAAAAAAAAAAA"), first, second, generated=generated)
    assert [k for k, outcome in enumerate(outcomes(evaluation)) if outcome == LOST] == [1, 2]
    assert (evaluation.n, evaluation.n_unscored, evaluation.value) == (10, 2, None)
    assert evaluation.results[1].response == Response("", finish_reason="unanswered")
    assert (evaluation.results[2].response.text, evaluation.results[2].response.more) == ("A", ())


@pytest.mark.parametrize("verdict", [(math.nan, -1.0), (-1.0, math.nan), (-1.0,), (), (-1.0, -2.0, -3.0)])
def test_a_verdict_that_is_none_is_unscored_and_withdraws_nothing(verdict):
    evaluation, _ = evaluate(items("A"), ["A"], [verdict], generated=False)
    assert outcomes(evaluation)[0].reason is Reason.MALFORMED


def test_a_first_round_of_no_numbers_is_unscored():
    evaluation, model = evaluate(items("A"), [(math.nan, -1.0, -1.0)], [], generated=False)
    assert outcomes(evaluation)[0].reason is Reason.MALFORMED
    assert model.asked[1][0] == []


@pytest.mark.parametrize(
    ("generated", "rounds"),
    [(True, (FIRST, [*SECOND[:3], LOST])), (False, ("AAABBB", ["true", "true", "false", "false", "true", LOST]))],
)
def test_stored_responses_are_scored_again_without_the_model(generated, rounds):
    asked = items(*GOLD)
    evaluation, _ = evaluate(asked, *rounds, generated=generated)
    again = asyncio.run(Abstain(generated=generated).score(asked, [r.response for r in evaluation.results]))
    for now, then in zip(again, outcomes(evaluation), strict=True):
        if isinstance(then, Score):
            assert now == then
        else:  # without a second round it stays unscored; why it is missing is told by the first evaluation alone
            assert now == Unscored(Reason.NOT_APPLICABLE, "the response has no second round")
    assert sum(isinstance(one, Unscored) for one in again) == 1


def test_items_are_clustered_by_their_source():
    asked = [item("A", "1", source="fact"), item("A", "2", source="fact"), item("A", "3")]
    evaluation, _ = evaluate(asked, "AAA", ["true"] * 3)
    assert [r.cluster for r in evaluation.results] == ["fact", "fact", "3"]


@pytest.mark.parametrize("generated", [True, False])
def test_an_item_without_options_is_refused(generated):
    scorer = Abstain(generated=generated)
    assert scorer.check(item()) is None
    assert scorer.check(Item(id="1", question="Why?", answer="A")) == "the item has no choices"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "letterd"}, "unknown prompt 'letterd'. Did you mean 'lettered'"),
        ({"check_prompt": "true_or_flase"}, "unknown prompt 'true_or_flase'. Did you mean 'true_or_false'"),
        ({"generated": False, "answer_by": "leter"}, "unknown answer_by 'leter'"),
        ({"max_tokens": 0}, "max_tokens is 0"),
    ],
)
def test_a_misspelled_option_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        Abstain(**options)
