"""Spherical interpolation between adapters."""

from __future__ import annotations

import math

import torch

from harness.baselines.merging.inner_products import InnerProducts
from harness.baselines.merging.registry import linear

__all__ = ["slerp"]

PARALLEL = 0.9995
"""Absolute cosine above which the arc is replaced by the straight line, as in mergekit."""
ZERO = 1e-8
"""Norm up to which a tensor counts as zero; its angle to any other counts as a right one, as in mergekit."""


@linear("slerp", least=2)
def slerp(inner: InnerProducts) -> torch.Tensor:
    """Along the arc between two tensors: Shoemake 1985, "Animating rotation with quaternion curves" (SIGGRAPH).

    Data used: none. The result at t is [sin((1 - t) a) x + sin(t a) y] / sin(a), where a is the angle between the
    flattened tensors x and y, which keep their own norms (mergekit's slerp). For nearly parallel or opposite tensors
    sin(a) vanishes, and the result is (1 - t) x + t y.

    Slerp is defined for two tensors. More are merged one after the other, in the order of the adapters: the k-th joins
    the merge of those before it at t = 1/k, which for nearly parallel tensors is their mean. Another order gives
    another result.

    Returns:
        Coefficients [adapters].
    """
    units = torch.eye(inner.count, dtype=torch.float64)
    merged = units[0]
    for k, unit in enumerate(units[1:], start=2):
        merged = _between(merged, unit, 1 / k, inner.matrix)
    return merged


def _between(x: torch.Tensor, y: torch.Tensor, t: float, gram: torch.Tensor) -> torch.Tensor:
    """The point at t on the arc from x to y, all as coefficients [adapters]."""
    norms = [math.sqrt(max(float(v @ gram @ v), 0.0)) for v in (x, y)]
    product = math.prod(norm if norm > ZERO else 1.0 for norm in norms)
    cosine = max(-1.0, min(float(x @ gram @ y) / product, 1.0))
    if abs(cosine) > PARALLEL:
        return (1 - t) * x + t * y
    angle = math.acos(cosine)
    return (math.sin((1 - t) * angle) * x + math.sin(t * angle) * y) / math.sin(angle)
