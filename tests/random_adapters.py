"""Random adapters in memory, for tests of what is done to them."""

import torch
from peft import LoraConfig

from harness.experts.adapter import Adapter

SHAPES = {"first.down": (20, 12), "first.up": (12, 20), "second.q": (16, 16)}
"""Module path to (in, out)."""


def random_adapter(seed, rank=4, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    factors = {
        module: (torch.randn(rank, inputs, generator=generator), torch.randn(outputs, rank, generator=generator))
        for module, (inputs, outputs) in shapes.items()
    }
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=[module.split(".")[-1] for module in shapes])
    return Adapter(f"random{seed}", factors, config)


def random_adapters(count, rank=4, shapes=SHAPES):
    return [random_adapter(seed, rank, shapes) for seed in range(count)]


def assert_same_change(found, expected, tolerance=1e-5):
    """Every module's BA agrees, relative to its largest value; `expected` is an adapter or module path to BA."""
    deltas = expected if isinstance(expected, dict) else {module: expected.delta(module) for module in expected.factors}
    assert found.factors.keys() == deltas.keys()
    for module, delta in deltas.items():
        scale = delta.abs().max()
        assert scale > 0.01
        torch.testing.assert_close(found.delta(module) / scale, delta / scale, atol=tolerance, rtol=0)
