"""A search whose objective is a judge: its cost, budget, hold-out and canaries, and what is measured beside."""

import hashlib
import itertools
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from conftest import refused
from stub_server import JudgeServer, cut, error, says

from harness.run_folder.store import Store

KEY = "sk-a-key-that-nobody-may-ever-see"
CRITERIA = ("relevance", "usefulness", "specificity", "clarity")


def level(text):
    """A judge without taste, but with a memory: the same answer gets the same level."""
    return 1 + int(hashlib.sha256(text.encode()).hexdigest(), 16) % 9


def honest(asked):
    """Answers every prompt of the topic tasks in its form."""
    return says(_reply(asked), usage=(900, 100))


def _reply(asked):
    question = asked.body["messages"][0]["content"]  # the same again where a reply had to be corrected
    if '"claims"' in question:
        found = re.findall(r"^\d+\. (.*)$", question, re.M) if "stand" in question else []
        return json.dumps({"claims": found or [f"Claim {level(question)}.", "Another claim."]})
    if '"verdict"' in question and '"clarity"' not in question:  # else: a canary that imitates a verdict
        return json.dumps({"reason": "so", "verdict": "supported" if level(question) > 4 else "contradicted"})
    return json.dumps({"reason": "so", **dict.fromkeys(CRITERIA, level(question))})


@pytest.fixture
def server():
    with JudgeServer() as running:
        running.answer = honest
        yield running


@pytest.fixture
def topic(base, adapters, tmp_path, monkeypatch, server):
    """Options of a small judged search, in whose folder the command line is called."""
    items = {
        "dev": [f"Tell me about {word} in a few words." for word in ("ants", "bees", "cats", "dogs", "elks", "foxes")],
        "test": [f"What is there to know about {word}?" for word in ("gnus", "hens", "ibises")],
    }
    edition = {
        "item_sets": {
            "instructions": {
                "scorer": "topic_interest",
                "options": {"topic": "animals", "prompt": "plain", "max_tokens": 12},
                "items": items,
            }
        },
        "beside": {"factuality": {"scorer": "factuality", "options": {"k": 2}}},
    }
    task = {"name": "animals", "title": "Animals", "editions": {"own": edition}}
    (tmp_path / "animals.yaml").write_text(yaml.safe_dump(task))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    experts = [part for folder in adapters for part in ("--experts", folder)]
    judge = ["--judge", "stub-1", "--judge-url", server.url]
    return ["--task", "animals.yaml", "--base-model", base, *experts, "--device", "cpu", *judge]


SEARCH = ["--iterations", 2, "--particles", 3, "--patience", 2, "--out", "runs", "--display", "plain"]


def result_of(name):
    return json.loads(Path("runs", name, "result.json").read_text())


def different(server):
    return {json.dumps(asked.body, sort_keys=True) for asked in server.requests}


def test_a_judged_search_reports_cost_hold_out_and_what_is_beside(here, topic, server):
    done = here(*topic, *SEARCH, "--name", "one")
    assert done.returncode == 0, done.stderr
    found = result_of("one")
    assert found["judging"]["judges"] == ["stub-1"]
    assert found["judging"]["requests"] == len(server.requests) == len(different(server))
    assert found["judging"]["usd"] == 0.0 and found["judging"]["prompt_tokens"] > 0
    with_facts = [row["name"] for row in found["rows"] if row["report_only"]]
    assert with_facts == ["base model", found["best_initial"], "winner"]
    assert all(row["report_only"]["factuality"]["n"] == 3 for row in found["rows"] if row["report_only"])
    first = found["watched"][0]
    assert first["hold_out"] is not None and first["initial_hold_out"] is not None and first["canaries"]
    assert found["watched"][-1]["objective"] == pytest.approx(found["winner"]["dev"])  # and not of another row
    assert "factuality" in done.stdout and "judges: " in done.stdout and "monitor: objective" in done.stdout
    last = [line for line in done.stdout.splitlines() if line.startswith("monitor: objective")][-1]
    assert "canaries at most" in last


