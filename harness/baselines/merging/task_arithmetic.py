"""The weighted sum of all adapters."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.baselines.merging.inner_products import InnerProducts
from harness.baselines.merging.registry import linear

__all__ = ["norm_keeping", "task_arithmetic"]


def norm_keeping(tensors: Sequence[torch.Tensor], like: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of tensors, scaled to the root mean square norm of `like`; zero if they cancel each other.

    Ilharco et al. choose the scale of a sum on held-out data; peft has no default. Without data, the merged tensor
    gets the norm of one expert. The norm is measured: experts that share an initialisation are not orthogonal, and the
    factor 1/sqrt(n) of orthogonal ones would then make their sum far too large.
    """
    total = torch.stack(list(tensors)).sum(0)
    target = sum(float(tensor.norm()) ** 2 for tensor in like) / len(like)
    norm = float(total.norm())
    return total * (target**0.5 / norm) if norm > 0 else total


@linear("task_arithmetic")
def task_arithmetic(inner: InnerProducts, *, weights: torch.Tensor | None = None) -> torch.Tensor:
    """sum_j w_j e_j: Ilharco et al. 2023, "Editing models with task arithmetic" (arXiv 2212.04089), section 4.

    Data used: none. By default all weights are equal and keep the norm, as in `norm_keeping`. The sum is peft's
    `task_arithmetic`.

    Args:
        inner: Of the adapters' tensors.
        weights: [adapters].

    Returns:
        Coefficients [adapters]: the weights.
    """
    if weights is not None:
        return weights
    total = float(inner.matrix.sum())
    factor = (float(inner.matrix.diagonal().mean()) / total) ** 0.5 if total > 0 else 0.0
    return torch.full((inner.count,), factor)
