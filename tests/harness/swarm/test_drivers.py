"""Searches other than the swarm: they find what there is to find, keep to the budget, and go on from JSON exactly."""

import json

import numpy as np
import pytest

from harness.baselines.greedy_soup import GreedySoup
from harness.swarm.cma import cma, evol_merge
from harness.swarm.drivers import Budgeted, History
from harness.swarm.loop import search
from harness.swarm.lorahub import BOUND, lorahub, penalty
from harness.swarm.particle_swarm import ParticleSwarm
from harness.swarm.random_search import RandomSearch
from harness.swarm.settings import SwarmSettings

N = 5
GOAL = np.array([0.6, 0.4, 0.2, 0.1, 0.0])  # a sum of 1.3, as good mixtures were seen to have


def swarm(experts, seed):
    return ParticleSwarm(experts, SwarmSettings(particles=7, iterations=1000, patience=1000), seed)


SEARCHES = {"random": RandomSearch, "cma": cma, "evol_merge": evol_merge, "lorahub": lorahub, "swarm": swarm}
every_search = pytest.mark.parametrize("make", SEARCHES.values(), ids=SEARCHES)


def value(row):
    return -float(np.square(row - GOAL).sum())


def run(optimiser, values=value):
    """All rows that were asked for, in order, until it is finished."""
    rows = []
    while optimiser.finished is None:
        asked = optimiser.ask()
        rows += list(asked)
        optimiser.tell([values(row) for row in asked])
    return np.array(rows)


@every_search
@pytest.mark.parametrize("budget", [1, 23, 64])
def test_every_search_ends_after_exactly_its_budget(make, budget):
    optimiser = Budgeted(make(N, 3), budget)
    rows = run(optimiser)
    assert len(rows) == optimiser.evaluations == budget
    assert len({row.tobytes() for row in rows}) == budget  # and no row is asked for twice
    assert optimiser.finished == f"{budget} evaluations done"
    best = max(rows, key=value)
    assert np.array_equal(optimiser.best[0], best)
    assert optimiser.best[1] == value(best)


@every_search
def test_a_search_goes_on_from_json_as_if_it_had_never_stopped(make):
    whole = run(Budgeted(make(N, 1), 60))
    first, rows = Budgeted(make(N, 1), 60), []
    for _ in range(2):
        rows += list(asked := first.ask())
        first.tell([value(row) for row in asked])
    state = History.from_dict(json.loads(json.dumps(first.state.to_dict())))
    second = Budgeted(make(N, 1), 60, state=state)
    assert second.best[1] == first.best[1]
    rows += list(run(second))
    assert np.array_equal(rows, whole)


@every_search
def test_the_seed_decides_everything(make):
    assert np.array_equal(run(Budgeted(make(N, 5), 40)), run(Budgeted(make(N, 5), 40)))
    if make is not swarm:  # whose first rows are the experts under every seed
        assert not np.array_equal(run(Budgeted(make(N, 5), 9)), run(Budgeted(make(N, 6), 9)))


def test_cma_finds_the_optimum_of_a_quadratic():
    optimiser = Budgeted(cma(N, 0), 600)
    run(optimiser)
    assert np.allclose(optimiser.best[0], GOAL, atol=1e-3)


def test_lorahub_finds_it_under_its_bounds_and_the_penalty_draws_it_to_zero():
    free = Budgeted(lorahub(N, 0), 1000)
    rows = run(free)
    assert np.abs(rows).max() <= BOUND
    assert np.allclose(free.best[0], GOAL, atol=1e-2)
    held = Budgeted(lorahub(N, 0), 1000, penalty)
    run(held)
    # -|x - goal|^2 - 0.05 mean|x| is highest where each weight is 0.05 / (2 N) nearer to zero
    assert np.allclose(held.best[0], np.maximum(GOAL - 0.05 / (2 * N), 0.0), atol=3e-3)
    assert held.best[1] == pytest.approx(value(held.best[0]) - 0.05 * np.abs(held.best[0]).mean())


def test_evolutionary_merging_finds_weights_of_any_sum_within_its_bounds():
    goal = np.array([0.5, 0.9, 0.2, 0.0, 0.0])
    optimiser = Budgeted(evol_merge(N, 0), 600)
    rows = run(optimiser, lambda row: -float(np.square(row - goal).sum()))
    assert (rows >= 0).all() and (rows <= 1).all()
    assert np.allclose(optimiser.best[0], goal, atol=0.02)


def test_random_rows_are_not_bound_to_the_sum_one():
    rows = run(Budgeted(RandomSearch(N, 0), 2000))
    totals = rows.sum(axis=1)
    assert (rows >= 0).all()
    assert 0.5 <= totals.min() < 0.51
    assert 1.99 < totals.max() <= 2.0
    assert np.allclose((rows / totals[:, None]).mean(axis=0), 1 / N, atol=0.02)


@every_search
def test_missing_values_are_neither_bests_nor_the_end(make):
    calls = iter(range(10_000))
    optimiser = Budgeted(make(N, 2), 50)
    seen = []

    def values(row):
        if next(calls) % 3 == 0:
            return None
        seen.append(value(row))
        return seen[-1]

    assert len(run(optimiser, values)) == 50
    assert optimiser.best[1] == max(seen)


def test_no_value_at_all_is_no_best():
    optimiser = Budgeted(cma(N, 2), 20)
    run(optimiser, lambda row: None)
    assert optimiser.best[1] is None


def test_telling_another_number_of_values_is_refused():
    optimiser = Budgeted(RandomSearch(N, 2), 50)
    with pytest.raises(ValueError, match="tell without ask"):
        optimiser.tell([])
    optimiser.ask()
    with pytest.raises(ValueError, match="20 values expected, got 2"):
        optimiser.tell([1.0, 2.0])


def test_it_drives_the_ordinary_loop():
    import asyncio

    optimiser, saved = Budgeted(RandomSearch(N, 0), 45), []

    async def evaluate(rows):
        return [value(row) for row in rows]

    reason = asyncio.run(search(optimiser, evaluate, lambda: saved.append(len(optimiser.state.values))))
    assert (reason, saved) == ("45 evaluations done", [1, 2, 3])


# -- greedy soup -------------------------------------------------------------------------------------------------------


def test_greedy_soup_keeps_what_does_not_harm():
    worth = {
        (0,): 0.5, (1,): 0.7, (2,): 0.6, (3,): None,
        (1, 2): 0.7,  # does not fall: stays
        (0, 1, 2): 0.6,
    }  # fmt: skip
    soup = GreedySoup(4)
    optimiser = Budgeted(soup, 100)
    rows = run(optimiser, lambda row: worth[tuple(int(k) for k in np.flatnonzero(row))])
    assert np.array_equal(soup.row, [0, 0.5, 0.5, 0])
    assert len(rows) == optimiser.evaluations == 6
    assert optimiser.finished == "every expert was tried"


def test_a_soup_of_experts_without_values_is_empty():
    soup = GreedySoup(3)
    run(Budgeted(soup, 100), lambda row: None)
    assert np.isnan(soup.row).all()
