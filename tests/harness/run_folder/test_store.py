"""The run folder: whole files or none, what was written is read again, one process at a time."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.run_folder import events
from harness.run_folder.events import Finished, Note
from harness.run_folder.store import Store, write_atomically
from utilities.core import Evaluation, ItemResult, Reason, Response, Score, Unscored
from utilities.errors import UserError


@pytest.fixture
def store(tmp_path):
    made = Store.create(tmp_path / "run", {"settings": {"seed": 1}})
    yield made
    made.close()


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def fail(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("stage", ["pathlib.Path.replace", "os.fsync"])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, stage):
    path = tmp_path / "state.json"
    write_atomically(path, "old")
    monkeypatch.setattr(stage, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert files(tmp_path) == ["state.json"]


def test_a_checkpoint_survives_a_failed_replacement(store, monkeypatch):
    store.save_checkpoint({"iteration": 1, "x": [0.1, None]})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            store.save_checkpoint({"iteration": 2})
    assert store.checkpoint() == {"iteration": 1, "x": [0.1, None]}


def test_nan_never_enters_a_checkpoint(store):
    store.save_checkpoint({"x": 1.0})
    with pytest.raises(ValueError, match="Out of range"):
        store.save_checkpoint({"x": math.nan})
    assert store.checkpoint() == {"x": 1.0}


def test_there_is_no_checkpoint_before_the_first(store):
    assert store.checkpoint() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"3", b'{"a": 1', b"\xff\xfe"])
def test_a_damaged_checkpoint_is_a_users_error(store, content):
    path = store.folder / "checkpoint" / "state.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"state\.json is corrupt"):
        store.checkpoint()


@pytest.mark.parametrize("content", ["", "- 1\n- 2\n", "a: [", "three"])
def test_damaged_settings_are_a_users_error(store, content):
    (store.folder / "settings.yaml").write_text(content)
    with pytest.raises(UserError, match=r"settings\.yaml is corrupt"):
        store.settings()


def evaluation():
    results = [
        ItemResult("1", "fact/é", "aa", Response("A", choice_logprobs=(-0.1, -2.5)), Score(1.0)),
        ItemResult("2", "fact/é", "ab", Response("日本語 \u2028 \n\t\x00 🐜", 7, "length"), Score(1 / 3, {"é": 0.5})),
        ItemResult("3", "3", "ac", Response(""), Unscored(Reason.TRUNCATED, "600 tokens, the context has 512")),
        ItemResult("4", "4", "ad", Response("", finish_reason="unanswered"), Unscored(Reason.MALFORMED)),
        ItemResult("5", "5", "ae", Response("B", choice_logprobs=(float("-inf"), -1e-300)), Score(0.1 + 0.2)),
        ItemResult("6", "6", "af", Response("B", more=("true", "", "é\n")), Score(-1.0)),
        ItemResult("7", "7", "ag", Response("", choice_logprobs=()), Unscored(Reason.TIME, "")),
    ]
    return Evaluation.of(results)


def test_records_come_back_as_they_were(store):
    whole = Evaluation(0.5, 0.1, 8, 2, parts={"questions": evaluation(), "fälle": evaluation()})
    store.save_records("iter_0001", [("0", whole), ("7", evaluation())])
    found = store.records("iter_0001")
    assert list(found) == [("0", "questions"), ("0", "fälle"), ("7", "")]
    assert all(results == list(evaluation().results) for results in found.values())


def test_an_iteration_without_evaluations_has_an_empty_record(store):
    store.save_records("iter_0002", [])
    assert store.records("iter_0002") == {}
    assert store.records("iter_0003") is None


def test_records_that_fail_to_be_written_leave_no_file(store, monkeypatch):
    monkeypatch.setattr("pyarrow.parquet.write_table", fail)
    with pytest.raises(OSError, match="No space"):
        store.save_records("iter_0001", [("0", evaluation())])
    assert store.records("iter_0001") is None
    assert not [name for name in files(store.folder) if name.startswith("records")]


def test_damaged_records_are_a_users_error(store):
    (store.folder / "records" / "test_base.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match=r"test_base\.parquet is corrupt"):
        store.records("test_base")


def test_events_come_back_as_they_were(store):
    odd = Note(text="a\u2028b\x85c\nd é")
    sent = [odd, events.Testing(name="日本", done=0, total=3), Finished(reason="r", seconds=1.5)]
    for event in sent:
        store.log(event)
    assert list(store.events()) == sent


def test_an_event_cut_in_half_is_passed_over_and_takes_no_other_with_it(store):
    first, second = Note(text="first"), Note(text="second")
    store.log(first)
    path = store.folder / "events.jsonl"
    half = '{"kind":"note","text":"日'.encode()[:-1]  # in the middle of a character
    path.write_bytes(path.read_bytes() + half)
    assert list(store.events()) == [first]
    store.close()
    again = Store.open(store.folder)
    again.log(second)
    assert list(again.events()) == [first, second]
    again.close()


def test_opening_does_not_touch_a_log_that_is_whole(store):
    store.log(Note(text="first"))
    before = (store.folder / "events.jsonl").read_bytes()
    store.close()
    Store.open(store.folder).close()
    assert (store.folder / "events.jsonl").read_bytes() == before


def test_replacing_makes_the_folder_at_once(store):
    for content in ("one", "two"):
        with store.replacing("best") as folder:
            (folder / content).write_text(content)
            assert not (store.folder / "best" / content).exists()
        assert files(store.folder / "best") == [content]
    assert not list(store.folder.glob(".*partial*"))


def test_replacing_keeps_the_old_folder_when_the_block_fails(store):
    with store.replacing("best") as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), store.replacing("best") as folder:
        (folder / "a").write_text("new")
        raise RuntimeError
    assert (store.folder / "best" / "a").read_text() == "old"
    assert not list(store.folder.glob(".*partial*"))


def test_what_a_kill_left_half_done_is_not_mixed_into_the_folder(store):
    (store.folder / ".best.partial").mkdir()
    (store.folder / ".best.partial" / "old").write_text("half")
    with store.replacing("best") as folder:
        (folder / "new").write_text("whole")
    assert files(store.folder / "best") == ["new"]


def test_a_run_folder_is_not_made_twice(store):
    with pytest.raises(UserError, match="exists already; continue it with"):
        Store.create(store.folder, {})
    assert store.settings() == {"settings": {"seed": 1}}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_run_folder_is_left_alone(tmp_path, kind):
    there = tmp_path / "mine"
    if kind == "folder":
        there.mkdir()
    (there / "thesis.txt" if kind == "folder" else there).write_text("precious")
    with pytest.raises(UserError, match="is no run folder"):
        Store.create(there, {})
    with pytest.raises(UserError, match="is no run folder"):
        Store.open(there)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] in (["mine"], ["thesis.txt"])


def test_a_folder_left_by_a_kill_before_its_settings_can_be_taken(tmp_path):
    for name in ("records", "checkpoint"):
        (tmp_path / "run" / name).mkdir(parents=True)
    (tmp_path / "run" / ".settings.yaml.partial").write_text("sett")
    Store.create(tmp_path / "run", {"a": 1}).close()
    assert Store(tmp_path / "run").settings() == {"a": 1}


def test_an_interrupted_command_is_cleared_and_a_finished_or_another_one_is_not(tmp_path):
    folder = tmp_path / "run"
    for kind, record, cleared in (
        ("evaluated", "dev", True),
        ("evaluated", "evaluate_dev", False),
        ("x", "dev", False),
    ):
        Store.create(folder, {kind: "dev"}).close()
        (folder / "records" / f"{record}.parquet").write_bytes(b"")
        Store.clear_interrupted(folder, "evaluated", "records/evaluate_*.parquet")
        assert (not (folder / "settings.yaml").exists()) == cleared == Store.is_unbegun(folder)
        folder.rename(tmp_path / f"{kind}-{record}")
    Store.create(folder, {"evaluated": "dev"}).close()
    (folder / "notes.txt").write_text("my own file")
    Store.clear_interrupted(folder, "evaluated", "records/evaluate_*.parquet")
    assert (folder / "notes.txt").exists()
    Store.clear_interrupted(tmp_path / "nowhere", "evaluated", "records/*")


def test_a_second_opener_is_refused_until_the_first_lets_go(store):
    with pytest.raises(UserError, match="in use by another process"):
        Store.open(store.folder)
    store.close()
    Store.open(store.folder).close()


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    folder = tmp_path / "run"
    Store.create(folder, {}).close()
    code = (
        "import sys, time; from pathlib import Path; from harness.run_folder.store import Store\n"
        "store = Store.open(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="in use by another process"):
            Store.open(folder)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    Store.open(folder).close()


def test_the_result_is_written_as_given(store):
    store.save_result('{"é": 1}\n')
    assert json.loads((store.folder / "result.json").read_bytes()) == {"é": 1}
