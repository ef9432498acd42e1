"""The local chat model as a langchain model and as a judge: batches, event loops, cancellation, errors."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from harness.embedded import BASE, EXPERTS
from harness.local_judge.chat_model import LocalChatModel
from harness.local_judge.model import LocalModel, PromptError
from utilities.core import Reason, Unscored
from utilities.judges.budget import Budget, Price
from utilities.judges.cache import JudgementCache
from utilities.judges.client import JudgeClient
from utilities.judges.parsing import Message

ROOT = Path(__file__).parents[3]
ADAPTER = EXPERTS / "look-up"
PROMPT = "Question: What is a volt?\nAnswer:"
PROMPTS = [f"Question: {'What is a volt? ' * k}\nAnswer:" for k in range(1, 17)]


@pytest.fixture(scope="module")
def local():
    return LocalModel(BASE, ADAPTER)


@pytest.fixture
def chat(local):
    return LocalChatModel(local=local, name="embedded")


@pytest.fixture
def batches(local, monkeypatch):
    """The sizes of the batches that are computed."""
    sizes, generate = [], local.generate

    def recorded(prompts, cancelled=None):
        sizes.append(len(prompts))
        return generate(prompts, cancelled)

    monkeypatch.setattr(local, "generate", recorded)
    return sizes


def client(chat, temperature=0.0, **options):
    options = {"cache": JudgementCache(), "budget": Budget(), "price": Price(0.0, 0.0), **options}
    return JudgeClient(lambda: chat, name="embedded", endpoint="embedded:v1", temperature=temperature, **options)


async def ask_all(chat, prompts, **options):
    return await asyncio.gather(*(chat.ainvoke(prompt, max_tokens=4, **options) for prompt in prompts))


# Messages


def test_a_message_has_text_usage_and_log_probabilities(chat, local):
    message = chat.invoke(PROMPT, max_tokens=3, logprobs=True, top_logprobs=20)
    assert message.text.strip()
    assert message.response_metadata["model_name"] == "embedded"
    assert message.response_metadata["finish_reason"] == "length"
    assert message.usage_metadata["output_tokens"] == 3
    tokens = message.response_metadata["logprobs"]["content"]
    assert [len(token["top_logprobs"]) for token in tokens] == [20] * 3
    for token in tokens:
        likeliest = token["top_logprobs"][0]
        assert (likeliest["token"], likeliest["logprob"]) == (token["token"], token["logprob"])
    assert "logprobs" not in chat.invoke(PROMPT, max_tokens=3).response_metadata


def test_both_interfaces_give_the_same_message(chat):
    one = chat.invoke(PROMPT, max_tokens=4, logprobs=True)
    other = asyncio.run(chat.ainvoke(PROMPT, max_tokens=4, logprobs=True))
    assert (one.content, one.response_metadata) == (other.content, other.response_metadata)


@pytest.mark.parametrize("options", [{"stop": ["."]}, {"tools": [{}]}, {"top_p": 0.5}])
def test_an_argument_without_effect_is_refused(chat, options):
    with pytest.raises(PromptError, match=next(iter(options))):
        chat.invoke(PROMPT, **options)


def test_only_text_is_supported(chat):
    with pytest.raises(PromptError, match="only text"):
        chat.invoke([HumanMessage([{"type": "image_url", "image_url": {"url": "data:"}}])])


# Batches


def test_requests_at_the_same_time_are_one_batch_with_the_answers_of_single_requests(chat, batches):
    single = [chat.invoke(prompt, max_tokens=4, logprobs=True) for prompt in PROMPTS]
    batches.clear()
    batched = asyncio.run(ask_all(chat, PROMPTS, logprobs=True))
    assert batches == [16]
    for one, other in zip(single, batched, strict=True):
        assert (other.content, other.usage_metadata) == (one.content, one.usage_metadata)
        pairs = zip(*(m.response_metadata["logprobs"]["content"] for m in (one, other)), strict=True)
        assert all(b["logprob"] == pytest.approx(a["logprob"], abs=1e-12) for a, b in pairs)


def test_requests_that_arrive_while_a_batch_computes_are_the_next_batch_and_the_loop_runs_on(
    chat, local, batches, monkeypatch
):
    computing, go, generate = threading.Event(), threading.Event(), local.generate

    def held(prompts, cancelled=None):
        computing.set()
        go.wait(120)
        return generate(prompts, cancelled)

    monkeypatch.setattr(local, "generate", held)

    async def main():
        first = asyncio.create_task(chat.ainvoke(PROMPT, max_tokens=1))
        while not computing.is_set():
            await asyncio.sleep(0.001)
        others = asyncio.create_task(ask_all(chat, PROMPTS))
        while len(chat._queues[asyncio.get_running_loop()]._waiting) < len(PROMPTS):
            await asyncio.sleep(0.001)
        assert not first.done()
        go.set()
        await first
        return await others

    assert len(asyncio.run(main())) == 16
    assert batches == [1, 16]


def test_an_error_of_the_model_reaches_every_request_and_the_next_one_is_answered(chat, local, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no memory left")

    async def main():
        with monkeypatch.context() as patched:
            patched.setattr(local.model, "forward", broken)
            errors = await asyncio.gather(
                *(chat.ainvoke(prompt, max_tokens=1) for prompt in PROMPTS[:3]), return_exceptions=True
            )
        assert [str(error) for error in errors] == ["no memory left"] * 3
        return await chat.ainvoke(PROMPT, max_tokens=1)

    assert asyncio.run(main()).usage_metadata["output_tokens"] == 1


# Event loops


def test_one_chat_model_serves_several_event_loops_one_after_another_and_at_once(chat):
    expected = [message.content for message in asyncio.run(ask_all(chat, PROMPTS[:4]))]
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(asyncio.run(ask_all(chat, PROMPTS[:4])))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[message.content for message in some] for some in answers] == [expected] * 2


def test_an_event_loop_that_is_cancelled_ends_soon_and_leaves_no_thread(chat, local, monkeypatch):
    before, passes, forward = threading.active_count(), [], local.model.forward
    monkeypatch.setattr(local.model, "forward", lambda *given, **named: passes.append(1) or forward(*given, **named))

    async def main():
        await asyncio.wait_for(ask_all_long(chat), 0.05)

    async def ask_all_long(chat):
        await asyncio.gather(*(chat.ainvoke("volt " * 200 + str(k), max_tokens=1500) for k in range(16)))

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert len(passes) < 1500  # one a token
    assert threading.active_count() <= before
    assert chat.invoke(PROMPT, max_tokens=1).usage_metadata["output_tokens"] == 1


@pytest.mark.slow
def test_a_process_ends_by_itself_after_an_error_during_a_batch():
    code = (
        "import asyncio\n"
        "from harness.embedded import BASE\n"
        "from harness.local_judge.chat_model import LocalChatModel\n"
        "from harness.local_judge.model import LocalModel\n"
        "chat = LocalChatModel(local=LocalModel(BASE))\n"
        "async def main():\n"
        "    asyncio.create_task(chat.ainvoke('volt ' * 500, max_tokens=1500))\n"
        "    await asyncio.sleep(0.1)\n"
        "    raise SystemExit(7)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert (done.returncode, done.stderr) == (7, "")


# As a judge


def test_a_judges_client_gets_log_probabilities_and_the_cost(chat):
    judge = client(chat)
    reply = asyncio.run(judge.ask([Message("user", PROMPT)], max_tokens=3, logprobs=True))
    assert (reply.model, reply.finish_reason, reply.completion_tokens) == ("embedded", "length", 3)
    assert [len(token.top) for token in reply.tokens] == [20] * 3
    assert (judge.budget.spent.requests, judge.budget.spent.usd) == (1, 0.0)


def test_a_prompt_longer_than_the_context_is_unscored_as_truncated_after_one_attempt(chat):
    judge = client(chat)
    outcome = asyncio.run(judge.ask([Message("user", "volt " * 3000)], max_tokens=3))
    assert isinstance(outcome, Unscored)
    assert (outcome.reason, outcome.attempts) == (Reason.TRUNCATED, 1)


def test_repetitions_above_temperature_0_differ_and_are_reproducible(local):
    async def repeated():
        judge = client(LocalChatModel(local=local, temperature=1.5), temperature=1.5)
        replies = [await judge.ask([Message("user", PROMPT)], max_tokens=8, replicate=k) for k in range(4)]
        return [reply.text for reply in replies]

    first = asyncio.run(repeated())
    assert len(set(first)) > 1
    assert asyncio.run(repeated()) == first
