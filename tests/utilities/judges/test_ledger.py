"""The record of what judges cost: no kill loses a count, and a reply and its cost are stored together."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from stub_server import says

from utilities.errors import UserError
from utilities.judges.budget import Budget, Price, Spent
from utilities.judges.cache import JudgementCache
from utilities.judges.ledger import Ledger
from utilities.judges.parsing import Message
from utilities.judges.providers import openai_judge

ROOT = Path(__file__).parents[3]


def recorded(cache, path, **limits):
    budget = Budget(**limits)
    budget.record_in(Ledger(cache, path))
    return budget


def judge(url, cache, budget):
    return openai_judge("m", base_url=url, price=Price(1.0, 2.0), cache=cache, budget=budget, attempts=1)


def ask(client, *texts):
    async def main():
        return [await client.ask([Message("user", text)], max_tokens=10) for text in texts]

    return asyncio.run(main())


def test_spending_continues_where_the_last_process_stopped(judge_server, tmp_path):
    with closing(JudgementCache(tmp_path / "c")) as cache:
        first = recorded(cache, tmp_path / "ledger")
        ask(judge(judge_server.url, cache, first), "a", "b")
    with closing(JudgementCache(tmp_path / "c")) as cache:
        second = recorded(cache, tmp_path / "ledger")
        assert second.spent == first.spent == Spent(requests=2, prompt_tokens=40, completion_tokens=10, usd=60e-6)
        ask(judge(judge_server.url, cache, second), "a", "c")
        assert (second.spent.tokens, second.spent.cached, judge_server.count) == (75, 1, 3)


def test_a_new_ledger_begins_with_what_the_caller_has_counted(tmp_path):
    with closing(JudgementCache()) as cache:
        budget = Budget(spent=Spent(requests=3, prompt_tokens=70, usd=None))
        budget.record_in(Ledger(cache, tmp_path / "ledger"))
    with closing(JudgementCache()) as cache:
        assert recorded(cache, tmp_path / "ledger").spent == Spent(requests=3, prompt_tokens=70, usd=None)


KILLED = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, "tests/utilities/judges")
from test_ledger import JudgementCache, Message, judge, recorded
cache = JudgementCache(Path(sys.argv[2]) / "c")
limit = int(sys.argv[3]) or None
client = judge(sys.argv[1], cache, recorded(cache, Path(sys.argv[2]) / "ledger", tokens=limit))

async def main():
    await client.ask([Message("user", "answered")], max_tokens=10)
    print("answered", flush=True)
    await asyncio.gather(*(client.ask([Message("user", f"number {k}")], max_tokens=10) for k in range(3)))

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("limit", "each"),
    [
        (0, 2 + 16 + 10),  # "number 0" is about two tokens in a message, and ten may have been written
        (10_000, 8 + 16 + 64 + 512 + 10 + 64),  # under a limit, the most that a server may claim
    ],
)
def test_requests_in_flight_at_a_kill_count_as_spent(judge_server, tmp_path, limit, each):
    judge_server.answer = lambda asked: says("Rating: 7/10", delay=0 if asked.last == "answered" else 60)
    command = [sys.executable, "-c", KILLED, judge_server.url, str(tmp_path), str(limit)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "answered\n"
        while judge_server.in_flight < 3:
            pass
        child.send_signal(signal.SIGKILL)
    with closing(JudgementCache(tmp_path / "c")) as cache:
        budget = recorded(cache, tmp_path / "ledger")
        spent = budget.spent
        assert (spent.requests, spent.failed) == (4, 3)
        assert spent.tokens == 25 + 3 * each
        assert Spent.from_dict(budget.ledger.fact("spent")) == spent


def test_a_limit_holds_over_a_resumed_run(judge_server, tmp_path):
    for _ in range(3):
        with closing(JudgementCache(tmp_path / "c")) as cache:
            budget = recorded(cache, tmp_path / "ledger", tokens=900)
            ask(judge(judge_server.url, cache, budget), *map(str, range(20)))
            assert budget.exhausted and budget.spent.tokens <= 900
    assert 1 < judge_server.count * 25 <= 900


def test_a_server_that_bills_the_most_it_can_stays_within_the_limit(judge_server, tmp_path):
    """Whatever is claimed and accepted was reserved, and concurrent requests hold a quarter of the rest."""
    judge_server.answer = lambda asked: says("Rating: 7/10", usage=(1 + 16 + 64 + 512, 10 + 64))
    with closing(JudgementCache(tmp_path / "c")) as cache:
        budget = recorded(cache, tmp_path / "ledger", tokens=12_000)
        client = judge(judge_server.url, cache, budget)

        async def main():
            await asyncio.gather(
                *(client.ask([Message("user", text)], max_tokens=10) for text in "abcdefghijklmnopqrst")
            )

        asyncio.run(main())
    assert budget.exhausted and judge_server.count == 12_000 // 667
    assert budget.spent.tokens == judge_server.count * 667
    assert judge_server.most_in_flight <= 12_000 // 4 // 667


def test_money_of_unknown_price_in_the_ledger_excludes_a_limit_on_dollars(tmp_path):
    with closing(JudgementCache()) as cache:
        Budget(spent=Spent(usd=None)).record_in(Ledger(cache, tmp_path / "ledger"))
    with closing(JudgementCache()) as cache, pytest.raises(UserError, match="unknown price"):
        recorded(cache, tmp_path / "ledger", usd=1.0)


@pytest.mark.parametrize("content", [b"no database at all, but long enough. " * 100, None])
def test_a_ledger_that_cannot_be_used_is_named(tmp_path, content):
    path = tmp_path / "ledger"
    path.mkdir() if content is None else path.write_bytes(content)
    with closing(JudgementCache()) as cache, pytest.raises(UserError, match=r"record of what the judges cost .*ledger"):
        recorded(cache, path)


def test_an_edited_total_is_refused(tmp_path):
    with closing(JudgementCache()) as cache:
        ledger = Ledger(cache, tmp_path / "ledger")
        ledger.set_fact("spent", {"prompt_tokens": -5})
        with pytest.raises(UserError, match="prompt_tokens is -5"):
            Budget().record_in(ledger)
