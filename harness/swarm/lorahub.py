"""LoraHub: weights of LoRA modules from a few examples, without gradients (Huang et al., arXiv 2307.13269)."""

from __future__ import annotations

import numpy as np

from harness.swarm.cma import CmaEs
from harness.swarm.update import Row

__all__ = ["BOUND", "EXAMPLES", "lorahub", "penalty"]

BOUND = 1.5
"""Weights are in [-1.5, 1.5] (section 3.3 there)."""
WEIGHT = 0.05
"""Of the mean absolute weight in the objective (there: alpha)."""
EXAMPLES = 20
"""Examples of each item set that it sees. The paper's 5 belong to its loss over all tokens of long answers; here an
answer is one option of four, and 5 of them say next to nothing."""
STEP = 0.5
"""Initial standard deviation of a weight: a third of the way to the bounds."""


def lorahub(experts: int, seed: int) -> CmaEs:
    """The search of LoraHub: it starts at zero, the base model, and stays within the bounds.

    CMA-ES under bounds stands in place of the original's nevergrad, whose NGOpt chooses among CMA-ES and others by
    dimension and budget.
    """
    return CmaEs([0.0] * experts, STEP, seed, (-BOUND, BOUND))


def penalty(row: Row) -> float:
    """The regulariser, 0.05 times the mean absolute weight: subtracted from the mean log-probability of the answers."""
    return WEIGHT * float(np.abs(row).mean())
