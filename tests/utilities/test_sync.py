import asyncio
import contextvars

import pytest

from utilities import evaluate, load_task, utility
from utilities.core import Item, Response
from utilities.sync import run_sync

REQUEST = contextvars.ContextVar("REQUEST", default="none")


class Polite:
    async def generate(self, prompts, *, max_tokens, stop=()):
        return [Response("Yes, please.") for _ in prompts]


@utility()
def says_please(item, response):
    return float("please" in response.text)


ITEMS = [Item(id="1", question="Tea?"), Item(id="2", question="Milk?")]


def test_a_scorer_evaluates_items():
    assert evaluate(says_please.scorer(), Polite(), ITEMS).value == 1.0


def test_a_task_evaluates_a_split():
    task = load_task("gsm8k", edition="mini", limit=3, utility=f"{__file__}:says_please")
    assert evaluate(task, Polite(), "test").n == 3


def test_it_works_under_a_running_loop():
    async def cell():
        return evaluate(says_please.scorer(), Polite(), ITEMS)

    assert asyncio.run(cell()).n == 2


def test_results_errors_and_context_pass_through():
    async def answer():
        return REQUEST.get()

    async def fails():
        raise KeyError("gone")

    async def cell():
        REQUEST.set("mine")
        with pytest.raises(KeyError, match="gone"):
            run_sync(fails())
        return run_sync(answer())

    assert asyncio.run(cell()) == "mine"
    assert run_sync(answer()) == "none"
