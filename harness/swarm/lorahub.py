"""LoraHub: weights of LoRA modules from a few examples, without gradients (Huang et al., arXiv 2307.13269)."""

from __future__ import annotations

import numpy as np

from harness.swarm.cma import CmaEs
from harness.swarm.update import Row

__all__ = ["BOUND", "lorahub", "penalty"]

BOUND = 1.5
"""Weights are in [-1.5, 1.5] (section 3.3 of the paper)."""
WEIGHT = 0.05
"""Factor of the mean absolute weight in the objective (alpha in the paper)."""
STEP = 0.5
"""Initial standard deviation of a weight: a third of the way to the bounds."""


def lorahub(experts: int, seed: int) -> CmaEs:
    """The search of LoraHub: it starts at zero, the base model, and stays within the bounds.

    The paper minimises the loss on 5 examples. `compare` uses all dev items, as for every other method.

    CMA-ES with bounds replaces the original's nevergrad, whose NGOpt selects CMA-ES or another method by dimension and
    budget.
    """
    return CmaEs([0.0] * experts, STEP, seed, (-BOUND, BOUND))


def penalty(row: Row) -> float:
    """The regulariser, 0.05 times the mean absolute weight: subtracted from the mean log-probability of the answers."""
    return WEIGHT * float(np.abs(row).mean())
