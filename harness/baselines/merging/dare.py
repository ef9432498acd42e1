"""Drop values at random, rescale the rest, then sum or merge by sign."""

from __future__ import annotations

from typing import Literal

import torch
from peft.utils import merge_utils

from harness.baselines.merging.registry import elementwise
from harness.baselines.merging.task_arithmetic import norm_keeping

__all__ = ["dare_linear", "dare_ties"]

DENSITY = 0.8
"""The authors' own commands for merging language models drop 0.2. They drop 0.9 of large models' dense changes; in the
few rows of a LoRA factor the noise of that, (1 - density) / density of a value's square, would not average out."""


@elementwise("dare_linear", random=True)
def dare_linear(
    tensors: list[torch.Tensor], *, weights: torch.Tensor | None = None, density: float = DENSITY
) -> torch.Tensor:
    """Yu et al. 2024, "Language Models are Super Mario" (arXiv 2311.03099), section 3: DARE, then task arithmetic.

    Data used: none. With given weights it is peft's `dare_linear`, and over seeds its expectation is
    `task_arithmetic`, in "factors" that of A and of B, which are dropped independently.

    Args:
        tensors: One of each adapter, all of one shape.
        weights: [adapters]; by default the sum has the norm of one expert (`norm_keeping`).
        density: Fraction that is kept at random; kept values are divided by the density.
    """
    if weights is None:
        return norm_keeping([merge_utils.prune(tensor, density, "random") for tensor in tensors], tensors)
    result: torch.Tensor = merge_utils.dare_linear(tensors, weights, density)
    return result


@elementwise("dare_ties", random=True)
def dare_ties(
    tensors: list[torch.Tensor],
    *,
    weights: torch.Tensor | None = None,
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
    ones = torch.ones(len(tensors)) if weights is None else weights
    result: torch.Tensor = merge_utils.dare_ties(tensors, ones, density, majority_sign_method)
    return result
