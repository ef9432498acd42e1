"""The local engine on a GPU: 20 particles of rank 16 on models of 1 and 7 billion random parameters.

Skipped without a GPU. The weights are made on the GPU, so that nothing of the size of a model is written or read.

    python -m pytest -m benchmark tests/benchmarks/test_gpu.py -s
"""

from __future__ import annotations

import asyncio
import itertools
import time

import numpy as np
import pytest
import torch
from conftest import make_tokenizer
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from harness.engines.local import LocalEngine
from harness.engines.settings import EngineSettings
from harness.experts.base_model import base_shapes
from harness.experts.pool import open_pool

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]

EXPERTS, PARTICLES, RANK, ROUNDS = 10, 20, 16, 3
QUESTIONS, PROMPTS, NEW_TOKENS = 200, 50, 32
COMMON = {"max_position_embeddings": 2048, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
SIZES = {
    "1B": LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, tie_word_embeddings=True, **COMMON,
    ),
    "7B": LlamaConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=32, **COMMON,
    ),
}  # fmt: skip


class OnTheGpu:
    """Stands for AutoModelForCausalLM: the weights that its folder would hold are made where they are needed."""

    @staticmethod
    def from_pretrained(folder, *, dtype, attn_implementation, **_):
        torch.manual_seed(0)
        with torch.device("cuda"):
            return AutoModelForCausalLM.from_config(
                AutoConfig.from_pretrained(folder), dtype=dtype, attn_implementation=attn_implementation
            )


def make_family(folder, config):
    """A base model without weights, and LoRA adapters of all its linear layers in bfloat16."""
    base = folder / "base"
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(base)
    make_tokenizer(base)
    kinds = ("q", "k", "v", "o", "gate", "up", "down")
    shapes = {name.removesuffix(".weight"): shape for name, shape in base_shapes(base).items() if "_proj" in name}
    torch.manual_seed(1)
    for k in range(EXPERTS):
        tensors = {}
        for module, (out, inn) in shapes.items():
            key = f"base_model.model.{module}"
            tensors[f"{key}.lora_A.weight"] = torch.randn(RANK, inn, device="cuda", dtype=torch.bfloat16) * 0.02
            tensors[f"{key}.lora_B.weight"] = torch.randn(out, RANK, device="cuda", dtype=torch.bfloat16) * 0.02
        expert = folder / f"expert-{k}"
        targets = [f"{kind}_proj" for kind in kinds]
        LoraConfig(
            r=RANK, lora_alpha=2 * RANK, target_modules=targets, task_type="CAUSAL_LM", base_model_name_or_path="base"
        ).save_pretrained(expert)
        save_file({key: tensor.cpu() for key, tensor in tensors.items()}, expert / "adapter_model.safetensors")
    return base, [str(folder / f"expert-{k}") for k in range(EXPERTS)]


def timed(work):
    """Seconds until the GPU is done, and what was found."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    found = work()
    torch.cuda.synchronize()
    return time.perf_counter() - start, found


def told(name, seconds, bare, tokens, mixing):
    beside = seconds / bare / PARTICLES
    print(
        f"  {name:16}{seconds:7.2f} s, {tokens / seconds:10,.0f} tokens a second; mixing and folding {mixing:5.2f} s;"
        f" {beside:.3f} times the base model alone, asked as often"
    )


@pytest.mark.parametrize("size", SIZES)
def test_throughput(size, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("harness.engines.local.AutoModelForCausalLM", OnTheGpu)
    torch.cuda.reset_peak_memory_stats()
    base, experts = make_family(tmp_path, SIZES[size])
    pool = open_pool(experts, base, check_values=False)
    start, engine = timed(lambda: LocalEngine(base, pool, EngineSettings(device="cuda", dtype="bfloat16")))
    numbers = [
        f"Case {k}: a patient of {20 + k % 60} years has had a fever for {k % 9} days. " for k in range(QUESTIONS)
    ]
    questions = [text + "Which of these is the likely cause?\nAnswer:" for text in numbers]
    options = [[" a virus", " a bacterium", " a fungus", " an allergy"]] * QUESTIONS
    prompts = questions[:PROMPTS]
    rows = list(np.random.default_rng(0).dirichlet(np.ones(EXPERTS), 2 * PARTICLES))

    def choices(rows):
        async def all_rows():
            return await asyncio.gather(*(engine.particle(row).choice_logprobs(questions, options) for row in rows))

        return [[answer.logprobs for answer in answers] for answers in asyncio.run(all_rows())]

    def texts(rows):
        async def all_rows():
            particles = [engine.particle(row) for row in rows]
            return await asyncio.gather(*(one.generate(prompts, max_tokens=NEW_TOKENS) for one in particles))

        return asyncio.run(all_rows())

    try:
        pristine = {name: weight.sum(dtype=torch.float64) for name, weight in engine.model.named_parameters()}
        before = choices([None])
        texts([None])  # kernels are chosen
        bare_choices = min(timed(lambda: choices([None]))[0] for _ in range(ROUNDS))
        bare_texts = min(timed(lambda: texts([None]))[0] for _ in range(ROUNDS))
        choices(rows[:1])  # the pristine copies are made
        mixing = engine.times.mixing
        choosing, chosen = timed(lambda: choices(rows[:PARTICLES]))
        mixing_choices, mixing = engine.times.mixing - mixing, engine.times.mixing
        writing, written = timed(lambda: texts(rows[PARTICLES:]))
        mixing_texts = engine.times.mixing - mixing
        peak = torch.cuda.max_memory_allocated()
        assert choices([None]) == before  # the base model is what it was, to the bit
        for name, weight in engine.model.named_parameters():
            assert weight.sum(dtype=torch.float64) == pristine[name]
        assert len({tuple(map(tuple, one)) for one in [*before, *chosen]}) == PARTICLES + 1
        assert choices(rows[:1]) == chosen[:1]
        new = sum(answer.tokens for one in written for answer in one)
        assert new > 0.9 * PARTICLES * PROMPTS * NEW_TOKENS  # random weights end an answer early very rarely
        read = [len(ids) for ids in itertools.chain(engine.tokenizer(questions)["input_ids"])]
        batch = engine.state()["batch_tokens"]
    finally:
        engine.close()
        torch.cuda.empty_cache()
    with capsys.disabled():
        card = torch.cuda.get_device_name()
        print(f"\n{size} ({card}, bfloat16): {PARTICLES} particles of {EXPERTS} adapters of rank {RANK},", end=" ")
        print(f"{pool.parameters / 1e6:.1f} M parameters each; engine made in {start:.1f} s, batches of {batch} tokens")
        told("log-likelihoods", choosing, bare_choices, PARTICLES * sum(read), mixing_choices)
        print(f"    {PARTICLES * QUESTIONS / choosing:,.0f} questions of four options a second")
        told("generation", writing, bare_texts, new, mixing_texts)
        print(f"  peak memory     {peak / 2**30:6.1f} GiB")
