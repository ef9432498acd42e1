import asyncio
import math

import pytest

from utilities.core import ChoiceLogprobs, Item, Reason, Response, Score, Unscored
from utilities.errors import UserError
from utilities.prompts import prompt_hash
from utilities.scorers import MultipleChoice
from utilities.scorers.multiple_choice import PREPARED_KEPT


class Scripted:
    """A model that answers from a list, and keeps what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    async def choice_logprobs(self, prompts, options):
        self.asked.append((prompts, options))
        return self.answers


def says(*logprobs):
    return ChoiceLogprobs(tuple(logprobs), (1,) * len(logprobs))


def item(answer="A", id="1", choices=("ant", "bumblebee", "cat"), **fields):
    lettered = {"ABCDEFGHIJKLMNOPQRSTUVWXYZ"[k]: text for k, text in enumerate(choices)}
    return Item(id=id, question="Which animal?", choices=lettered, answer=answer, **fields)


def evaluate(scorer, items, *answers):
    model = Scripted(*answers)
    return asyncio.run(scorer(model, items)), model


def test_the_most_likely_option_is_the_answer():
    items = (item("A", "1"), item("B", "2"), item("C", "3"), item("A", "4"))
    answers = (says(-1, -2, -3), says(-3, -1, -2), says(-1, -2, -3), says(-2, -math.inf, -1.9))
    evaluation, _ = evaluate(MultipleChoice(), items, *answers)
    assert [r.response.text for r in evaluation.results] == ["A", "B", "A", "C"]
    assert [r.outcome for r in evaluation.results] == [Score(1.0), Score(1.0), Score(0.0), Score(0.0)]
    assert [r.item_id for r in evaluation.results] == ["1", "2", "3", "4"]
    assert (evaluation.value, evaluation.n, evaluation.usage.requests) == (0.5, 4, 4)
    assert evaluation.results[0].response.choice_logprobs == (-1, -2, -3)


@pytest.mark.parametrize(("gold", "score"), [("A", 1.0), ("B", 0.0), ("C", 0.0)])
def test_ties_go_to_the_first_option(gold, score):
    evaluation, _ = evaluate(MultipleChoice(), (item(gold),), says(-1, -1, -1))
    assert evaluation.results[0].outcome == Score(score)


def test_length_normalisation_divides_by_the_characters_of_the_option():
    # Summed: ant -3 wins over bumblebee -4.5. By character: ant -1.0, bumblebee -0.5, cat -2.
    answer = says(-3, -4.5, -6)
    plain, _ = evaluate(MultipleChoice("plain", "text", "none"), (item("B"),), answer)
    by_length, _ = evaluate(MultipleChoice("plain", "text", "length"), (item("B"),), answer)
    assert (plain.results[0].response.text, by_length.results[0].response.text) == ("A", "B")
    assert by_length.value == 1.0


def test_letters_are_all_of_one_length():
    evaluation, _ = evaluate(MultipleChoice("lettered", "letter", "length"), (item("A"),), says(-3, -4.5, -6))
    assert evaluation.results[0].response.text == "A"


@pytest.mark.parametrize(
    ("answer_by", "options"), [("text", [" ant", " bumblebee", " cat"]), ("letter", [" A", " B", " C"])]
)
def test_the_model_is_asked_for_the_options_text_or_letter(answer_by, options):
    _, model = evaluate(MultipleChoice(answer_by=answer_by), (item(),), says(-1, -2, -3))
    assert model.asked[0][1] == [options]


def test_the_prompts_are_exactly_what_the_template_says():
    evaluation, model = evaluate(MultipleChoice("lettered"), (item(),), says(-1, -2, -3))
    expected = "Question: Which animal?\nA. ant\nB. bumblebee\nC. cat\nAnswer:"
    assert model.asked[0][0] == [expected]
    assert evaluation.results[0].prompt_hash == prompt_hash(expected)
    _, model = evaluate(MultipleChoice("plain"), (item(),), says(-1, -2, -3))
    assert model.asked[0][0] == ["Which animal?\nAnswer:"]


@pytest.mark.parametrize(
    "answer", [says(-1, math.nan, -2), says(math.inf, -1, -2), says(-1, -2), says(-1, -2, -3, -4), says()]
)
def test_log_probabilities_that_are_none_are_malformed_and_not_a_zero(answer):
    evaluation, _ = evaluate(MultipleChoice(), (item(),), answer)
    assert evaluation.results[0].outcome.reason is Reason.MALFORMED
    assert (evaluation.value, evaluation.n_unscored) == (None, 1)


def test_what_the_model_could_not_answer_passes_through():
    failed = Unscored(Reason.TRUNCATED, "prompt too long", attempts=2, raw="some text")
    items = tuple(item("A", str(k)) for k in range(10))
    evaluation, _ = evaluate(MultipleChoice(), items, failed, *[says(-1, -2, -3)] * 9)
    assert evaluation.results[0].outcome == failed
    assert evaluation.results[0].response == Response("some text", finish_reason="unanswered")
    assert (evaluation.value, evaluation.n, evaluation.n_unscored) == (1.0, 9, 1)


@pytest.mark.parametrize("normalize", ["none", "length"])
def test_stored_log_probabilities_are_scored_again_without_the_model(normalize):
    scorer = MultipleChoice("plain", "text", normalize)
    items = (item("B", "1"), item("C", "2"), item("A", "3"))
    evaluation, _ = evaluate(scorer, items, says(-3, -4.5, -6), says(-1, -2, -math.inf), says(-1, -1, -1))
    stored = [result.response for result in evaluation.results]
    assert asyncio.run(scorer.score(items, stored)) == [result.outcome for result in evaluation.results]


def test_the_same_log_probabilities_are_scored_by_another_rule():
    evaluation, _ = evaluate(MultipleChoice("plain", "text", "none"), (item("B"),), says(-3, -4.5, -6))
    assert evaluation.value == 0.0
    again = MultipleChoice("plain", "text", "length").score((item("B"),), [r.response for r in evaluation.results])
    assert asyncio.run(again) == [Score(1.0)]


def test_a_generated_response_has_nothing_to_compare():
    (outcome,) = asyncio.run(MultipleChoice().score((item("A"),), [Response("A", 1)]))
    assert outcome.reason is Reason.NOT_APPLICABLE


def test_a_missing_answer_is_an_error_and_not_a_shorter_evaluation():
    with pytest.raises(ValueError, match="zip"):
        evaluate(MultipleChoice(), (item("A", "1"), item("B", "2")), says(-1, -2, -3))


def test_items_are_clustered_by_their_source():
    items = (item("A", "1", source="fact"), item("A", "2", source="fact"), item("A", "3"))
    evaluation, _ = evaluate(MultipleChoice(), items, *[says(-1, -2, -3)] * 3)
    assert [r.cluster for r in evaluation.results] == ["fact", "fact", "3"]


def test_26_options_are_scored():
    last = item("Z", choices=[f"option {k}" for k in range(26)])
    evaluation, model = evaluate(MultipleChoice(), (last,), says(*[-2.0] * 25, -1.0))
    assert evaluation.value == 1.0
    assert model.asked[0][1][0][-1] == " Z"


def test_the_same_items_are_prepared_once_and_changed_ones_again():
    scorer, items = MultipleChoice("plain"), [item("A")]
    _, first = evaluate(scorer, items, says(-1, -2, -3))
    _, second = evaluate(scorer, items, says(-1, -2, -3))
    assert first.asked[0][0] is second.asked[0][0] and first.asked[0][1] is second.asked[0][1]
    items[0] = Item(id="1", question="Which plant?", choices={"A": "rose", "B": "oak"}, answer="A")
    _, third = evaluate(scorer, items, says(-1, -2))
    assert third.asked[0] == (["Which plant?\nAnswer:"], [[" A", " B"]])


def test_only_the_item_sequences_asked_about_last_are_kept():
    scorer, kept = MultipleChoice(), [item("A")]
    _, first = evaluate(scorer, kept, says(-1, -2, -3))
    others = [[item("A", id=str(k))] for k in range(3 * PREPARED_KEPT)]
    for other in others:
        evaluate(scorer, other, says(-1, -2, -3))
        _, again = evaluate(scorer, kept, says(-1, -2, -3))
        assert again.asked[0][0] is first.asked[0][0], "in use, so it is not the one that is forgotten"
    assert len(scorer._prepared) == PREPARED_KEPT


def test_an_item_without_options_is_refused_before_any_model_is_asked():
    scorer = MultipleChoice()
    assert scorer.check(item()) is None
    assert scorer.check(Item(id="1", question="Why?")) == "the item has no choices"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "letterd"}, "unknown prompt 'letterd'. Did you mean 'lettered'"),
        ({"answer_by": "leter"}, "unknown answer_by 'leter'. Did you mean 'letter'"),
        ({"normalize": "lenght"}, "unknown normalize 'lenght'. Did you mean 'length'"),
        ({"normalize": True}, "unknown normalize 'True'"),
    ],
)
def test_a_misspelled_option_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        MultipleChoice(**options)
