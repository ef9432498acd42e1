"""The weighted sum of all adapters."""

from __future__ import annotations

import math

import torch

from harness.baselines.merging.inner_products import InnerProducts
from harness.baselines.merging.registry import linear

__all__ = ["norm_keeping", "task_arithmetic"]


def norm_keeping(count: int) -> float:
    """1/sqrt(n) for each of n adapters: the default weight of sums without a tuned scale.

    Ilharco et al. scale the sum of n task vectors by one lambda that is chosen on held-out data, and find 0.3 to 0.5
    close to the best for many tasks; peft has no default. A static merge uses no data. Task vectors are nearly
    orthogonal, as they show, so a sum of n has sqrt(n) times the norm of one. With lambda = 1/sqrt(n), which is
    sqrt(n) times the mean, the merged tensor has the norm of one expert, and lambda lies in their range for 4 to 11 of
    them. In "factors" every merged A and B is divided by sqrt(n), so that BA, with its n squared cross terms, keeps its
    norm as well; in peft's convention these are the weights 1/n.
    """
    return 1 / math.sqrt(count)


@linear("task_arithmetic", weight=norm_keeping)
def task_arithmetic(inner: InnerProducts, *, weights: torch.Tensor) -> torch.Tensor:
    """sum_j w_j e_j: Ilharco et al. 2023, "Editing models with task arithmetic" (arXiv 2212.04089), section 4.

    Data used: none, as the weights are given (default: `norm_keeping`). The sum is peft's `task_arithmetic`.

    Args:
        inner: Unused.
        weights: [adapters].

    Returns:
        Coefficients [adapters]: the weights.
    """
    return weights
