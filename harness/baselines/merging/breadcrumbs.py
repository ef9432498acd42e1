"""The sum of the changes without the smallest and without outliers."""

from __future__ import annotations

import torch
from peft.utils import merge_utils

from harness.baselines.merging.registry import elementwise
from harness.baselines.merging.task_arithmetic import norm_keeping
from utilities.errors import UserError

__all__ = ["breadcrumbs"]


@elementwise("breadcrumbs")
def breadcrumbs(
    tensors: list[torch.Tensor],
    *,
    weights: torch.Tensor | None = None,
    density: float = 0.144,
    outliers: float = 0.006,
) -> torch.Tensor:
    """Davari and Belilovsky 2024, "Model Breadcrumbs" (arXiv 2312.06795), section 3.

    Data used: none. In each tensor the largest magnitudes are dropped as outliers and the smallest as noise; the
    rest is summed with peft's `task_arithmetic`.

    Args:
        tensors: One of each adapter, all of one shape.
        weights: [adapters]; by default the sum has the norm of one expert (`norm_keeping`).
        density: Fraction that is kept, below the outliers. Both defaults are the start of the authors' own search:
            the largest 15 % without the largest 0.6 %.
        outliers: Fraction that is dropped at the upper end.

    Raises:
        UserError: The two fractions sum to more than 1.
    """
    if not 0 <= outliers <= 1 - density + 1e-12:
        raise UserError(
            f"breadcrumbs: outliers must be at least 0 and, with the density {density}, at most 1; got {outliers}"
        )
    kept = [_between(tensor, density, outliers) for tensor in tensors]
    if weights is None:
        return norm_keeping(kept, tensors)
    result: torch.Tensor = merge_utils.task_arithmetic(kept, weights)
    return result


def _between(tensor: torch.Tensor, density: float, outliers: float) -> torch.Tensor:
    """`tensor` with all values set to zero except the fraction `density` below the largest `outliers`."""
    top, kept = int(outliers * tensor.numel()), int(density * tensor.numel())
    values = tensor.flatten()
    largest, places = torch.topk(values.abs(), top + kept, sorted=False)
    places = places[torch.topk(largest, kept, largest=False, sorted=False).indices]
    return torch.zeros_like(values).scatter_(0, places, values[places]).reshape(tensor.shape)
