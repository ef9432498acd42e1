"""Trim, elect a sign, average the values of that sign."""

from __future__ import annotations

from typing import Literal

import torch
from peft.utils import merge_utils

from harness.baselines.merging.registry import elementwise

__all__ = ["one", "ties"]


def one(count: int) -> float:
    """Weight 1 for each adapter, whatever their number: the default for a mean over agreeing values.

    It is lambda = 1, which Yadav et al. use without data to tune it, and which peft advises to start from.
    """
    return 1.0


@elementwise("ties", weight=one)
def ties(
    tensors: list[torch.Tensor],
    *,
    weights: torch.Tensor,
    density: float = 0.2,
    majority_sign_method: Literal["total", "frequency"] = "total",
) -> torch.Tensor:
    """Yadav et al. 2023, "TIES-Merging: Resolving Interference When Merging Models" (arXiv 2306.01708), section 4.

    Data used: none. Each tensor keeps its largest magnitudes; at every place the sign with the larger total wins,
    and the values of that sign are averaged. It is peft's `ties`.

    Args:
        tensors: One of each adapter, all of one shape.
        weights: [adapters], applied after the sign is elected; default 1 each (`one`).
        density: Fraction that is kept: the paper's top 20 %, its setting without tuning.
        majority_sign_method: "total" (the paper's: sum of values) or "frequency" (number of adapters).
    """
    result: torch.Tensor = merge_utils.ties(tensors, weights, density, majority_sign_method)
    return result
