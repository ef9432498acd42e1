"""A race stops who is behind, seldom who is best, and what it says of those it stopped is comparable."""

import asyncio

import numpy as np
import pytest

from harness.thrift.paired import Paired
from harness.thrift.partial import Partial
from harness.thrift.racing import Rules, race
from harness.thrift.stages import Stages, shuffled
from tests.harness.thrift.synthetic_task import EXPERTS, Rowed, synthetic_task, truth
from utilities import statistics


@pytest.fixture(autouse=True)
def rough_errors(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 10)


def run(task, models, *, stages=8, seed=0, rules=None):
    cut = Stages.cut(task, "dev", stages, shuffled(task, "dev", seed))
    partials = [Partial(cut, model) for model in models]
    return asyncio.run(race(partials, rules)), partials


def generation(seed, spread=0.1, size=20):
    rng = np.random.default_rng(seed)
    return [Rowed(row) for row in 1.2 / EXPERTS + rng.normal(0, spread, (size, EXPERTS))]


def test_a_race_saves_items_and_seldom_stops_the_best():
    saved, lost, order = [], 0, []
    for seed in range(12):
        task, models = synthetic_task(seed=seed), generation(seed)
        values, partials = run(task, models, seed=seed)
        true = [truth(task, model.row) for model in models]
        saved.append(1 - sum(one.items for one in partials) / (20 * 400))
        lost += not any(partials[k].complete for k in np.flatnonzero(np.isclose(true, max(true))))
        order.append(np.corrcoef(values, true)[0, 1])
        for value, one, whole in zip(values, partials, true, strict=True):
            if one.complete:
                assert value == pytest.approx(whole)
            else:
                assert one.items >= 20
                assert value < max(values)
        assert partials[int(np.argmax(values))].complete
    assert np.mean(saved) > 0.4
    assert lost <= 1
    assert np.mean(order) > 0.8


def test_of_equal_particles_none_is_stopped():
    values, partials = run(synthetic_task(), [Rowed(np.zeros(EXPERTS))] * 5)
    assert all(one.complete for one in partials)
    assert len(set(values)) == 1


def test_nobody_is_stopped_on_too_few_items():
    good, bad = Rowed(np.full(EXPERTS, 3.0)), Rowed(np.full(EXPERTS, -3.0))
    _, partials = run(synthetic_task((16,)), [good, bad], stages=4)
    assert all(one.complete for one in partials)
    _, partials = run(synthetic_task((100,)), [good, bad], stages=10)
    assert partials[0].complete
    assert 20 <= partials[1].items < 50


def test_a_difference_must_be_more_than_chance():
    rules = Rules(level=0.05, least_items=20)
    clear = Paired(-0.3, 0.05, 25, 25, (0.4, 0.7))
    assert rules.behind(clear, 7)
    assert not rules.behind(clear._replace(se=0.15), 7)
    assert rules.behind(clear._replace(se=0.15), 1)  # fewer looks, each at a higher level
    assert not rules.behind(clear._replace(items=19), 7)
    assert not rules.behind(clear._replace(clusters=1), 7)
    assert not rules.behind(clear._replace(value=0.3), 7)
    assert not rules.behind(clear._replace(value=0.0, se=0.0), 7)
    assert rules.behind(clear._replace(se=0.0), 7)
    assert not rules.behind(None, 7)


def test_a_particle_that_cannot_be_compared_stops_nobody_and_is_not_stopped():
    broken = Rowed(np.full(EXPERTS, 3.0), frozenset(range(400)))
    models = [broken, *generation(0, 0.3, 4)]
    values, partials = run(synthetic_task(), models)
    assert values[0] is None
    assert partials[0].complete
    assert None not in values[1:]


def test_where_nobody_can_be_compared_nobody_has_a_value():
    broken = Rowed(np.zeros(EXPERTS), frozenset(range(400)))
    values, partials = run(synthetic_task(), [broken, broken])
    assert values == [None, None]
    assert all(one.complete for one in partials)
    assert run(synthetic_task(), [])[0] == []


def test_an_item_set_smaller_than_the_stages_is_asked_at_first():
    values, partials = run(synthetic_task((200, 3)), generation(1))
    assert None not in values
    assert any(not one.complete for one in partials)
