"""Interpolation between the base model and the mean, by the angles between the adapters."""

from __future__ import annotations

import torch

from harness.baselines.merging.inner_products import InnerProducts
from harness.baselines.merging.registry import linear

__all__ = ["model_stock"]

SINGULAR = 1e-6
"""Below this, 1 + (N - 1) cos counts as zero: the adapters cancel each other, and the base model is kept."""


@linear("model_stock", least=2)
def model_stock(inner: InnerProducts) -> torch.Tensor:
    """Jang et al. 2024, "Model Stock: All we need is just a few fine-tuned models" (arXiv 2403.19522), section 4.

    Data used: none. Each tensor becomes t times the mean, t = N cos / (1 + (N - 1) cos), with the mean cosine of all
    pairs; the rest 1 - t goes to the base model, which is zero for an adapter. N equal adapters give t = 1. The paper
    merges runs of one task, whose changes point the same way; adapters of different tasks are nearly orthogonal, and
    then t is near 0 and the result near the base model. For a negative mean cosine t is negative.

    Returns:
        Coefficients [adapters], t/N each.
    """
    N, norms = inner.count, inner.matrix.diagonal().clamp(min=0).sqrt()
    products = torch.outer(norms, norms)
    cosines = torch.where(products > 0, inner.matrix / products, 0.0).clamp(-1, 1)
    cosine = float((cosines.sum() - cosines.diagonal().sum()) / (N * (N - 1)))
    denominator = 1 + (N - 1) * cosine
    t = N * cosine / denominator if abs(denominator) > SINGULAR else 0.0
    return torch.full((N,), t / N)
