"""What the harness adds to vLLM: to a bare `LLM.generate`, and to copying adapters. Skipped without vLLM."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_tokenizer
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from harness.embedded import BASE, EXPERTS
from harness.engines.adapter_folder import SHARED_MEMORY
from harness.engines.base import engines
from harness.engines.settings import EngineSettings
from harness.experts.pool import open_pool
from utilities.tasks import load_task

pytest.importorskip("vllm")
pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
ROUNDS, LOADS = 10, 3


def rows_of(particles, experts, seed=0):
    rows = np.random.default_rng(seed).normal(size=(particles, experts))
    return list(rows / np.abs(rows).sum(axis=1, keepdims=True))


def answered(engine, rows, prompts, max_tokens):
    async def everybody():
        return await asyncio.gather(*(engine.particle(row).generate(prompts, max_tokens=max_tokens) for row in rows))

    return [[answer.text for answer in answers] for answers in asyncio.run(everybody())]


def against_bare(engine, rows, prompts, max_tokens):
    """Seconds of each round with the harness, and with a bare `LLM.generate` of the same requests and loaded adapters.

    The two take turns at going first, as a machine's speed changes while they run.
    """
    from vllm import SamplingParams

    answered(engine, rows, prompts, max_tokens)  # loads the adapters
    asked = [{"prompt_token_ids": ids} for ids in engine.tokens.prompts(prompts, max_tokens)]
    loaded = [engine._adapters[row.tobytes()].request for row in rows]
    params = SamplingParams(temperature=0.0, max_tokens=max_tokens)

    def ours():
        return [text for one in answered(engine, rows, prompts, max_tokens) for text in one]

    def bare():
        requests = [request for request in loaded for _ in asked]
        outputs = engine._llm.generate(asked * len(rows), params, lora_request=requests, use_tqdm=False)
        return [output.outputs[0].text for output in outputs]

    seconds, texts = {ours: [], bare: []}, {}
    for number in range(ROUNDS):
        for way in (ours, bare) if number % 2 else (bare, ours):
            start = time.perf_counter()
            texts[way] = way()
            seconds[way].append(time.perf_counter() - start)
        same = np.mean([a == b for a, b in zip(texts[ours], texts[bare], strict=True)])
        assert same > 0.95  # another order of requests rounds differently
    return seconds[ours], seconds[bare]


def told(ours, bare):
    """The ratio of the medians, and all that they are made of."""
    rounds = ", ".join(f"{a:.2f}/{b:.2f}" for a, b in zip(ours, bare, strict=True))
    return f"{np.median(ours) / np.median(bare):.3f} times a bare generate (target 1.05; seconds {rounds})"


def test_what_the_harness_adds_to_a_bare_generate(capsys):
    pool = open_pool([str(EXPERTS)], BASE)
    prompts = [item.question for item in load_task("medical", edition="mini", limit=20).item_sets["questions"].dev]
    engine = engines.get("vllm")(BASE, pool, EngineSettings(dtype="float32", device="cpu", adapter_slots=8), {})
    try:
        seconds = against_bare(engine, rows_of(8, 10), prompts, 16)
    finally:
        engine.close()
    with capsys.disabled():
        print(f"\n8 particles x 20 prompts x 16 tokens: {told(*seconds)}")


def make_family(folder: Path, config: LlamaConfig, experts: int, rank: int) -> tuple[Path, list[str]]:
    """A random base model in bfloat16 and random LoRA adapters of it."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder / "base")
    make_tokenizer(folder / "base")
    adapted = get_peft_model(model, LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear"))
    adapted.peft_config["default"].base_model_name_or_path = "base"
    for k in range(experts):
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_" in name:
                    parameter.normal_(std=0.01)
        adapted.save_pretrained(folder / f"expert-{k}")
    return folder / "base", [str(folder / f"expert-{k}") for k in range(experts)]


def test_mixing_writing_and_loading_against_copying_the_bytes(tmp_path, monkeypatch, capsys):
    """20 adapters of 40 M parameters; rank 64 on a model of 0.45 B, so that the model is no larger than it must be."""
    monkeypatch.setattr("harness.engines.vllm.CPU_BATCH", 8)  # each token copies a whole adapter, in vLLM's warm-up too
    config = LlamaConfig(
        vocab_size=259, hidden_size=1024, intermediate_size=4096, num_hidden_layers=27, num_attention_heads=16,
        num_key_value_heads=16, max_position_embeddings=64, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    base, experts = make_family(tmp_path, config, 4, 64)
    pool = open_pool(experts, base)
    assert 40e6 <= pool.parameters <= 42e6
    settings = EngineSettings(dtype="bfloat16", device="auto", adapter_slots=20)
    engine = engines.get("vllm")(base, pool, settings, {})
    try:
        taken, copied, loads = [], [], engine.loads
        for k in range(LOADS):
            rows, loaded, before = rows_of(20, len(experts), seed=k), [], engine.times.mixing

            def load(rows=rows, loaded=loaded):
                loaded.extend(map(engine._load, rows, engine._write(rows)))

            asyncio.run(engine._control(load))
            taken.append(engine.times.mixing - before)
            one = loaded[0].folder / "adapter_model.safetensors"
            copies = SHARED_MEMORY / f"{engine._folder.path.name}-copies"
            copies.mkdir()
            start = time.perf_counter()
            for n in range(20):
                shutil.copyfile(one, copies / str(n))
            copied.append(time.perf_counter() - start)
            shutil.rmtree(copies)
            asyncio.run(engine._control(lambda loaded=loaded: [engine._unload(adapter) for adapter in loaded]))
        assert engine.loads - loads == LOADS * 20
    finally:
        engine.close()
    ratios = [a / b for a, b in zip(taken, copied, strict=True)]
    with capsys.disabled():
        print(
            f"\n20 adapters of {pool.parameters / 1e6:.1f} M parameters: mixed, written and loaded in"
            f" {np.median(taken):.1f} s, copied in {np.median(copied):.1f} s: {np.median(ratios):.1f} times (target 3)"
        )


@on_a_gpu
@pytest.mark.parametrize(("size", "layers", "hidden", "inner"), [("1B", 16, 2048, 8192), ("7B", 32, 4096, 11008)])
def test_throughput_on_a_gpu(size, layers, hidden, inner, tmp_path, capsys):
    """20 particles of rank 16 on all linear layers, 50 prompts each."""
    config = LlamaConfig(
        vocab_size=32000, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=hidden // 128, num_key_value_heads=hidden // 128, max_position_embeddings=1024,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    base, experts = make_family(tmp_path, config, 4, 16)
    engine = engines.get("vllm")(base, open_pool(experts, base), EngineSettings(adapter_slots=20), {})
    try:
        prompts = [f"Question {k}: " + "what is the matter with it? " * 8 for k in range(50)]
        rounds = against_bare(engine, rows_of(20, 4), prompts, 64)
        start = time.perf_counter()
        answered(engine, rows_of(20, 4, seed=1), prompts, 64)
        seconds = time.perf_counter() - start
    finally:
        engine.close()
    with capsys.disabled():
        rate = f"{20 * 50 * 64 / seconds:,.0f} new tokens a second, loading 20 adapters included"
        print(f"\n{size}: {rate}; {told(*rounds)}")
