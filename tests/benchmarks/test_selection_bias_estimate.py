"""The estimate of a search's selection bias beside the truth, with the real searches on simulated items.

    python -m pytest tests/benchmarks/test_selection_bias_estimate.py -m benchmark -s -n 0

Item i is answered correctly by row c if b_i + u(c) + a_i . (c - c0) > 0. Flat: u is constant, so all that a search
gains on dev is chance. Gentle and peaked: u has one best row. The truth is the value of the winner on the dev items
minus its value on 20,000 other items, less the same for a row that was not chosen by these items.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from harness.run.winner import repeated
from harness.swarm.optimisers import make_budgeted
from harness.swarm.settings import SwarmSettings
from utilities.combine import mean
from utilities.core import Evaluation, ItemResult, Response, Score
from utilities.selection_bias import selection_bias

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

EXPERTS, ITEMS, BUDGET = 10, 400, 110
STEEP = {"flat": 0.0, "gentle": 1.5, "peaked": 6.0}
NO_RESPONSE = Response("")


def world(rng, items):
    return 1.3 * rng.normal(size=items) + 0.8, rng.normal(size=(items, EXPERTS))


def logits(items, rows, best, steep):
    own, taste = items
    return own[None] - steep * np.square(rows - best).sum(1)[:, None] + (rows - 0.1) @ taste.T


def evaluation(values):
    return Evaluation.of([ItemResult(str(k), str(k), "", NO_RESPONSE, Score(float(v))) for k, v in enumerate(values)])


def once(landscape, optimiser, top_k_mean, seed, other):
    """The true bias of one search, and its estimate."""
    rng, steep = np.random.default_rng([seed, 7]), STEEP[landscape]
    best, items = 1.3 * rng.dirichlet(np.ones(EXPERTS)), world(rng, ITEMS)
    settings = SwarmSettings(optimiser=optimiser, winner="top-k-mean" if top_k_mean else "best")
    rows, metric, objective = [], [], []

    def value_of(new):
        values = logits(items, new, best, steep)
        right = (values > 0).astype(float)
        goals = 1 / (1 + np.exp(-values)) if top_k_mean else right  # the smooth objective of the default search
        rows.extend(new)
        metric.extend(map(evaluation, right))
        objective.extend(map(evaluation, goals))
        return [float(one.mean()) for one in goals]

    make = partial(make_budgeted, EXPERTS, EXPERTS, settings, budget=BUDGET)
    winner = repeated(make(seed=seed), settings, value_of).row
    unchosen = best if steep else np.full(EXPERTS, 0.1)
    gaps = [
        (logits(items, row[None], best, steep) > 0).mean() - (logits(other, row[None], best, steep) > 0).mean()
        for row in (winner, unchosen)
    ]

    def again(values, again_seed):
        return repeated(make(seed=again_seed), settings, values)

    return gaps[0] - gaps[1], selection_bias(np.array(rows), objective, metric, mean, again, seed)


def measured(landscape, optimiser, top_k_mean, seeds):
    """Mean of the truth, its standard error, and mean of the estimates."""
    other = world(np.random.default_rng(99), 20_000)
    found = np.array([once(landscape, optimiser, top_k_mean, seed, other) for seed in range(seeds)], dtype=float)
    return found[:, 0].mean(), found[:, 0].std(ddof=1) / seeds**0.5, np.nanmean(found[:, 1])


@pytest.mark.parametrize("landscape", STEEP)
@pytest.mark.parametrize("top_k_mean", [False, True])
@pytest.mark.parametrize("optimiser", ["pso", "pso-standard", "random", "cma", "cma-positive"])
def test_the_estimate_is_near_the_truth(landscape, optimiser, top_k_mean):
    truth, se, estimate = measured(landscape, optimiser, top_k_mean, 30)
    rule = "mean of the top rows, smooth objective" if top_k_mean else "best row, metric"
    print(f"{landscape}, {optimiser}, {rule}: true {truth:+.4f} +- {se:.4f}, estimated {estimate:+.4f}")
    assert 0.7 * (truth - 2 * se) - 0.002 <= estimate <= 1.3 * (truth + 2 * se) + 0.004
