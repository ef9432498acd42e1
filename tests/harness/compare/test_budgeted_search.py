"""One definition of the default search: `search` and the method `swarm` of `compare` find the same winner."""

from __future__ import annotations

import pytest

from harness.compare.compare import CompareOptions, compare
from harness.run.adapt import adapt
from harness.run_folder.events import Bus
from harness.run_folder.store import Store
from harness.session.session import open_session
from harness.session.settings import run_settings


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_search_and_compare_find_the_same_winner(preset, base, adapters, tmp_path):
    flat = {"task": "medical", "edition": "mini", "limit": 4, "base_model": str(base), "device": "cpu", "seed": 3}
    flat |= {"experts": [str(folder) for folder in adapters], "preset": preset, "particles": 4, "iterations": 2}
    settings = run_settings({**flat, "patience": 50})
    session, store = open_session(settings), Store.create(tmp_path / "search", {})
    try:
        searched = adapt(session, store, Bus())
    finally:
        store.close()
        session.close()
    budget = searched.evaluations + (preset == "default")  # the mean of the top rows is one evaluation more
    found = compare([settings], CompareOptions(("swarm",), 1, budget), tmp_path / "compare")
    (outcome,) = found.outcomes
    assert outcome.evaluations == budget
    assert outcome.coefficients == pytest.approx(searched.winner.coefficients, abs=1e-12)
    assert outcome.test.value == searched.winner.test and outcome.dev.value == searched.winner.dev
