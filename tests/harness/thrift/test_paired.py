"""The paired estimate is right for all items, whatever decides which are asked first, and its error is honest."""

import asyncio
import math

import numpy as np
import pytest

from harness.thrift.informative import by_variance, from_hard_to_easy, scores_by_item_set
from harness.thrift.paired import paired
from harness.thrift.partial import Partial
from harness.thrift.stages import Stages, shuffled
from tests.harness.thrift.synthetic_task import EXPERTS, Rowed, synthetic_task
from utilities import statistics
from utilities.objective import WithCompanion

A, B = np.full(EXPERTS, 0.3), np.eye(EXPERTS)[1]


def stopped(stages, row, after, **given):
    partial = Partial(stages, Rowed(row, **given))

    async def ask():
        for stage in range(after):
            await partial.ask(stage)

    asyncio.run(ask())
    return partial


def learned_from(task):
    """What the experts and a few mixtures answered: none of the rows that are compared."""
    rng = np.random.default_rng(11)
    rows = [*np.eye(EXPERTS), *rng.dirichlet(np.ones(EXPERTS), 10)]
    evaluations = [asyncio.run(task(Rowed(row), "dev")) for row in rows]
    return scores_by_item_set(task, "dev", evaluations)


@pytest.fixture(autouse=True)
def rough_errors(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 10)


@pytest.mark.parametrize("informative", [False, True])
@pytest.mark.parametrize("after", [1, 3])
def test_the_estimate_is_unbiased_for_all_items(informative, after):
    task = synthetic_task((160,), seed=2)
    scores = learned_from(task)
    right = task.item_sets["set0"].scorer.right
    truth = float(right(A).mean() - right(B).mean())
    found = []
    for seed in range(400):
        orders = by_variance(scores, seed) if informative else shuffled(task, "dev", seed)
        stages = Stages.cut(task, "dev", 8, orders)
        found.append(paired(stopped(stages, A, after), stopped(stages, B, after)))
    values = np.array([one.value for one in found])
    assert abs(values.mean() - truth) < 3 * values.std() / math.sqrt(len(values))
    # The error that is told is the error that was made.
    assert math.sqrt(np.mean([one.se**2 for one in found])) == pytest.approx(values.std(), rel=0.12)


def test_informative_items_make_the_estimate_sharper_and_their_plain_mean_would_be_biased():
    task = synthetic_task((160,), seed=2)
    scores = learned_from(task)
    right = task.item_sets["set0"].scorer.right
    truth = float(right(A).mean() - right(B).mean())
    errors = {"random": [], "informative": [], "plain mean": []}
    for seed in range(300):
        for way, orders in (("random", shuffled(task, "dev", seed)), ("informative", by_variance(scores, seed))):
            stages = Stages.cut(task, "dev", 4, orders)
            errors[way].append(paired(stopped(stages, A, 1), stopped(stages, B, 1)).value - truth)
        asked = [int(item.id) for item in stages.stages[0]["set0"]]
        errors["plain mean"].append(float((right(A) - right(B))[asked].mean()) - truth)
    rms = {way: float(np.sqrt(np.mean(np.square(one)))) for way, one in errors.items()}
    assert rms["informative"] < 0.9 * rms["random"]
    bias = np.mean(errors["plain mean"])
    assert abs(bias) > 5 * np.std(errors["plain mean"]) / math.sqrt(300)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"combination": "mean"},
        {"combination": "minimum", "group_by": "domain"},
        {"combination": "weighted_mean", "weights": {"set0": 2.0, "set1": 1.0}},
        {"sizes": (90,), "clusters": 3},
    ],
)
def test_where_all_was_asked_it_is_the_difference_of_the_values(given):
    task = synthetic_task(**given)
    stages = Stages.cut(task, "dev", 5, by_variance(learned_from(task), 0))
    a, b = stopped(stages, A, 5), stopped(stages, B, 5)
    found = paired(a, b)
    assert found.value == pytest.approx(a.value() - b.value())
    assert found.values == pytest.approx((a.value(), b.value()))
    assert found.se == 0.0
    assert found.items == task.size("dev")


