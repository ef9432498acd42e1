"""Drop values at random, rescale the rest, then sum or merge by sign."""

from __future__ import annotations

from typing import Literal

import torch
from peft.utils import merge_utils

from harness.baselines.merging.registry import elementwise
from harness.baselines.merging.task_arithmetic import norm_keeping
from harness.baselines.merging.ties import one

__all__ = ["dare_linear", "dare_ties"]

DENSITY = 0.8
"""The authors' own commands for merging language models drop 0.2. They drop 0.9 of large models' dense changes; in the
few rows of a LoRA factor the noise of that, (1 - density) / density of a value's square, would not average out."""


@elementwise("dare_linear", weight=norm_keeping, random=True)
def dare_linear(tensors: list[torch.Tensor], *, weights: torch.Tensor, density: float = DENSITY) -> torch.Tensor:
    """Yu et al. 2024, "Language Models are Super Mario" (arXiv 2311.03099), section 3: DARE, then task arithmetic.

    Data used: none. Over seeds its expectation is `task_arithmetic`, in "factors" that of A and of B, which are
    dropped independently. It is peft's `dare_linear`.

    Args:
        tensors: One of each adapter, all of one shape.
        weights: [adapters]; default as in `task_arithmetic`, so that dropping is the only difference.
        density: Fraction that is kept at random; kept values are divided by the density.
    """
    result: torch.Tensor = merge_utils.dare_linear(tensors, weights, density)
    return result


@elementwise("dare_ties", weight=one, random=True)
def dare_ties(
    tensors: list[torch.Tensor],
    *,
    weights: torch.Tensor,
    density: float = DENSITY,
    majority_sign_method: Literal["total", "frequency"] = "total",
) -> torch.Tensor:
    """DARE (arXiv 2311.03099, section 3) in place of trimming, then the sign election and mean of `ties`.

    Data used: none. It is peft's `dare_ties`.

    Args:
        tensors: One of each adapter, all of one shape.
        weights: [adapters], applied after the sign is elected; default 1 each, as in `ties`.
        density: Fraction that is kept at random; kept values are divided by the density.
        majority_sign_method: "total" (sum of values) or "frequency" (number of adapters).
    """
    result: torch.Tensor = merge_utils.dare_ties(tensors, weights, density, majority_sign_method)
    return result
