"""Trim, elect a sign, average the values of that sign."""

from __future__ import annotations

from typing import Literal

import torch
from peft.utils import merge_utils

from harness.baselines.merging.registry import elementwise

__all__ = ["ties"]


@elementwise("ties")
def ties(
    tensors: list[torch.Tensor],
    *,
    weights: torch.Tensor | None = None,
    density: float = 0.2,
    majority_sign_method: Literal["total", "frequency"] = "total",
) -> torch.Tensor:
    """Yadav et al. 2023, "TIES-Merging: Resolving Interference When Merging Models" (arXiv 2306.01708), section 4.

    Data used: none. Each tensor keeps its largest magnitudes; at every place the sign with the larger total wins,
    and the values of that sign are averaged. It is peft's `ties`.

    Args:
        tensors: One of each adapter, all of one shape.
        weights: [adapters], applied after the sign is elected; by default 1 each: lambda = 1, which Yadav et
            al. use without data to tune it.
        density: Fraction that is kept: the paper's top 20 %, its setting without tuning.
        majority_sign_method: "total" (the paper's: sum of values) or "frequency" (number of adapters).
    """
    ones = torch.ones(len(tensors)) if weights is None else weights
    result: torch.Tensor = merge_utils.ties(tensors, ones, density, majority_sign_method)
    return result