def test_the_error_of_a_combination_is_that_of_many_orders():
    task = synthetic_task((60, 90), seed=4)
    found = []
    for seed in range(400):
        stages = Stages.cut(task, "dev", 3, shuffled(task, "dev", seed))
        found.append(paired(stopped(stages, A, 1), stopped(stages, B, 1)))
    spread = np.std([one.value for one in found])
    assert math.sqrt(np.mean([one.se**2 for one in found])) == pytest.approx(spread, rel=0.12)


def test_items_of_one_cluster_count_together():
    alone, together = synthetic_task((90,), seed=4), synthetic_task((90,), seed=4, clusters=45)
    found = []
    for task in (alone, together):
        stages = Stages.cut(task, "dev", 3, shuffled(task, "dev", 0))
        found.append(paired(stopped(stages, A, 1), stopped(stages, B, 1)))
    assert found[0].value == found[1].value
    assert (found[0].clusters, found[1].clusters) == (30, 2)
    assert found[0].se != found[1].se


def test_only_items_that_both_have_a_score_of_are_common():
    task = synthetic_task((40,))
    stages = Stages.cut(task, "dev", 4, shuffled(task, "dev", 0))
    asked = [int(item.id) for item in stages.stages[0]["set0"]]
    a = stopped(stages, A, 2, unscored=frozenset(asked[:3]))
    b = stopped(stages, B, 1, unscored=frozenset(asked[2:5]))
    assert paired(a, b).items == 10 - 5
    nothing = stopped(stages, B, 1, unscored=frozenset(asked[1:]))
    assert paired(a, nothing) is None
    with pytest.raises(ValueError, match="other stages"):
        paired(a, stopped(Stages.cut(task, "dev", 4, shuffled(task, "dev", 0)), B, 1))


def test_equal_particles_differ_by_nothing():
    task = synthetic_task()
    stages = Stages.cut(task, "dev", 8, shuffled(task, "dev", 0))
    found = paired(stopped(stages, A, 1), stopped(stages, A, 1))
    assert (found.value, found.se) == (0.0, 0.0)


def test_a_smooth_objective_is_compared_by_its_own_scores():
    class Half:
        """A companion that gives every item half a point."""

        async def __call__(self, model, items):
            evaluation = await task.item_sets["set0"].scorer(model, items)
            halves = [replace_score(result, 0.5 if model.row[0] else 0.25) for result in evaluation.results]
            return type(evaluation).of(halves)

    def replace_score(result, value):
        return type(result)(result.item_id, result.cluster, "", result.response, type(result.outcome)(value))

    task = synthetic_task((40,))
    inner = task.item_sets["set0"]
    smooth = type(task)(
        task.name,
        "",
        "",
        "mean",
        {"set0": type(inner)("set0", WithCompanion(inner.scorer, Half()), inner.dev, inner.test, "")},
        {},
    )
    stages = Stages.cut(smooth, "dev", 4, shuffled(smooth, "dev", 0), "smooth")
    a, b = stopped(stages, A, 1), stopped(stages, np.zeros(EXPERTS), 1)
    assert paired(a, b).value == pytest.approx(0.25)
    assert stopped(stages, A, 4).value() == pytest.approx(0.5)
    mixed = Stages.cut(smooth, "dev", 4, shuffled(smooth, "dev", 0), "mix")
    assert stopped(mixed, A, 4).value() == pytest.approx((0.5 + inner.scorer.right(A).mean()) / 2)


def test_from_hard_to_easy_begins_with_what_most_got_wrong():
    task = synthetic_task((60,))
    scores = learned_from(task)
    order = from_hard_to_easy(scores, 0)["set0"].positions
    means = scores["set0"].mean(axis=0)[order]
    assert (np.diff(means) >= 0).all()
