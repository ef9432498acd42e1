"""Number and rank of the adapter slots of an engine."""

from __future__ import annotations

from harness.experts.lora_pool import LoraPool
from utilities.errors import UserError

__all__ = ["CPU_BATCH", "RANKS", "lora_rank", "slots_that_fit"]

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of vLLM's slots."""

CPU_BATCH = 1024
"""Tokens per step on a CPU, where vLLM copies an adapter for every token; more would not fit into the caches."""

KEPT_FREE = 0.1
"""Fraction of the memory reserved for activations and a minimal KV cache."""


def lora_rank(rank: int) -> int:
    """The smallest rank of vLLM's slots that is at least `rank`.

    Raises:
        UserError: `rank` is too large.
    """
    for one in RANKS:
        if one >= rank:
            return one
    raise UserError(f"the experts have rank {rank}; vLLM serves LoRA adapters of rank {RANKS[-1]} at most")


def slots_that_fit(wanted: int, pool: LoraPool, memory: int, weights: int, itemsize: int = 2) -> int:
    """Number of adapters that fit next to the base model, at least 1 and at most `wanted`.

    Args:
        wanted: Requested number.
        pool: The experts; a slot has the size of one expert at the slots' rank.
        memory: Total bytes that the engine may use.
        weights: Bytes of the base model.
        itemsize: Bytes per number in a slot.
    """
    one = pool.parameters * lora_rank(pool.rank) / pool.rank * itemsize
    return max(1, min(wanted, int(((1 - KEPT_FREE) * memory - weights) / one)))
