"""The judge client against vLLM's own OpenAI server, where vLLM is installed; skipped elsewhere."""

import asyncio

import pytest

from utilities.core import Unscored
from utilities.judges.budget import Budget, Price
from utilities.judges.cache import JudgementCache
from utilities.judges.parsing import Message, Reply
from utilities.judges.providers import openai_judge

pytest.importorskip("vllm")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_replies_usage_and_log_probabilities_come_from_a_real_server(vllm_server):
    budget = Budget()
    common = {"price": Price(0.0, 0.0), "cache": JudgementCache(None), "budget": budget, "timeout": 120}
    judge = openai_judge("embedded", base_url=vllm_server.url, **common)

    async def ask():
        async with judge:
            asked = [Message("user", "Tell me about the Zoe.\nAnswer:")]
            return await asyncio.gather(*(judge.ask(asked, max_tokens=8, logprobs=True, replicate=k) for k in range(4)))

    replies = asyncio.run(ask())
    assert not any(isinstance(reply, Unscored) for reply in replies)
    assert len({reply.text for reply in replies if isinstance(reply, Reply)}) == 1
    assert all(reply.tokens and 0 < reply.completion_tokens <= 8 for reply in replies)
    assert budget.spent.requests == 4
