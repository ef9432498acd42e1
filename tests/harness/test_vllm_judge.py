"""The judge client against vLLM's own OpenAI server, where vLLM is installed; skipped elsewhere."""

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from harness.embedded import BASE
from utilities.core import Unscored
from utilities.judges.budget import Budget, Price
from utilities.judges.cache import JudgementCache
from utilities.judges.connect import openai_judge
from utilities.judges.reply import Message, Reply

pytest.importorskip("vllm")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vllm")
    (folder / "chat.jinja").write_text(TEMPLATE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The command `vllm` of the CPU build looks for a package of that name and does not find it; its server is this one.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(BASE)]
    command += ["--served-model-name", "judge", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--chat-template", str(folder / "chat.jinja"), "--enforce-eager", "--max-model-len", "512"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as served,
    ):
        try:
            for _ in range(300):
                assert served.poll() is None, (folder / "log").read_text()[-2000:]
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                    break
                except OSError:
                    time.sleep(1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            served.terminate()


def test_replies_usage_and_log_probabilities_come_from_a_real_server(url):
    budget = Budget()
    judge = openai_judge(
        "judge", base_url=url, price=Price(0.0, 0.0), cache=JudgementCache(None), budget=budget, timeout=120
    )

    async def ask():
        async with judge:
            asked = [Message("user", "Tell me about the Zoe.\nAnswer:")]
            return await asyncio.gather(*(judge.ask(asked, max_tokens=8, logprobs=True, replicate=k) for k in range(4)))

    replies = asyncio.run(ask())
    assert not any(isinstance(reply, Unscored) for reply in replies)
    assert len({reply.text for reply in replies if isinstance(reply, Reply)}) == 1
    assert all(reply.tokens and 0 < reply.completion_tokens <= 8 for reply in replies)
    assert budget.spent.requests == 4