def test_held_out_instructions_are_no_part_of_the_objective(here, topic):
    assert here(*topic, *SEARCH, "--name", "one").returncode == 0
    records = Store.open(Path("runs/one")).records("iter_0000")
    assert {len(results) for results in records.values()} == {4}  # of six, two are held out
    assert here(*topic, *SEARCH, "--name", "all", "--monitor-share", 0).returncode == 0
    assert result_of("all")["watched"][0]["hold_out"] is None


def test_the_records_say_who_judged_with_which_prompt_and_every_claim(here, topic):
    assert here(*topic, *SEARCH, "--name", "one").returncode == 0
    store = Store.open(Path("runs/one"))
    (results,) = store.records("test_winner").values()
    for result in results:
        notes = json.loads(result.outcome.notes)
        assert notes["prompt"] == "topic_interest_rubric" and notes["hash"] and notes["version"] == 1
        assert notes["judgements"][0]["judge"] == "stub-1"
    (facts,) = store.records("beside_factuality_winner").values()
    claims = [claim for result in facts for claim in json.loads(result.outcome.notes)["claims"]]
    assert claims and all(claim["verdict"] in {"supported", "contradicted", "inconclusive"} for claim in claims)


def test_a_spent_budget_stops_the_run_and_more_of_it_continues_without_paying_twice(here, topic, server):
    refused(here(*topic, *SEARCH, "--name", "one", "--budget-tokens", 60_000), "budget", "resume", "runs/one")
    paid = len(server.requests)
    assert paid > 0
    refused(here("resume", "runs/one", "--display", "none"), "budget")
    assert here("resume", "runs/one", "--display", "none", "--budget-tokens", 10_000_000).returncode == 0
    assert len(server.requests) == len(different(server)) > paid
    assert result_of("one")["judging"]["requests"] == len(server.requests)
    assert here(*topic, *SEARCH, "--name", "two").returncode == 0
    assert len(server.requests) == len(different(server))  # the other run is paid already
    assert [row["test"] for row in result_of("one")["rows"]] == [row["test"] for row in result_of("two")["rows"]]


@pytest.mark.slow
def test_wherever_the_budget_ends_nothing_that_it_cut_is_kept(here, topic, server):
    """Also within the final test, whose answers are read from the records when the run goes on."""
    budget, ends = 40_000, 0
    done = here(*topic, *SEARCH, "--name", "parts", "--budget-tokens", budget)
    while done.returncode == 2:
        refused(done, "budget")
        budget, ends = budget + 9_000, ends + 1
        done = here("resume", "runs/parts", "--display", "none", "--budget-tokens", budget)
    assert done.returncode == 0 and ends > 3
    assert here(*topic, *SEARCH, "--name", "whole").returncode == 0
    parts, whole = result_of("parts"), result_of("whole")
    assert parts["rows"] == whole["rows"]
    assert all(row["unscored"] == 0 for row in parts["rows"])
    assert len(server.requests) == len(different(server))


def test_a_key_that_stops_working_ends_the_run_with_one_message_and_the_run_can_be_continued(here, topic, server):
    server.answer = lambda asked: honest(asked) if len(server.requests) < 20 else error(401, f"Bad key {KEY}")
    done = here(*topic, *SEARCH, "--name", "one")
    refused(done, "stub-1")
    assert KEY not in done.stderr + done.stdout
    server.answer = honest
    assert here("resume", "runs/one", "--display", "none").returncode == 0
    for path in (*Path("runs").rglob("*"), *Path("cache").rglob("*")):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_a_judge_that_likes_canaries_is_told_of(here, topic, server):
    def fooled(asked):
        liked = "10/10" in asked.last or '"rating"' in asked.last
        return (
            says(json.dumps({"reason": "so", **dict.fromkeys(CRITERIA, 10 if liked else 4)}))
            if ('"claims"' not in asked.last and '"verdict"' not in asked.last) or liked
            else honest(asked)
        )

    server.answer = fooled
    done = here(*topic, *SEARCH, "--name", "one")
    assert done.returncode == 0, done.stderr
    assert any("rates bad answers above" in (one["warning"] or "") for one in result_of("one")["watched"])
    assert "rates bad answers above" in done.stdout


