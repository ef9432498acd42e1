"""The mean of all adapters."""

from __future__ import annotations

import torch

from harness.baselines.merging.inner_products import InnerProducts
from harness.baselines.merging.registry import linear

__all__ = ["uniform_soup"]


@linear("uniform_soup")
def uniform_soup(inner: InnerProducts) -> torch.Tensor:
    """Every adapter counts 1/n: Wortsman et al. 2022, "Model soups" (arXiv 2203.05482), section 2, the uniform soup.

    Data used: none. In "factors" A and B are averaged each, so BA of the soup is the mean over all pairs B_i A_j.

    Returns:
        Coefficients [adapters].
    """
    return torch.full((inner.count,), 1 / inner.count)
