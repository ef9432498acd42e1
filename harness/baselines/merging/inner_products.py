"""The inner products of one tensor of every adapter: norms and angles, the only input of a linear merge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch

__all__ = ["InnerProducts"]


@dataclass(frozen=True)
class InnerProducts:
    """Inner products of `count` tensors, computed on first use."""

    count: int
    """Number of adapters."""
    compute: Callable[[], torch.Tensor]

    @cached_property
    def matrix(self) -> torch.Tensor:
        """[adapters, adapters] in float64."""
        return self.compute()