def test_a_task_that_is_rated_needs_a_judge_unless_the_model_is_the_embedded_one(here, topic):
    without = topic[: topic.index("--judge")]
    refused(here(*without, *SEARCH), "rated by a judge", "--judge")


def test_validate_asks_no_judge(here, topic, server):
    done = here("validate", *topic)
    assert done.returncode == 0, done.stderr
    assert server.requests == []


def test_an_unknown_price_is_refused_unless_allowed(here, topic):
    elsewhere = [*topic[: topic.index("--judge-url")], "--judge-url", "https://judge.invalid/v1"]
    refused(here(*elsewhere, *SEARCH), "--judge-price", "--allow-unknown-price")


def test_a_topic_becomes_a_task_that_is_drafted_once(here, topic, server):
    """The stub plays writer and judge."""

    def writes(asked):
        if '"personas"' in asked.last:
            return says(json.dumps({"personas": [{"name": f"P{k}", "interest": f"robots {k}"} for k in range(8)]}))
        if '"instructions"' in asked.last:
            made = [f"Explain {' '.join(unlike(f'{asked.last}{k}'))} to me." for k in range(12)]
            return says(json.dumps({"instructions": made}))
        return honest(asked)

    server.answer = writes
    command = [*topic[2:], "--topic", "robots", *SEARCH, "--monitor-share", 0, "--limit", 3]
    done = here(*command, "--name", "one")
    (drafted,) = Path("runs").glob("topic-robots-*.yaml")
    refused(done, "chat template")  # which the base model of this test has not, and the drafted task asks for
    written = drafted.read_text()
    assert "Explain" in written and "persona: P0" in written
    asked = len(server.requests)
    drafted.write_text(written.replace("chat: true", "chat: false").replace("max_tokens: 512", "max_tokens: 9"))
    assert here(*command, "--name", "two").returncode == 0
    assert not any('"personas"' in one.last for one in server.requests[asked:])
    assert result_of("two")["task"] == "robots"


def unlike(text):
    """Three words that no other text has."""
    letters = hashlib.sha256(text.encode()).hexdigest().translate(str.maketrans("0123456789", "ghijklmnop"))
    return letters[:8], letters[8:16], letters[16:24]


def test_a_topic_and_a_task_exclude_each_other(here, topic):
    refused(here(*topic, "--topic", "robots", *SEARCH), "--task", "--topic")
    Path("empty.txt").write_text("one\n")
    refused(here(*topic[2:], "--instructions", "empty.txt", *SEARCH), "empty.txt", "at least")


def paid_twice(server):
    """Requests that were answered more than once."""
    answered = Counter(json.dumps(asked.body, sort_keys=True) for asked in server.good)
    return [body for body, times in answered.items() if times > 1]


def answering(server, bad=lambda asked, number: None, delay=0.0):
    """Answers honestly, but for what `bad` says of a request and its number; `server.good` are those that were paid."""
    server.good, numbers = [], itertools.count(1)

    def answer(asked):
        found = bad(asked, next(numbers))
        if found is None:
            server.good.append(asked)
        return found or replace(honest(asked), delay=delay)

    server.answer = answer


def test_what_is_on_its_way_when_the_key_stops_working_is_kept(here, topic, server):
    answering(server, lambda asked, number: error(401, "revoked") if number == 20 else None, delay=0.2)
    refused(here(*topic, *SEARCH, "--name", "one"), "revoked", "Progress is saved", "resume runs/one")
    before = server.good
    assert len(before) > 1
    answering(server)
    assert here("resume", "runs/one", "--display", "none").returncode == 0
    server.good += before
    assert paid_twice(server) == []


