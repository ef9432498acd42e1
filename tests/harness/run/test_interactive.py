"""A session from Python: rows, caching, what a search may change, and what is refused."""

import asyncio

import pytest

from harness.run.interactive import Session
from utilities.core import Item
from utilities.errors import UserError
from utilities.tasks import Task

ITEMS = [
    Item(id=str(k), question=f"Is {k} even?", choices={"A": "yes", "B": "no"}, answer="AB"[k % 2]) for k in range(8)
]


@pytest.fixture(scope="module")
def session(base, adapters, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        settings = {"particles": 3, "iterations": 1, "dtype": "float32", "device": "cpu"}
        with Session(task=ITEMS, base_model=base, experts=adapters, **settings) as opened:
            yield opened


def test_a_row_is_written_in_several_ways(session):
    assert session.experts == ["ant", "bee", "cat"]
    assert list(session.expert("bee")) == [0.0, 1.0, 0.0]
    one = session.evaluate({"ant": 0.5, "cat": -0.25}, "dev")
    assert session.evaluate([0.5, 0.0, -0.25], "dev") is one
    assert session.evaluate(session.base, "dev").value == session.evaluate([0.0, 0.0, 0.0], "dev").value


def test_equal_rows_are_evaluated_once(session, monkeypatch):
    calls, evaluate = [], Task.__call__

    async def counted(self, model, split):
        calls.append(split)
        return await evaluate(self, model, split)

    monkeypatch.setattr(Task, "__call__", counted)

    async def cell():
        first = session.evaluate([0.25, 0.25, 0.5], "test")  # synchronous, under a running loop
        return first, await session.evaluate_async([0.25, 0.25, 0.5], "test")

    first, second = asyncio.run(cell())
    assert first is second
    assert calls == ["test"]


def test_searches_share_the_engine_and_have_settings_of_their_own(session, tmp_path):
    engine = session._engine
    one = session.search(out=tmp_path, display="none", seed=1)
    two = session.search(out=tmp_path, display="none", optimiser="pso", iterations=2, seed=1)
    assert session._engine is engine or engine is None
    assert [run.folder.name for run in (one, two)] == ["items-seed1", "items-seed1-2"]
    assert (two.settings["optimiser"], two.result.iterations) == ("pso", 2)
    assert one.settings["optimiser"] == "cma-positive"
    for run in (one, two):
        assert run.table().set_index("name").loc["ant", "dev"] == session.evaluate(session.expert("ant")).value
        assert run.result.time_share.forward > 0


@pytest.mark.parametrize("row", [[1.0], [1.0, 0.0, float("nan")], [[1.0, 0.0, 0.0]], {"dog": 1.0}])
def test_what_is_no_row_is_refused(session, row):
    with pytest.raises(UserError, match=r"a row has a finite coefficient for each of 3 experts|unknown expert 'dog'"):
        session.evaluate(row)


def test_a_search_cannot_change_what_the_session_has_opened(session, tmp_path):
    with pytest.raises(UserError, match="'base_model' is not a setting of a search"):
        session.search(out=tmp_path, base_model="other")
    assert list(tmp_path.iterdir()) == []


def test_a_closed_session_is_refused(base, adapters, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    async def cell():
        async with Session(task=ITEMS, base_model=base, experts=adapters[0], device="cpu") as opened:
            value = (await opened.evaluate_async(opened.base)).n
        return opened, value

    closed, n = asyncio.run(cell())
    assert n == 4
    closed.close()  # again: nothing happens
    with pytest.raises(UserError, match="the session is closed"):
        closed.evaluate(closed.base)
