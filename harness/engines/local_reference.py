"""Log-probabilities of a prompt by the local engine, with which another engine's are compared."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import numpy as np
import torch

from harness.engines.local import LocalEngine
from harness.engines.settings import EngineSettings
from harness.experts.lora_pool import LoraPool
from harness.experts.pool import open_pool
from utilities.errors import UserError

__all__ = ["first_expert_logprobs"]

MOST_PARAMETERS = 30_000_000_000
"""Parameters of a base model above which a prompt takes minutes on a CPU."""


def first_expert_logprobs(
    pool: LoraPool, ids: Sequence[int], settings: EngineSettings, dtype: torch.dtype
) -> tuple[list[float], list[float]]:
    """Log-probabilities of a prompt's tokens with the base model and with the pool's first expert.

    They start at the second token, and are computed on the CPU, since another engine holds the GPU.

    Args:
        pool: The experts.
        ids: Token ids of the prompt.
        settings: Settings of the other engine.
        dtype: Precision of the other engine.

    Raises:
        UserError: The model is quantised, too large for this machine, or cannot be loaded.
    """
    base, precision = pool.base, "bfloat16" if dtype == torch.bfloat16 else "float32"
    if settings.quantization or base.quantisation:
        raise UserError("the base model is quantised, which the local engine computes otherwise")
    parameters = sum(torch.Size(shape).numel() for name, shape in base.shapes.items() if name not in base.tied)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if parameters > MOST_PARAMETERS or 2 * parameters * (2 if precision == "bfloat16" else 4) > memory:
        raise UserError(f"the base model has {parameters / 1e9:.0f} billion parameters, too many for this CPU")
    own = settings.model_copy(update={"device": "cpu", "dtype": precision})
    one = open_pool([str(pool.experts[0].folder)], base.folder, check_values=False, trust_remote_code=base.trusted)
    engine = LocalEngine(base.folder, one, own)
    try:
        plain, adapted = (
            asyncio.run(engine.submit(row, lambda: engine.prompt_logprobs(ids))) for row in (np.zeros(1), np.ones(1))
        )
        return plain, adapted
    finally:
        engine.close()