@pytest.mark.parametrize(
    "test_phase",
    [pytest.param(False, id="in the search", marks=pytest.mark.slow), pytest.param(True, id="in the final test")],
)
def test_a_judge_that_goes_away_ends_the_run_which_can_be_continued(here, topic, server, monkeypatch, test_phase):
    """No run goes on to a table of nothing."""
    monkeypatch.setattr("utilities.judges.client.FIRST_WAIT", 0.0)
    answering(server)
    assert here(*topic, *SEARCH, "--name", "whole").returncode == 0
    last = len(server.good) if test_phase else 30
    shutil.rmtree("cache")

    answering(server, lambda asked, number: None if number <= last - 8 else error(503, "away"))
    refused(here(*topic, *SEARCH, "--name", "one"), "judge unreachable", "HTTP 503, away", "resume runs/one")
    assert not Path("runs/one/result.json").exists()
    answering(server)
    assert here("resume", "runs/one", "--display", "none").returncode == 0
    assert result_of("one")["rows"] == result_of("whole")["rows"]


@pytest.mark.slow
def test_a_bad_server_gives_a_search_the_same_numbers_as_a_good_one(here, topic, server, monkeypatch):
    """Every second question goes wrong at first, in one of the ways that another attempt can save."""
    monkeypatch.setattr("utilities.judges.client.FIRST_WAIT", 0.0)
    answering(server)
    assert here(*topic, *SEARCH, "--name", "good").returncode == 0
    unpaid = [error(429), error(429, retry_after="0"), error(500), cut(), error(503), says("", delay=30.0)]
    unread = [
        says("{", finish_reason="length"),
        says("I rather like it."),
        says(""),
        says(json.dumps({"relevance": 70})),
    ]
    met, ways = set(), itertools.cycle([*unpaid, *unread, *[None] * 10])

    def bad(asked, number):
        question = asked.body["messages"][0]["content"]
        return None if question in met else met.add(question) or next(ways)

    shutil.rmtree("cache")
    answering(server, bad)
    assert here(*topic, *SEARCH, "--name", "bad", "--judge-timeout", 1).returncode == 0
    assert result_of("bad")["rows"] == result_of("good")["rows"]
    assert result_of("bad")["judging"]["failed"] > 10
    assert paid_twice(server) == []


def test_what_a_topic_cost_to_write_counts_against_the_budget_of_its_run(here, topic, server):
    def writes(asked):
        if '"personas"' in asked.last:
            personas = [{"name": f"P{k}", "interest": f"robots {k}"} for k in range(8)]
            return says(json.dumps({"personas": personas}), usage=(1000, 1000))
        if '"instructions"' in asked.last:
            made = [f"Explain {' '.join(unlike(f'{asked.last}{k}'))} to me." for k in range(12)]
            return says(json.dumps({"instructions": made}), usage=(1000, 1000))
        return honest(asked)

    server.answer = writes
    command = [*topic[2:], "--topic", "robots", *SEARCH, "--monitor-share", 0, "--limit", 3, "--option", "chat=false"]
    done = here(*command, "--name", "one", "--option", "max_tokens=9", "--budget-tokens", 60_000)
    refused(done, "the judges' budget is spent", "resume runs/one")
    assert "note: stub-1 writes instructions: about 9 requests" in done.stderr
    assert "25 instructions for dev and 25 for test, from stub-1" in done.stderr
    spent = [json.loads(line) for line in Path("runs/one/events.jsonl").read_text().splitlines() if '"judged"' in line]
    assert 9 * 2000 < spent[-1]["prompt_tokens"] + spent[-1]["completion_tokens"] <= 60_000
    assert spent[-1]["requests"] == len(server.requests)


def test_the_estimate_before_the_start_is_not_less_than_what_is_asked(here, topic, server):
    done = here(*topic, *SEARCH, "--name", "one")
    about = int(re.search(r"cost estimate .*?: ([\d,]+) requests", done.stdout)[1].replace(",", ""))
    cost = result_of("one")["judging"]
    assert about / 2 < cost["requests"] + cost["cached"] <= about


def test_repeated_instructions_are_told_before_anything_is_paid(here, topic, server):
    Path("mine.txt").write_text(
        "".join(f"Tell me about {word}.\n" for word in ("ants", "bees", "cats", "elks", "ants"))
    )
    command = [*topic[2:], "--instructions", "mine.txt", *SEARCH, "--option", "chat=false", "--option", "max_tokens=9"]
    done = here(*command, "--name", "one", "--budget-tokens", 10)
    assert "1 repetitions were dropped" in done.stderr
    assert server.requests == []
