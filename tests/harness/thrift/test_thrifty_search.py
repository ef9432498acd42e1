"""The main job with `--saving`, on tiny real models: the same result, or a race that can be stopped at any time."""

import json

import pytest

from harness.run.adapt import adapt
from harness.run_folder.events import Bus
from harness.run_folder.store import Store
from harness.session.session import prepare
from harness.session.settings import run_settings
from utilities import statistics
from utilities.errors import UserError


@pytest.fixture(scope="module")
def given(base, adapters):
    """Settings of a small job; a test adds its own."""

    def make(**changes):
        flat = {"task": "medical", "edition": "mini", "limit": 12, "base_model": str(base), "particles": 6}
        flat |= {"iterations": 4, "experts": [str(folder) for folder in adapters], "device": "cpu"}
        return run_settings({**flat, **changes})

    return make


@pytest.fixture(autouse=True)
def rough_intervals(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 100)


class Killed(Exception):
    """In place of a kill."""


class Stopping(Store):
    """A store that stops the run when it is about to save the checkpoint of an iteration."""

    def save_checkpoint(self, state):
        super().save_checkpoint(state)
        if len(list((self.folder / "records").glob("iter_*"))) == 3:
            raise Killed


def job(settings, folder, kind=Store):
    begun = (folder / "settings.yaml").exists()
    store = kind.open(folder) if begun else kind.create(folder, {"settings": settings.model_dump(mode="json")})
    bus = Bus()
    bus.subscribe(store.log)
    try:
        return adapt(prepare(settings), store, bus)
    finally:
        store.close()


def lasting(folder):
    """All of a run that must not depend on how, or in how many parts, it was evaluated."""
    result = json.loads((folder / "result.json").read_text())
    for name in ("seconds", "time_share", "run", "items_saved", "item_evaluations"):
        del result[name]
    for name in ("adapter", "optimism"):
        result["winner"].pop(name)
    return result


def test_the_published_search_finds_the_same_with_exact_pruning(given, tmp_path):
    whole = job(given(preset="paper", iterations=3), tmp_path / "whole")
    pruned = job(given(preset="paper", saving="exact", iterations=3), tmp_path / "pruned")
    assert lasting(tmp_path / "pruned") == lasting(tmp_path / "whole")
    assert pruned.item_evaluations <= whole.item_evaluations
    assert whole.items_saved == 0.0
    assert pruned.items_saved == 1 - pruned.item_evaluations / whole.item_evaluations
    states = [
        json.loads((tmp_path / name / "checkpoint" / "state.json").read_text())["swarm"] for name in ("whole", "pruned")
    ]
    for state in states:
        del state["scores"]
    assert states[0] == states[1]


@pytest.mark.parametrize(
    "optimiser",
    [
        "cma-positive",
        pytest.param("pso-standard", marks=pytest.mark.slow),
        pytest.param("random", marks=pytest.mark.slow),
    ],
)
def test_a_race_that_was_stopped_goes_on_as_if_nothing_had_happened(given, tmp_path, optimiser):
    settings = given(optimiser=optimiser, saving="race", limit=16, iterations=3)
    whole = job(settings, tmp_path / "whole")
    with pytest.raises(Killed):
        job(settings, tmp_path / "stopped", Stopping)
    resumed = job(settings, tmp_path / "stopped")
    assert lasting(tmp_path / "stopped") == lasting(tmp_path / "whole")
    assert (resumed.items_saved, resumed.item_evaluations) == (whole.items_saved, whole.item_evaluations)
    stopped = list((tmp_path / "whole" / "records").glob("stopped_*"))
    assert bool(stopped) == (whole.items_saved > 0)


def test_a_way_of_saving_that_does_not_suit_the_search_is_refused(given):
    with pytest.raises(UserError, match="--saving exact: cma-positive learns from every value"):
        prepare(given(saving="exact"))
    with pytest.raises(UserError, match="--saving race: the published search"):
        prepare(given(preset="paper", saving="race"))
