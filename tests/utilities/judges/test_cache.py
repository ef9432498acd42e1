"""The cache of judgements: nothing paid for is lost, whoever is killed, whoever else writes."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from utilities.errors import UserError
from utilities.judges.cache import JudgementCache, cache_key
from utilities.judges.parsing import Message, Reply

ROOT = Path(__file__).parents[3]

WRITER = """
import sys
from pathlib import Path
from utilities.judges.cache import JudgementCache
cache = JudgementCache(Path(sys.argv[1]))
for k in range(int(sys.argv[3])):
    cache.put(f"{sys.argv[2]}{k}", f"reply {k} " + "x" * 1000)
    print(k, flush=True)
"""


def writer(path, name, n):
    command = [sys.executable, "-c", WRITER, str(path), name, str(n)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def question(**changes):
    asked = {
        "endpoint": "http://localhost:8000/v1",
        "model": "judge",
        "messages": [Message("system", "Be strict."), Message("user", "Rate this.")],
        "parameters": {"temperature": 0.0, "max_tokens": 512},
        "replicate": 0,
    }
    return cache_key(**{**asked, **changes})


# What is kept


@pytest.mark.parametrize("path", [None, "deep/in/judgements.sqlite"])
def test_what_was_put_is_got_and_what_was_not_is_none(tmp_path, path):
    with closing(JudgementCache(path and tmp_path / path)) as cache:
        reply = Reply('8/10 "é" \ud800 \x00').to_json()
        assert cache.get("a") is None
        cache.put("a", reply)
        assert cache.get("a") == reply
        assert cache.get("b") is None


def test_a_second_reply_under_a_key_replaces_the_first():
    with closing(JudgementCache()) as cache:
        cache.put("a", "unreadable")
        cache.put("a", "better")
        assert cache.get("a") == "better"


def test_a_reply_is_on_disk_before_put_returns(tmp_path):
    with closing(JudgementCache(tmp_path / "c")) as first, closing(JudgementCache(tmp_path / "c")) as second:
        first.put("a", "1")
        assert second.get("a") == "1"
        second.put("b", "2")
        assert first.get("b") == "2"
    with closing(sqlite3.connect(tmp_path / "c")) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_cache_may_be_closed_twice_and_then_says_that_it_is_closed():
    cache = JudgementCache()
    cache.close()
    cache.close()
    with pytest.raises(sqlite3.ProgrammingError):
        cache.get("a")


# Other processes


def test_a_killed_process_loses_no_judgement_that_was_put(tmp_path):
    path = tmp_path / "judgements.sqlite"
    with writer(path, "k", 1_000_000) as child:
        for _ in range(200):
            last = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        told = child.stdout.read().split("\n")[:-1]  # the last line may be half a number
    assert child.returncode == -signal.SIGKILL
    last = int(told[-1]) if told else last
    with closing(JudgementCache(path)) as cache:
        assert all(cache.get(f"k{k}").startswith(f"reply {k} ") for k in range(last + 1))
        cache.put("after", "1")
        assert cache.get("after") == "1"
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_processes_share_one_file_from_its_first_moment(tmp_path):
    path = tmp_path / "judgements.sqlite"
    children = [writer(path, name, 300) for name in "abc"]
    with closing(JudgementCache(path)) as mine:
        for k in range(300):
            mine.put(f"d{k}", f"reply {k}")
        assert [child.communicate()[0].count("\n") for child in children] == [300] * 3
        assert [child.returncode for child in children] == [0] * 3
        assert all(mine.get(f"{name}{k}").startswith(f"reply {k}") for name in "abcd" for k in range(300))


# Files that cannot be used


def message(path, use=lambda cache: cache.get("a")):
    with pytest.raises(UserError) as caught, closing(JudgementCache(path)) as cache:
        use(cache)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_no_database_is_named_with_what_removing_it_costs(tmp_path):
    path = tmp_path / "judgements.sqlite"
    path.write_bytes(b"not a database, but long enough to look at. " * 100)
    assert "is damaged" in message(path) and "costs only the judgements" in message(path)


def test_a_database_with_a_broken_page_is_named_when_the_page_is_read(tmp_path):
    path = tmp_path / "judgements.sqlite"
    with closing(JudgementCache(path)) as cache:
        for k in range(200):
            cache.put(f"{k}", "x" * 1000)
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\x99" * (len(whole) - 4096))
    assert "is damaged" in message(path)
    assert "is damaged" in message(path, lambda cache: cache.put("new", "1"))


def test_a_path_that_is_no_file_cannot_be_used(tmp_path):
    assert "cannot be used" in message(tmp_path)
    (tmp_path / "file").write_text("")
    assert "cannot be used" in message(tmp_path / "file" / "judgements.sqlite")


def test_a_database_of_others_is_not_written_to(tmp_path):
    path = tmp_path / "theirs.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE judgements (verdict TEXT)")
    assert "cannot be used" in message(path)
    assert "cannot be used" in message(path, lambda cache: cache.put("a", "1"))


# Keys


def test_equal_questions_have_one_key_however_they_are_written():
    assert question() == question()
    assert question(parameters={"max_tokens": 512, "temperature": 0.0}) == question()
    assert question(messages=(("system", "Be strict."), ("user", "Rate this."))) == question()
    assert question(endpoint="http://localhost:8000/v1/") == question()
    assert len(question()) == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "http://localhost:8001/v1"},
        {"endpoint": "https://localhost:8000/v1"},
        {"model": "judge2"},
        {"messages": [Message("user", "Be strict."), Message("user", "Rate this.")]},
        {"messages": [Message("system", "Be strict.Rate this."), Message("user", "")]},
        {"messages": [Message("user", "Rate this."), Message("system", "Be strict.")]},
        {"parameters": {"temperature": 0.5, "max_tokens": 512}},
        {"parameters": {"temperature": 0.0, "max_tokens": 1024}},
        {"parameters": {"temperature": 0.0, "max_tokens": 512, "schema": {"type": "object"}}},
        {"replicate": 1},
    ],
    ids=str,
)
def test_every_part_of_a_question_is_in_its_key(changes):
    assert question(**changes) != question()


@given(st.text(), st.text())
def test_any_text_has_a_key_and_different_texts_have_different_ones(one, other):
    keys = {question(messages=[Message("user", text)]) for text in (one, other)}
    assert len(keys) == len({one, other})


def test_credentials_in_an_endpoint_decide_nothing():
    assert question(endpoint="http://me:secret@localhost:8000/v1?api_key=secret") == question()


def test_a_key_of_an_account_cannot_enter_a_question():
    with pytest.raises(TypeError) as caught:
        question(parameters={"api_key": SecretStr("sk-secret")})
    assert "sk-secret" not in str(caught.value)
