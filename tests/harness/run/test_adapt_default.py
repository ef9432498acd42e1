"""The default search on tiny real models: its objective, its winner, its records, and that a stop changes nothing."""

import json

import numpy as np
import pytest
import torch
from test_adapt import Stopped, job, lasting, plain_value

from harness.experts.pool import open_pool
from harness.run_folder.events import Evaluated, IterationDone, Started
from harness.run_folder.store import Store
from harness.session.session import open_session
from harness.session.settings import run_settings
from utilities.combine import combine_evaluations
from utilities.core import Evaluation
from utilities.errors import UserError
from utilities.objective import as_objective

slow = pytest.mark.slow
SEARCHES = ["cma-positive", *(pytest.param(name, marks=slow) for name in ("cma", "pso-standard", "random", "pso"))]


@pytest.fixture(scope="session")
def given(base, adapters):
    def make(**changes):
        flat = {"task": "medical", "edition": "mini", "limit": 10, "base_model": str(base), "particles": 5}
        flat |= {"iterations": 3, "experts": [str(folder) for folder in adapters], "device": "cpu", "top_k": 3}
        return run_settings({**flat, **changes})

    return make


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    folder, seen = tmp_path_factory.mktemp("default") / "run", []
    return job(given(), folder, seen.append), folder, seen


def objectives(folder, combine):
    """What the objective says of every row, from the records alone."""
    store, found = Store(folder), []
    for path in sorted((folder / "records").glob("iter_*.parquet")):
        rows = {}
        for (label, part), results in store.records(path.stem).items():
            rows.setdefault(label, {})[part] = Evaluation.of(results)
        found += [as_objective(combine_evaluations(parts, combine), "smooth", combine).value for parts in rows.values()]
    return found


def test_it_says_what_it_was(whole, given):
    result, _, seen = whole
    assert (result.optimiser, result.objective) == ("cma-positive", "smooth")
    assert result.evaluations == 3 + 3 * 5  # the experts, then three generations
    assert result.item_evaluations == result.evaluations * 20
    started = next(event for event in seen if isinstance(event, Started))
    assert started.labels == [f"mixture {k}" for k in range(1, 6)]
    done = [event for event in seen if isinstance(event, IterationDone)]
    assert [len(event.scores) for event in done] == [3, 5, 5, 5]
    assert all(event.best == [] and event.step_length is None for event in done)
    told = {e.particle: e.value for e in seen if isinstance(e, Evaluated) and e.iteration == 2}
    assert [told[k] for k in range(5)] == done[2].scores  # the metric, not the objective
    assert done[-1].objective != done[-1].global_best


def test_the_winner_is_the_mean_of_the_best_rows_and_scores_what_is_said(whole, given, base):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    result, folder, _ = whole
    checkpoint = json.loads((folder / "checkpoint" / "state.json").read_text())
    rows = [(objective, row) for *_, objective, row in checkpoint["evaluated"].values()]
    rows.sort(key=lambda one: -one[0])
    assert result.winner.finalist == "top-k-mean"
    expected = np.mean([row for _, row in rows[:3]], axis=0)
    np.testing.assert_allclose(list(result.winner.coefficients.values()), expected)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), result.winner.adapter)
    assert result.winner.dev == pytest.approx(plain_value(model, base, given(), "dev"), abs=1e-12)
    assert result.winner.test == pytest.approx(plain_value(model, base, given(), "test"), abs=1e-12)
    assert "winner `top-k-mean`" in " ".join((folder / "best" / "README.md").read_text().split())


def test_the_records_tell_the_objective(whole, given):
    checkpoint = json.loads((whole[1] / "checkpoint" / "state.json").read_text())
    told = sorted(objective for *_, objective, _ in checkpoint["evaluated"].values())
    assert sorted(objectives(whole[1], open_session(given()).task.combine)) == pytest.approx(told)


def test_the_best_row_wins_where_that_is_asked(given, tmp_path):
    result = job(given(winner="best", objective="metric"), tmp_path / "run")
    assert result.winner.finalist == "best"
    checkpoint = json.loads((tmp_path / "run" / "checkpoint" / "state.json").read_text())
    assert result.winner.dev == max(value for value, *_ in checkpoint["evaluated"].values())


@pytest.mark.parametrize("optimiser", SEARCHES)
def test_every_search_ends_the_same_when_it_is_stopped(optimiser, given, tmp_path):
    settings = given(optimiser=optimiser)
    undisturbed = job(settings, tmp_path / "whole")
    assert undisturbed.optimiser == optimiser
    for kind, count in (("evaluated", 7), ("iteration", 2), ("testing", 2)):
        left = [count]

        def stop(event, kind=kind, left=left):
            left[0] -= event.kind == kind
            if left[0] == 0:
                raise Stopped

        folder = tmp_path / kind
        with pytest.raises(Stopped):
            job(settings, folder, stop)
        job(settings, folder)
        assert lasting(folder) == lasting(tmp_path / "whole"), kind


def test_finalists_are_compared_on_items_that_no_search_has_seen(given, tmp_path):
    settings = given(validation_share=0.3)
    session = open_session(settings)
    seen = {item.id for s in session.task.item_sets.values() for item in s.dev}
    held = {item.id for s in session.validation_set.item_sets.values() for item in s.dev}
    assert session.task.size("dev") + session.validation_set.size("dev") == 20
    result = job(settings, tmp_path / "run")
    assert result.winner.confirmed.n == session.validation_set.size("dev")
    assert result.winner.optimism is None
    values = {}
    for name in ("top-k-mean", "best", "best_initial"):
        evaluation = Store(tmp_path / "run").evaluation(f"validation_{name}", session.task.combine)
        assert {r.item_id for leaf in evaluation.leaves.values() for r in leaf.results} <= held
        values[name] = as_objective(evaluation, "smooth", session.task.combine).value
    assert values[result.winner.finalist] == max(values.values())
    assert seen  # the search had others
    again = job(settings, tmp_path / "run")
    assert again.winner == result.winner


def test_an_objective_that_there_is_not_is_refused_before_a_model_is_loaded(given):
    with pytest.raises(UserError, match="--objective smooth: the scorer of item set"):
        open_session(given(utility="gold_logprob", combine="mean", objective="smooth"))


def test_ten_items_are_enough_to_end(given, tmp_path):
    result = job(given(limit=5, iterations=1), tmp_path / "run")
    assert result.rows[-1].kind == "winner"
    assert torch.isfinite(torch.tensor(result.winner.test))


def test_a_pool_of_one_works(given, adapters, base, tmp_path):
    assert open_pool([str(adapters[0])], base).names == ["ant"]
    result = job(given(experts=[str(adapters[0])], iterations=1), tmp_path / "run")
    assert list(result.winner.coefficients) == ["ant"]
