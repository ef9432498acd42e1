"""The static merges by name: adapters in, one adapter out, and no data is looked at.

    >>> merged = merges.get("ties")([ant, bee, cat], space="delta", rank=16, density=0.2)
    >>> merged.write(Path("merged"))

A method is a pure function of one tensor of every adapter, in the style of peft's merge utilities; `spaces.py` applies
it to all tensors, one module at a time. There are two kinds:
- A *linear* method weighs the tensors. It sees their inner products alone and returns coefficients [adapters].
- An *elementwise* method sees the tensors and returns the merged one.

And two spaces to do it in:
- "factors" merges the A of all adapters and, apart from them, their B, as the paper's search and peft's
  `add_weighted_adapter` do. It is fast and keeps the rank, and ranks must be equal. The product of two merged factors
  is not the merge of the products: a sum of A times a sum of B has a term for every pair of adapters.
- "delta" merges the changes BA themselves, without cross terms, and cuts the result back to a rank: the nearest
  matrix of that rank in the Frobenius norm, and the exact result where the rank suffices (the sum of all ranks does,
  for a linear method). Ranks may differ. A linear method never makes a BA; an elementwise one holds the BA of all
  adapters for one module a few times over, which for ten adapters of a 7B model is 10 GB, and minutes of SVD a
  module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from utilities.errors import UserError
from utilities.registry import Registry, unknown_name

if TYPE_CHECKING:
    import torch

    from harness.experts.adapter import Adapter

__all__ = ["Merge", "Rule", "Space", "Weight", "elementwise", "linear", "merges"]

Space = Literal["factors", "delta"]

Rule = Callable[..., "torch.Tensor"]
"""`rule(inner, ...)` of a linear method, `rule(tensors, ...)` of an elementwise one; the other arguments are options,
`weights` [adapters] among them where the method has weights."""

Weight = Callable[[int], float]
"""Number of adapters to the weight that each has by default in every merged tensor."""


@dataclass(frozen=True)
class Merge:
    """One method, ready to be called with adapters."""

    name: str
    rule: Rule
    linear: bool
    """Whether it only weighs the tensors (see the module's docstring)."""
    weight: Weight | None
    """The default of its option `weights`; None: it has no such option."""
    least: int
    """Adapters that it needs."""
    random: bool
    """Whether it draws random numbers: without, every seed gives the same adapter."""

    @property
    def options(self) -> list[str]:
        """The names of its options."""
        return list(inspect.signature(self.rule).parameters)[1:]

    def __call__(
        self,
        adapters: Sequence[Adapter],
        *,
        space: Space = "factors",
        rank: int | None = None,
        seed: int = 0,
        weights: Sequence[float] | None = None,
        **options: Any,
    ) -> Adapter:
        """The merged adapter; modules stand in the order of the first adapter's, and random numbers are drawn so.

        Args:
            adapters: At least `least`; they adapt the same modules, in "factors" with the same ranks.
            space: What is merged: "factors" (A and B apart) or "delta" (BA).
            rank: Rank of the result in "delta"; None is the largest of the module's ranks, as in peft.
            seed: Of the random numbers; the state of torch's own generator is not changed.
            weights: What each adapter's BA is multiplied by. In "factors" A and B get the root of it each, A the sign
                as well: peft's convention.
            options: What else the method has, by name; see its own docstring.

        Raises:
            UserError: Adapters, space, rank or options that cannot be; the message says what would do.
        """
        import torch

        from harness.baselines.merging.apply import check, merged
        from harness.experts.adapter import Adapter

        self._check_options(len(adapters), space, weights, options)
        check(adapters, space, rank)
        with torch.random.fork_rng(devices=[]):  # peft's functions draw from torch's own generator
            torch.default_generator.manual_seed(seed)
            factors = merged(self, adapters, space, rank, weights, options)
        return Adapter(self.name, factors, adapters[0].config)

    def _check_options(self, count: int, space: str, weights: Sequence[float] | None, options: dict[str, Any]) -> None:
        if count < self.least:
            raise UserError(
                f"{self.name} needs at least {'two adapters' if self.least == 2 else 'one adapter'}, got {count}"
            )
        if space not in get_args(Space):
            raise unknown_name("space of a merge", space, get_args(Space))
        for name in [*options, *(["weights"] if weights is not None else [])]:
            if name not in self.options:
                raise unknown_name(f"option of {self.name}", name, self.options)
        if weights is not None and len(weights) != count:
            raise UserError(f"{self.name}: {len(weights)} weights for {count} adapters; each adapter needs one")
        if not 0 < (density := options.get("density", 1.0)) <= 1:
            raise UserError(f"{self.name}: density must be above 0 and at most 1, got {density}")


merges: Registry[Merge] = Registry(
    "merge",
    {
        "uniform_soup": "harness.baselines.merging.uniform_soup",
        "slerp": "harness.baselines.merging.slerp",
        "task_arithmetic": "harness.baselines.merging.task_arithmetic",
        "ties": "harness.baselines.merging.ties",
        "dare_linear": "harness.baselines.merging.dare",
        "dare_ties": "harness.baselines.merging.dare",
        "breadcrumbs": "harness.baselines.merging.breadcrumbs",
        "model_stock": "harness.baselines.merging.model_stock",
    },
)
"""Name to method."""


def linear(name: str, *, weight: Weight | None = None, least: int = 1) -> Callable[[Rule], Rule]:
    """Decorator that files a rule `(InnerProducts, *, options) -> coefficients [adapters]` under `name`."""

    def register(rule: Rule) -> Rule:
        merges.register(name)(Merge(name, rule, True, weight, least, random=False))
        return rule

    return register


def elementwise(name: str, *, weight: Weight, random: bool = False) -> Callable[[Rule], Rule]:
    """Decorator that files a rule `(list of tensors, *, weights, options) -> tensor` under `name`."""

    def register(rule: Rule) -> Rule:
        merges.register(name)(Merge(name, rule, False, weight, 1, random))
        return rule

    return register
