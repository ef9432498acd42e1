"""The search on coefficient rows is the published search on weights: Algorithm 1 once more, in the plainest way."""

import math

import numpy as np
import pytest

from harness.swarm.particle_swarm import ParticleSwarm
from harness.swarm.settings import VARIANTS, SwarmSettings

EXPERTS, PARAMETERS = 5, 60


def plain_search(experts, utility, s, seed):
    """Algorithm 1 on a list of weight vectors, a particle at a time; returns what it remembers after every iteration.

    Only the order of the random numbers is that of the code under test; the formulas are the paper's.
    """
    rng = np.random.default_rng(seed)
    n = s.particles
    x = [weights.copy() for weights in experts[:n]]
    while len(x) < n:
        a, b = rng.choice(len(experts), size=2, replace=False)
        t = rng.uniform(0.0, s.crossover_max)
        x.append(t * experts[a] + (1 - t) * experts[b])
    v = [np.zeros_like(weights) for weights in x]
    if s.initial_velocity == "random":
        v = [x[(i + away) % n] - x[i] for i, away in enumerate(rng.integers(1, n, size=n))]

    p, p_score, stagnation, scores = list(x), [-math.inf] * n, [0] * n, [math.nan] * n
    g, g_score, w, w_score, unchanged = None, -math.inf, None, math.inf, 0
    step, history = s.step_length, []
    for k in range(s.iterations + 1):
        skipped = [False] * n
        if k > 0:
            r = rng.uniform(size=(n, 4))
            whole = rng.uniform() < s.drop_iteration
            skipped = [bool(whole or u < s.drop_particle) for u in rng.uniform(size=n)]
            for i in range(n):
                a, b, c, d = r[i][0] * s.inertia, r[i][1] * s.cognitive, r[i][2] * s.social, r[i][3] * s.repel
                v[i] = (a * v[i] + b * (p[i] - x[i]) + c * (g - x[i]) - d * (w - x[i])) / (a + b + c + d)
                x[i] = x[i] + step * v[i]
            step = max(step * s.step_decay, s.step_floor)
            unchanged += 1
        asked = [x[i] for i in range(n) if not skipped[i]]
        restarted = [False] * n
        for i in range(n):
            if skipped[i]:
                continue
            scores[i] = utility(x[i])
            stagnation[i] += 1
            if scores[i] > p_score[i]:
                p[i], p_score[i], stagnation[i] = x[i], scores[i], 0
            if scores[i] > g_score:
                g, g_score, unchanged = x[i], scores[i], 0
            if scores[i] < w_score:
                w, w_score = x[i], scores[i]
            restarted[i] = stagnation[i] >= s.restart_patience
        if k == 0 and s.initial_velocity == "best":
            v = [g - x[i] for i in range(n)]
        for i in range(n):
            if restarted[i]:
                x[i], v[i] = p[i], np.zeros_like(v[i])
                stagnation[i] = 0 if s.restart_reset else stagnation[i]
        history.append(
            {
                "asked": np.array(asked).reshape(-1, len(experts[0])),
                "positions": np.array(x),
                "velocities": np.array(v),
                "personal_best": np.array(p),
                "personal_best_scores": np.array(p_score),
                "scores": np.array(scores),
                "global_best": g,
                "global_best_score": g_score,
                "global_worst": w,
                "global_worst_score": w_score,
                "step_length": step,
                "stagnation": np.array(stagnation),
                "unchanged": unchanged,
                "restarted": np.array(restarted),
                "skipped": np.array(skipped),
            }
        )
        if unchanged >= s.patience:
            break
    return history


ROWS = ("asked", "positions", "velocities", "personal_best", "global_best", "global_worst")
NUMBERS = ("scores", "personal_best_scores", "global_best_score", "global_worst_score", "step_length")
EXACT = ("stagnation", "unchanged", "restarted", "skipped")


def search_on_rows(experts, utility, s, seed):
    """What the code under test remembers after every iteration, its rows materialised."""
    swarm = ParticleSwarm(len(experts), s, seed)
    history = []
    while swarm.finished is None:
        asked = swarm.ask()
        swarm.tell([utility(row @ experts) for row in asked])
        seen = {"asked": asked, **vars(swarm.state)}
        history.append({name: seen[name] @ experts if name in ROWS else seen[name] for name in ROWS + NUMBERS + EXACT})
    return history


def smooth(weights):
    """A quadratic with its maximum in the middle of nowhere, and some waves."""
    return float(-np.mean((weights - 0.3) ** 2) + 0.1 * np.sin(3 * weights).mean())


def stepped(weights):
    """Few values: most particles stagnate most of the time, and ties are everywhere."""
    return math.floor(4 * smooth(weights)) / 4


def flat(weights):
    """Never anything better."""
    return 0.5


CASES = {
    "smooth": (smooth, {}),
    "smooth, restarts at once": (smooth, {"restart_patience": 1}),
    "stepped": (stepped, {"restart_patience": 2}),
    "flat": (flat, {"restart_patience": 3}),
    "dropped iterations": (smooth, {"drop_iteration": 0.3, "restart_patience": 2}),
    "dropped particles": (stepped, {"drop_particle": 0.4, "restart_patience": 2}),
    "both drops, towards the best": (
        smooth,
        {"drop_iteration": 0.2, "drop_particle": 0.3, "restart_patience": 2, "initial_velocity": "best"},
    ),
    "at rest": (stepped, {"initial_velocity": "zero"}),
    "fewer particles than experts": (smooth, {"particles": 3, "restart_patience": 2}),
    "floor and fast decay": (smooth, {"step_decay": 0.5, "step_floor": 0.2, "restart_patience": 2}),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_twenty_iterations_on_rows_equal_algorithm_1_on_weights(case, variant):
    utility, changes = CASES[case]
    s = SwarmSettings(**{**VARIANTS[variant], "particles": 12, **changes, "iterations": 20, "patience": 1000})
    experts = np.random.default_rng(7).normal(size=(EXPERTS, PARAMETERS))
    on_rows, on_weights = search_on_rows(experts, utility, s, seed=3), plain_search(experts, utility, s, seed=3)
    assert len(on_rows) == len(on_weights) == 21
    for here, there in zip(on_rows, on_weights, strict=True):
        for name in ROWS + NUMBERS:
            np.testing.assert_allclose(here[name], there[name], rtol=0, atol=1e-9, err_msg=name)
        for name in EXACT:
            assert np.array_equal(here[name], there[name]), name

    # The case must really contain what it is there for.
    if "restart_patience" in changes:
        assert any(one["restarted"].any() for one in on_weights)
    if "drop_iteration" in changes:
        assert any(one["skipped"].all() for one in on_weights)
    if "drop_particle" in changes:
        assert any(one["skipped"].any() and not one["skipped"].all() for one in on_weights)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("utility", [smooth, stepped, flat])
def test_patience_ends_both_after_the_same_iteration(utility, variant):
    s = SwarmSettings(**{**VARIANTS[variant], "particles": 12, "iterations": 60, "patience": 4, "restart_patience": 2})
    experts = np.random.default_rng(8).normal(size=(EXPERTS, PARAMETERS))
    on_rows, on_weights = search_on_rows(experts, utility, s, seed=1), plain_search(experts, utility, s, seed=1)
    assert len(on_rows) == len(on_weights) < 61
    np.testing.assert_allclose(on_rows[-1]["global_best"], on_weights[-1]["global_best"], rtol=0, atol=1e-9)
