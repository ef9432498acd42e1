"""How many adapters an engine can hold at the same time, and at which rank it holds them."""

from __future__ import annotations

from harness.experts.pool import LoraPool
from utilities.errors import UserError

__all__ = ["CPU_BATCH", "RANKS", "lora_rank", "slots_that_fit"]

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM has slots for."""

CPU_BATCH = 1024
"""Tokens of a step on a CPU, where vLLM copies an adapter for every token: more do not stay in the caches."""

KEPT_FREE = 0.1
"""Share of the memory that activations and a smallest cache of keys and values need beside weights and adapters."""


def lora_rank(rank: int) -> int:
    """The smallest rank of vLLM's slots that holds adapters of `rank`.

    Raises:
        UserError: There is none.
    """
    for one in RANKS:
        if one >= rank:
            return one
    raise UserError(f"the experts have rank {rank}; vLLM serves LoRA adapters of rank {RANKS[-1]} at most")


def slots_that_fit(wanted: int, pool: LoraPool, memory: int, weights: int, itemsize: int = 2) -> int:
    """Adapters that fit beside the base model, at least 1 and at most `wanted`.

    Args:
        wanted: As many as that would be good.
        pool: The experts; every slot has the size of one, at the slots' rank.
        memory: Bytes that the engine may use in all.
        weights: Bytes of the base model.
        itemsize: Bytes of a number in a slot.
    """
    one = pool.parameters * lora_rank(pool.rank) / pool.rank * itemsize
    return max(1, min(wanted, int(((1 - KEPT_FREE) * memory - weights) / one)))
