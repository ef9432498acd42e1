"""What a search maximises: the smooth score and the metric, worked out by hand, and what has none."""

import asyncio
import math
from dataclasses import replace

import pytest

from utilities.core import ChoiceLogprobs, Item, Reason, Response, Unscored
from utilities.errors import UserError
from utilities.objective import as_objective, choose_objective, with_smooth_scores
from utilities.scorers.abstain import Abstain
from utilities.scorers.gold_logprob import GoldLogprob
from utilities.scorers.multiple_choice import MultipleChoice
from utilities.scorers.numeric import Numeric
from utilities.tasks import ItemSet, Task, load_task

CHOICES = {"A": "ant", "B": "bee"}
ITEMS = tuple(Item(id=str(k), question=f"Which, {k}?", choices=CHOICES, answer=a) for k, a in enumerate("AABB"))
FREE = tuple(Item(id=str(k), question=f"How many, {k}?", answer="12") for k in range(2))


class Believer:
    """Gives option A this probability, and says 12."""

    def __init__(self, *probabilities):
        self.probabilities, self.asked = probabilities, 0

    async def choice_logprobs(self, prompts, options):
        self.asked += len(prompts)
        return [
            ChoiceLogprobs((math.log(p), math.log(1 - p)), (1, 1))
            if len(own) == 2
            else ChoiceLogprobs((2 * math.log(p),), (2,))
            for own, p in zip(options, self.probabilities, strict=True)
        ]

    async def generate(self, prompts, *, max_tokens, stop=()):
        return [Response("12") for _ in prompts]


def task(scorer, items=ITEMS, **sets):
    given = {"one": (scorer, items), **sets}
    made = {name: ItemSet(name, s, i, i, "here") for name, (s, i) in given.items()}
    return Task("t", "t", "mini", "mean", made, {})


def objective(kind, given, model):
    evaluation = asyncio.run(with_smooth_scores(given, kind)(model, "dev"))
    return evaluation, as_objective(evaluation, kind, given.combine)


def test_the_companion_of_an_accuracy_is_the_probability_of_the_gold_option():
    model = Believer(0.9, 0.4, 0.3, 0.8)
    metric, smooth = objective("smooth", task(MultipleChoice()), model)
    assert metric.value == pytest.approx(0.5)  # right on the first and the third
    assert smooth.value == pytest.approx((0.9 + 0.4 + 0.7 + 0.2) / 4)
    assert [r.outcome.measures["smooth"] for r in metric.results] == pytest.approx([0.9, 0.4, 0.7, 0.2])
    assert model.asked == 4  # once
    _, mix = objective("mix", task(MultipleChoice()), Believer(0.9, 0.4, 0.3, 0.8))
    assert mix.value == pytest.approx((0.5 + 0.55) / 2)


def test_the_metric_is_the_evaluation_itself():
    metric, same = objective("metric", task(MultipleChoice()), Believer(0.9, 0.4, 0.3, 0.8))
    assert same is metric
    assert not metric.results[0].outcome.measures


def test_of_a_free_answer_the_gold_text_is_asked_too():
    model = Believer(0.5, 0.25)
    metric, smooth = objective("smooth", task(Numeric(), FREE), model)
    assert metric.value == 1.0
    assert smooth.value == pytest.approx((0.5 + 0.25) / 2)  # the geometric mean of the tokens' probabilities
    assert model.asked == 2


def test_several_sets_are_combined_as_the_task_says():
    given = replace(task(MultipleChoice(), two=(MultipleChoice(), ITEMS)), combination="harmonic_mean")
    _, smooth = objective("smooth", given, Believer(0.9, 0.4, 0.3, 0.8))
    assert smooth.value == pytest.approx(0.55)


def test_what_could_not_be_scored_stays_so():
    class Half(Believer):
        async def choice_logprobs(self, prompts, options):
            told = await super().choice_logprobs(prompts, options)
            return [Unscored(Reason.TRUNCATED), *told[1:]]

    metric, smooth = objective("smooth", task(MultipleChoice()), Half(0.9, 0.4, 0.3, 0.8))
    assert metric.value is None
    assert smooth.value is None
    assert smooth.n_unscored == 1


def test_what_suits_a_task_is_smooth_where_that_costs_nothing():
    assert choose_objective("auto", task(MultipleChoice())) == "smooth"
    assert choose_objective("auto", task(Numeric(), FREE)) == "metric"
    assert choose_objective("auto", task(MultipleChoice(), two=(Numeric(), FREE))) == "metric"
    assert choose_objective("auto", task(GoldLogprob())) == "metric"
    assert choose_objective("smooth", task(Numeric(), FREE)) == "smooth"
    assert choose_objective("auto", load_task("medical", edition="mini")) == "smooth"


@pytest.mark.parametrize("scorer", [Abstain(), GoldLogprob()])
def test_what_has_no_smooth_score_is_refused_in_words(scorer):
    with pytest.raises(UserError, match=r"--objective smooth: .*'one' has no smooth score.*--objective metric"):
        choose_objective("smooth", task(scorer))
    assert choose_objective("metric", task(scorer)) == "metric"
    assert choose_objective("auto", task(scorer)) == "metric"
