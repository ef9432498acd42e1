"""The engine starts while data and experts are read, is the right one, and is closed whatever happens meanwhile."""

from __future__ import annotations

import threading

import pytest
import torch
from conftest import refused

from harness.engines.base import engines
from harness.session import engine_start
from harness.session import session as preparation
from harness.session.engine_start import best_engine, make_engine
from harness.session.session import open_session
from harness.session.settings import run_settings
from utilities.errors import UserError

LONG = 60.0


class Slow:
    """An engine that is not there before the task is read."""

    def __init__(self, read):
        assert read.wait(LONG), "the task was not read meanwhile"
        self.closed = threading.Event()

    def close(self):
        self.closed.set()


@pytest.fixture
def read(monkeypatch):
    """Set when the task is read."""
    event, load = threading.Event(), preparation.load_task_of

    def loaded(*given):
        event.set()
        return load(*given)

    monkeypatch.setattr(preparation, "load_task_of", loaded)
    return event


@pytest.fixture
def settings(base, adapters):
    flat = {"task": "medical", "edition": "mini", "limit": 4, "base_model": str(base), "device": "cpu"}
    return run_settings({**flat, "experts": [str(folder) for folder in adapters]})


def test_the_engine_starts_while_data_and_experts_are_read(settings, read, monkeypatch):
    made, begun, checked, check = [], threading.Event(), [], preparation.check_finite

    def make(*given):
        begun.set()
        made.append(Slow(read))
        return made[-1]

    def finite(pool):
        checked.append(begun.wait(LONG))
        check(pool)

    monkeypatch.setattr(engine_start, "make_engine", make)
    monkeypatch.setattr(preparation, "check_finite", finite)
    session = open_session(settings, start=True)
    assert session.engine() is session.engine() is made[0]
    assert checked == [True]  # it had begun when the experts' numbers were looked at
    session.close()
    assert made[0].closed.wait(LONG) and len(made) == 1


def test_why_it_did_not_start_is_told_when_it_is_needed(settings, monkeypatch):
    def make(*given):
        raise UserError("no room on the card")

    monkeypatch.setattr(engine_start, "make_engine", make)
    session = open_session(settings, start=True)
    with pytest.raises(UserError, match="no room on the card"):
        session.engine()
    session.close()


def test_an_engine_that_starts_is_closed_where_the_data_is_refused(settings, read, monkeypatch):
    made = []

    def make(*given):
        made.append(Slow(read))
        return made[-1]

    def refuse(*given):
        read.set()
        raise UserError("no such item")

    monkeypatch.setattr(engine_start, "make_engine", make)
    monkeypatch.setattr(preparation, "load_task_of", refuse)
    with pytest.raises(UserError, match="no such item"):
        open_session(settings, start=True)
    for thread in [one for one in threading.enumerate() if one.name == "engine-start"]:
        thread.join(LONG)
    assert made[0].closed.wait(LONG)


def test_a_mistake_in_the_data_ends_the_program_in_one_line_though_the_engine_was_starting(here, tmp_path):
    (tmp_path / "none").mkdir()
    done = here("--task", "electric_vehicles", "--evidence", tmp_path / "none", "--out", tmp_path / "runs")
    refused(done, "holds no passage")
    assert "terminate" not in done.stderr


def test_without_being_asked_to_it_starts_nothing(settings, monkeypatch):
    monkeypatch.setattr(engine_start, "make_engine", None)
    assert open_session(settings).starting is None


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("gpu", [True, False])
def test_auto_is_vllm_where_it_and_a_gpu_are_there(installed, gpu, settings, monkeypatch):
    monkeypatch.setattr(engine_start, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert best_engine(open_session(settings).pool) == ("vllm" if installed and gpu else "local")


def test_there_are_as_many_slots_as_particles_unless_told_otherwise(settings, monkeypatch):
    told = []
    monkeypatch.setitem(engines._entries, "local", lambda base, pool, asked, state: told.append(asked.adapter_slots))
    session = open_session(settings)
    swarm = settings.swarm.model_copy(update={"particles": 7})
    some = settings.engine_settings.model_copy(update={"adapter_slots": 3})
    for one in (settings.model_copy(update={"swarm": swarm}), settings.model_copy(update={"engine_settings": some})):
        make_engine(one.model_copy(update={"engine": "local"}), session.base, session.pool)
    assert told == [7, 3]
