"""A real server, started by `run.py serve`, against the local engine; skipped where vLLM is not installed."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from openai import OpenAI

from harness.embedded import BASE, EXPERTS
from harness.engines.local import LocalEngine
from harness.engines.remote import RemoteEngine
from harness.engines.settings import EngineSettings
from harness.experts.pool import open_pool
from utilities.errors import UserError
from utilities.tasks import load_task

pytest.importorskip("vllm")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROWS = [
    [0.5, 0.3, 0.2, 0.0, 0.1, -0.1, 0.0, 0.0, 0.2, 0.0],
    [0.0] * 9 + [1.0],
    [0.3] + [-0.2, 0.6] * 2 + [0.1] * 5,
    None,
]
MARGIN = 1e-3


@pytest.fixture(scope="module")
def pool():
    return open_pool([str(EXPERTS)], BASE)


@pytest.fixture(scope="module")
def local(pool):
    engine = LocalEngine(BASE, pool, EngineSettings(device="cpu", dtype="float32"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def remote(vllm_server, pool):
    engine = RemoteEngine(BASE, pool, EngineSettings(base_url=vllm_server.url, adapter_slots=3))
    yield engine
    folder = engine._folder.path
    engine.close()
    assert not folder.exists()
    assert [name for name in models(vllm_server) if name.startswith(folder.name.removeprefix("model-swarms-"))] == []


@pytest.fixture(scope="module")
def questions():
    """Prompts and options, of several tokens and of one."""
    items = [item for s in load_task("medical", edition="mini").item_sets.values() for item in s.dev][:40]
    prompts = [f"Question: {item.question}\nAnswer:" for item in items]
    whole = [[f" {option}" for option in item.choices.values()] for item in items]
    letters = [[f" {letter}" for letter in item.choices] for item in items]
    return prompts + prompts, whole + letters


def models(server):
    return [one.id for one in OpenAI(base_url=server.url, api_key="none").models.list()]


async def asked(engine, question, rows=ROWS, **options):
    particles = [engine.particle(None if row is None else np.array(row)) for row in rows]
    return await asyncio.gather(*(getattr(one, question)(*options["given"], **options["more"]) for one in particles))


def test_the_plain_client_finds_the_winner_and_the_experts_by_name(vllm_server, pool, local):
    assert set(models(vllm_server)) >= {"embedded", "winner", *pool.names}
    prompt = "The heart pumps"
    with OpenAI(base_url=vllm_server.url, api_key="none") as client:
        answers = {
            name: client.completions.create(model=name, prompt=prompt, max_tokens=12, temperature=0.0).choices[0].text
            for name in ("winner", "embedded", pool.names[-1])
        }
    for name, row in {"winner": vllm_server.winner, "embedded": None, pool.names[-1]: ROWS[1]}.items():
        found = asyncio.run(asked(local, "generate", [row], given=([prompt],), more={"max_tokens": 12}))[0][0]
        assert answers[name] == found.text


def test_log_probabilities_and_greedy_choices_are_those_of_the_local_engine(remote, local, questions):
    exceptions, largest, n = [], 0.0, 0
    found, expected = (asyncio.run(asked(e, "choice_logprobs", given=questions, more={})) for e in (remote, local))
    for k, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        for at, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert one.tokens == other.tokens
            largest = max(largest, float(np.abs(np.subtract(one.logprobs, other.logprobs)).max()))
            first, second = sorted(other.logprobs, reverse=True)[:2]
            n += 1
            if np.argmax(one.logprobs) != np.argmax(other.logprobs) and first - second > MARGIN:
                exceptions.append((k, at))
    print(f"{n} questions, largest difference {largest:.1e}")
    assert exceptions == [] and largest < MARGIN


def test_generations_are_those_of_the_local_engine(remote, local, questions):
    more = {"max_tokens": 16, "stop": ["\n", "."]}
    prompts = questions[0][:40]
    found, expected = (asyncio.run(asked(e, "generate", given=(prompts,), more=more)) for e in (remote, local))
    pairs = [pair for ours, theirs in zip(found, expected, strict=True) for pair in zip(ours, theirs, strict=True)]
    different = [pair for pair in pairs if pair[0] != pair[1]]
    print(f"{len(different)} of {len(pairs)} texts differ")
    assert different == []


def test_an_adapter_of_too_high_a_rank_is_refused_in_the_servers_words(vllm_server, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=100, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(BASE), config).save_pretrained(tmp_path / "large")
    settings = EngineSettings(base_url=vllm_server.url, adapter_folder=tmp_path / "shared")
    with pytest.raises(UserError, match="rank 100 is greater than max_lora_rank 8"):
        RemoteEngine(BASE, open_pool([str(tmp_path / "large")], BASE), settings)
    assert not list((tmp_path / "shared").iterdir())
