"""2,000 judgements by a server that takes 200 ms for each and 50 at a time, beside the ideal and langchain alone."""

import asyncio
import gc
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from langchain_openai import ChatOpenAI

from utilities.judges.budget import Budget, Price
from utilities.judges.cache import JudgementCache
from utilities.judges.parsing import Message, as_rating
from utilities.judges.providers import openai_judge

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(600)]

JUDGEMENTS, IN_FLIGHT, LATENCY, PARTS = 2000, 50, 0.2, 4
SERVER = Path(__file__).parents[1] / "stub_server.py"
TEXT = "Rate the answer below for a person who is interested in electric vehicles. " * 10


@contextmanager
def served():
    """The server in a process of its own: its address, and at the end how many requests it got."""
    command = [sys.executable, str(SERVER), str(LATENCY)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        told = [server.stdout.readline().strip()]
        yield told
        told.append(int(server.communicate()[0]))


async def langchain_alone(url):
    """Seconds that langchain's chat model takes with nothing around it but a semaphore."""
    chat = ChatOpenAI(model="judge", base_url=url, api_key="none", max_retries=0, timeout=60)
    places = asyncio.Semaphore(IN_FLIGHT)

    async def ask(number):
        async with places:
            await chat.ainvoke([("user", f"{number}. {TEXT}")], max_tokens=16)

    await ask(0)
    start = time.perf_counter()
    await asyncio.gather(*map(ask, range(JUDGEMENTS)))
    taken = time.perf_counter() - start
    await chat.root_async_client.close()
    return taken


async def judged(client, numbers):
    """Seconds that so many judgements take, and what they were."""
    start = time.perf_counter()
    asked = (client.ask_for([Message("user", f"{n}. {TEXT}")], as_rating, max_tokens=16) for n in numbers)
    answers = await asyncio.gather(*asked)
    return time.perf_counter() - start, [answer.value for answer in answers]


@pytest.fixture(autouse=True)
def loaded():
    """As in a run: the garbage collector leaves alone what is loaded."""
    gc.freeze()
    yield
    gc.unfreeze()


def resident():
    gc.collect()
    return psutil.Process().memory_info().rss


async def quarters(client):
    """Resident bytes after each of some rounds of as many judgements."""
    sizes = []
    for part in range(1, PARTS + 1):
        size = JUDGEMENTS // PARTS
        await judged(client, range(part * JUDGEMENTS, part * JUDGEMENTS + size))
        sizes.append(resident())
    return sizes


def test_two_thousand_judgements(tmp_path, capsys):
    def client(url):
        cache = JudgementCache(tmp_path / "judgements.sqlite")
        common = {"price": Price(0.0, 0.0), "cache": cache, "budget": Budget(), "max_in_flight": IN_FLIGHT}
        return openai_judge("judge", base_url=url, **common)

    with served() as told:
        alone = asyncio.run(langchain_alone(told[0]))
    with served() as told:
        asked = client(told[0])
        asyncio.run(judged(asked, [-1]))  # imports
        taken, values = asyncio.run(judged(asked, range(JUDGEMENTS)))
        again, repeated = asyncio.run(judged(client(told[0]), range(JUDGEMENTS)))
        sizes = asyncio.run(quarters(asked))
    assert values == repeated == [7.0] * JUDGEMENTS
    assert told[1] == asked.budget.spent.requests == 2 * JUDGEMENTS + 1  # the repeated ones cost none
    ideal = JUDGEMENTS / IN_FLIGHT * LATENCY
    with capsys.disabled():
        print(f"\n{JUDGEMENTS} judgements, {IN_FLIGHT} in flight, {LATENCY * 1000:.0f} ms each: ideally {ideal:.2f} s")
        print(f"  judge client          {taken:6.2f} s, {taken / ideal:.3f} times the ideal")
        print(f"  langchain alone       {alone:6.2f} s, {alone / ideal:.3f} times the ideal")
        print(f"  repeated, all cached  {again:6.2f} s, no request")
        growth = (sizes[-1] - sizes[0]) / 1e6
        print(f"  memory                {growth:+6.1f} MB over the last {JUDGEMENTS * (PARTS - 1) // PARTS} judgements")


def test_generation_and_judging_overlap(base, adapters, tmp_path, capsys):
    """One iteration of a default swarm: generating alone, judging alone, and both as a search does them."""
    import numpy as np

    from harness.engines.local import LocalEngine
    from harness.engines.settings import EngineSettings
    from harness.experts.pool import open_pool
    from harness.swarm.settings import SwarmSettings
    from utilities.core import Item
    from utilities.judges.panel import Panel
    from utilities.judges.topic_interest import TopicInterest
    from utilities.scorers.generation import GenerationScorer

    class Generates(GenerationScorer):
        async def score(self, items, responses):
            from utilities.core import Score

            kept.append((items, responses))
            return [Score(1.0) for _ in responses]

    kept = []
    particles = SwarmSettings().particles
    items = [Item(id=str(k), question=f"What should I know about matter {k}? " * 4) for k in range(24)]
    rows = np.random.default_rng(0).dirichlet(np.ones(len(adapters)), particles)
    pool = open_pool(tuple(map(str, adapters)), base)
    engine = LocalEngine(base, pool, EngineSettings(device="cpu"))

    def timed(work):
        start = time.perf_counter()
        asyncio.run(work())
        return time.perf_counter() - start

    async def all_particles(scorer):
        await asyncio.gather(*(scorer(engine.particle(row), items) for row in rows))

    try:
        with served() as told:
            client = openai_judge(
                "judge", base_url=told[0], price=Price(0.0, 0.0), cache=JudgementCache(None), budget=Budget(),
                max_in_flight=10,
            )  # fmt: skip
            panel = Panel((client,), Budget())
            scorer = TopicInterest("matters", variant="paper", prompt="plain", max_tokens=160, judge=panel)
            alone = Generates("plain", 160)
            asyncio.run(alone(engine.particle(rows[0]), items[:2]))
            kept.clear()
            generating = timed(lambda: all_particles(alone))

            async def judge_all():
                await asyncio.gather(*(scorer.score(i, r) for i, r in kept))

            asyncio.run(scorer.score([Item(id="x", question="first")], [kept[0][1][0]]))  # imports
            judging = timed(judge_all)
            client.cache.close()
        with served() as told:
            client = openai_judge(
                "judge", base_url=told[0], price=Price(0.0, 0.0), cache=JudgementCache(None), budget=Budget(),
                max_in_flight=10,
            )  # fmt: skip
            scorer.judge = Panel((client,), Budget())
            asyncio.run(scorer.score([Item(id="x", question="first")], [kept[0][1][0]]))
            both = timed(lambda: all_particles(scorer))
    finally:
        engine.close()
    assert client.budget.spent.requests + client.budget.spent.cached == len(rows) * len(items) + 1
    with capsys.disabled():
        print(f"\n{particles} particles, {len(items)} answers each")
        print(f"  generating alone {generating:.2f} s, judging alone {judging:.2f} s")
        ratio = both / max(generating, judging)
        print(f"  as a search does it   {both:6.2f} s, {ratio:.3f} times the longer of the two")
