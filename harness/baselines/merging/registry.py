"""Static merges by name: several adapters become one, and no data is used.

    >>> merged = apply(merges.get("ties"), [ant, bee, cat], space="delta", rank=16, density=0.2)
    >>> merged.write(Path("merged"))

A method is a pure function of one tensor of every adapter, in the style of peft's merge utilities; `apply.py` applies
it to all tensors, one module at a time. There are two kinds:
- A *linear* method returns coefficients [adapters], computed from the tensors' inner products alone.
- An *elementwise* method takes the tensors and returns the merged one.

And two spaces:
- "factors" merges the A of all adapters and, separately, their B, as the paper's search and peft's
  `add_weighted_adapter` do. It is fast and keeps the rank, and ranks must be equal. The product of two merged factors
  is not the merge of the products: a sum of A times a sum of B has a term for every pair of adapters.
- "delta" merges the changes BA themselves, without cross terms, and truncates the result to a rank: the nearest
  matrix of that rank in the Frobenius norm. With the sum of all ranks a linear method is exact. Ranks may differ. A
  linear method never computes a BA; an elementwise one holds the BA of all adapters for one module several times,
  which for ten adapters of a 7B model is 10 GB, and minutes of SVD a module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from utilities.registry import Registry

if TYPE_CHECKING:
    import torch

__all__ = ["Merge", "Rule", "Space", "elementwise", "linear", "merges"]

Space = Literal["factors", "delta"]

Rule = Callable[..., "torch.Tensor"]
"""`rule(inner, ...)` of a linear method, `rule(tensors, ...)` of an elementwise one; the other arguments are options,
`weights` [adapters] among them if the method has weights; None for the method's default."""


@dataclass(frozen=True)
class Merge:
    """One merge method; `apply` of `apply.py` applies it to adapters."""

    name: str
    rule: Rule
    linear: bool
    """Whether it is linear (see the module's docstring)."""
    least: int
    """Smallest number of adapters."""
    random: bool
    """Whether it draws random numbers; if not, every seed gives the same adapter."""

    @property
    def options(self) -> list[str]:
        """The names of its options."""
        return list(inspect.signature(self.rule).parameters)[1:]


merges: Registry[Merge] = Registry(
    "merge",
    ("harness.baselines.merging",),
    ("linear", "elementwise"),
)
"""Merge methods by name."""


def linear(name: str, *, least: int = 1) -> Callable[[Rule], Rule]:
    """Decorator that registers a rule `(InnerProducts, *, options) -> coefficients [adapters]` under `name`."""

    def register(rule: Rule) -> Rule:
        merges.register(name)(Merge(name, rule, True, least, random=False))
        return rule

    return register


def elementwise(name: str, *, random: bool = False) -> Callable[[Rule], Rule]:
    """Decorator that registers a rule `(list of tensors, *, weights, options) -> tensor` under `name`."""

    def register(rule: Rule) -> Rule:
        merges.register(name)(Merge(name, rule, False, 1, random))
        return rule

    return register
