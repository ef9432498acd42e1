"""`import harness`: light, complete in `dir`, and the functions do what the verbs do."""

import asyncio
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from utilities import UserError, utility
from utilities.core import Item, scorer_registry

ROOT = Path(__file__).parents[2]
ITEMS = [
    Item(id=str(k), question=f"Is {k} even?", choices={"A": "yes", "B": "no"}, answer="AB"[k % 2]) for k in range(8)
]


@pytest.fixture(autouse=True)
def here_and_own_cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def settings(base, adapters):
    small = {"particles": 3, "iterations": 1, "dtype": "float32", "device": "cpu", "seed": 1}
    return {"task": ITEMS, "base_model": base, "experts": adapters, **small}


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """Utilities that a test registers are not there for others."""
    monkeypatch.setattr(scorer_registry, "_entries", dict(scorer_registry._entries))


def test_importing_it_loads_nothing_heavy():
    code = "import harness, sys, json; harness.__version__; dir(harness); print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pandas", "pydantic", "typer"} & set(json.loads(done.stdout))


def test_every_public_name_is_in_dir_and_resolves():
    assert dir(harness) == sorted(harness.__all__) == harness.__all__
    for name in harness.__all__:
        assert getattr(harness, name) is not None
    assert (ROOT / "harness" / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        harness.serch  # noqa: B018 - looking it up is the test


def test_functions_have_documented_pairs():
    for name in ("search", "evaluate", "compare", "sweep", "lab"):
        assert callable(getattr(harness, name))
        assert inspect.getdoc(getattr(harness, name))
        assert inspect.iscoroutinefunction(getattr(harness, f"{name}_async"))
    from harness.compare.result import Compared  # a room of the same name is still a package

    assert harness.compare.result.Compared is Compared


def test_a_search_returns_its_run(settings, tmp_path):
    events = []
    run = harness.search(**settings, name="mine", display="none", on_event=events.append)
    assert run.folder == Path("runs/mine").absolute() or run.folder == Path("runs/mine")
    assert events[0].kind == "started"
    assert events[-1].kind == "finished"
    assert list(run.table()["name"]) == ["base model", "ant", "bee", "cat", "winner"]
    assert set(run.winner.coefficients) == {"ant", "bee", "cat"}
    assert list(run.history["iteration"]) == [0, 1]
    assert not run.answers["question"].isna().any()
    assert harness.open_run(run.folder).result == run.result


def test_the_async_search_repeats_it(settings):
    one = harness.search(**settings, display="none")

    async def cell():
        under_a_loop = harness.search(**settings, display="none")
        return under_a_loop, await harness.search_async(**settings, display="none")

    for other in asyncio.run(cell()):
        assert other.folder != one.folder
        assert other.winner.coefficients == one.winner.coefficients
        assert other.result.winner.test == one.result.winner.test


def test_the_settings_of_a_run_repeat_it(settings):
    one = harness.search(**settings, display="none")
    again = harness.search(**one.settings, display="none")
    assert again.winner.coefficients == one.winner.coefficients


def test_a_session_evaluates_and_searches(settings):
    @utility(max_tokens=3)
    def length(item, response):
        return len(response.text) / 100

    with harness.Session(**settings, utility=length) as session:
        base = session.evaluate(session.base, "dev")
        bee = session.evaluate(session.expert("bee"), "dev")
        mixture = session.evaluate([0.5, 0.5, 0.0], "dev")
        run = session.search(optimiser="random", display="none")
    assert base.n == bee.n == mixture.n == 4
    assert len({base.results[0].response.text, bee.results[0].response.text, mixture.results[0].response.text}) > 1
    assert run.settings["optimiser"] == "random"
    table = run.table().set_index("name")
    assert table.loc["bee", "dev"] == bee.value
    assert table.loc["base model", "dev"] == base.value


def test_evaluate_returns_a_table(settings):
    table = harness.evaluate(**settings, split="test")
    assert list(table.columns) == ["name", "value", "se", "n", "unscored", "problem"]
    assert list(table["name"]) == ["base model", "ant", "bee", "cat"]
    assert (table["n"] == 4).all()


def test_compare_and_lab_return_their_documents(settings):
    methods, planned = ["base", "best_single", "ties"], ["ties:base"]
    compared = harness.compare(**settings, methods=methods, contrasts=planned, seeds=1, budget=4, display="none")
    assert [outcome.method for outcome in compared.outcomes] == methods
    assert [f"{one.method}:{one.reference}" for one in compared.contrasts] == planned
    assert list(Path("runs").glob("compare-*/compare.json"))

    def longer(item, response):
        return len(response.text)

    examination = harness.lab(longer, **settings, cloud=0, probes=4, display="none")
    assert [examined.utility for examined in examination.designs] == ["longer"]


def test_mistakes_are_user_errors(settings):
    with pytest.raises(UserError, match="unknown optimiser 'cam'"):
        harness.search(**settings, optimiser="cam")
    with pytest.raises(UserError, match="unknown setting 'particels'"):
        harness.search(**settings, particels=3)
