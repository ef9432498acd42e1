"""How a merge of tensors becomes a merge of adapters: on the factors A and B apart, or on their products BA.

Adapters are gone through module by module, so that beside the inputs and the result there is never more than one
module's scratch. The result has its place before any of that is made: pieces of it between freed scratch would keep the
allocator from using that again, and cost several times their own size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from peft.utils.merge_utils import task_arithmetic

from harness.baselines.merging.registry import Merge, Space
from harness.experts.adapter import Adapter, Factors, padded
from utilities.errors import UserError

__all__ = ["InnerProducts", "check", "merged", "refactored", "refactored_product"]


@dataclass(frozen=True)
class InnerProducts:
    """The inner products of one tensor of every adapter: norms and angles, all that a linear method looks at."""

    count: int
    """How many adapters there are."""
    compute: Callable[[], torch.Tensor]

    @cached_property
    def matrix(self) -> torch.Tensor:
        """[adapters, adapters] in float64, computed when it is first asked for."""
        return self.compute()


def check(adapters: Sequence[Adapter], space: Space, rank: int | None) -> None:
    """Looks whether `adapters` can be merged in that space.

    Raises:
        UserError: They cannot; the first that does not fit is named, and why.
    """
    if rank is not None and (space == "factors" or rank < 1):
        raise UserError(
            f"rank {rank}: in the space 'delta' any rank from 1 may be chosen; in 'factors' it stays the adapters' own"
        )
    first = adapters[0]
    for adapter in adapters[1:]:
        if missing := sorted(set(first.factors) ^ set(adapter.factors)):
            raise UserError(
                f"adapter {adapter.name!r} does not adapt the same modules as {first.name!r};"
                f" the first difference is {missing[0]}"
            )
        for module, (A, B) in adapter.factors.items():
            first_A, first_B = first.factors[module]
            if (A.shape[1], len(B)) != (first_A.shape[1], len(first_B)):
                raise UserError(
                    f"adapter {adapter.name!r} adapts {module} as a weight of shape {[len(B), A.shape[1]]},"
                    f" {first.name!r} as one of {[len(first_B), first_A.shape[1]]}; all must share one base model"
                )
            if space == "factors" and len(A) != len(first_A):
                raise UserError(
                    f"adapter {adapter.name!r} has rank {len(A)} for {module}, {first.name!r} has {len(first_A)}:"
                    " A and B are merged apart, so their ranks must be equal; the space 'delta' takes different ranks"
                )


def merged(
    merge: Merge,
    adapters: Sequence[Adapter],
    space: Space,
    rank: int | None,
    weights: Sequence[float] | None,
    options: Mapping[str, Any],
) -> dict[str, Factors]:
    """The merged modules, in the order of the first adapter's: module path to (A, B)."""
    result = {module: _place([one.factors[module] for one in adapters], rank) for module in adapters[0].factors}
    on_A, on_B, on_delta = ({**options, **own} for own in _weights(merge, len(adapters), weights))
    for module, (A, B) in result.items():
        As, Bs = ([adapter.factors[module][k] for adapter in adapters] for k in (0, 1))
        if space == "factors":
            A.copy_(_merged_tensor(merge, As, on_A))
            B.copy_(_merged_tensor(merge, Bs, on_B))
            continue
        if merge.linear:
            coefficients = merge.rule(InnerProducts(len(As), partial(_of_products, As, Bs)), **on_delta).tolist()
            weighed = torch.cat([c * up for c, up in zip(coefficients, Bs, strict=True)], dim=1)
            found = refactored_product((torch.cat(As), weighed), len(A))
        else:
            deltas = [up @ down for down, up in zip(As, Bs, strict=True)]
            found = refactored(merge.rule(deltas, **on_delta), len(A))
        for place, tensor in zip((A, B), found, strict=True):
            place.copy_(tensor)
    return result


def _place(given: Sequence[Factors], rank: int | None) -> Factors:
    """Room for one merged module, of the largest rank that is given if none is asked for."""
    A, B = given[0]
    rank = rank or max(len(down) for down, _ in given)
    return A.new_empty(rank, A.shape[1]), B.new_empty(B.shape[0], rank)


def _weights(merge: Merge, count: int, given: Sequence[float] | None) -> list[dict[str, torch.Tensor]]:
    """The option `weights` for A, for B and for BA, where the method has it."""
    if merge.weight is None:
        return [{}, {}, {}]
    if given is None:
        alike = [[merge.weight(count)] * count] * 3
    else:
        roots = [math.sqrt(abs(weight)) for weight in given]
        alike = [[math.copysign(root, w) for root, w in zip(roots, given, strict=True)], roots, list(given)]
    return [{"weights": torch.tensor(one, dtype=torch.float32)} for one in alike]


def _merged_tensor(merge: Merge, tensors: list[torch.Tensor], options: Mapping[str, Any]) -> torch.Tensor:
    """A or B of one module, merged."""
    if not merge.linear:
        return merge.rule(tensors, **options)
    coefficients = merge.rule(InnerProducts(len(tensors), partial(_of_tensors, tensors)), **options)
    result: torch.Tensor = task_arithmetic(tensors, coefficients.float())
    return result


def _of_tensors(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """<t_i, t_j> of whole tensors."""
    flat = torch.stack([tensor.flatten() for tensor in tensors]).double()
    return flat @ flat.T


def _of_products(downs: Sequence[torch.Tensor], ups: Sequence[torch.Tensor]) -> torch.Tensor:
    """<B_i A_i, B_j A_j> = sum over (B_i' B_j) * (A_i A_j'), A being `downs` and B `ups`; no BA is made."""
    A, B = torch.cat(list(downs)).double(), torch.cat(list(ups), dim=1).double()
    owner = torch.repeat_interleave(torch.tensor([len(down) for down in downs]))
    owns = torch.nn.functional.one_hot(owner, len(downs)).double()
    return owns.T @ ((B.T @ B) * (A @ A.T)) @ owns


def refactored(delta: torch.Tensor, rank: int) -> Factors:
    """The factors of the nearest matrix to `delta` [out, in] of that rank: A has orthonormal rows, as in peft."""
    U, S, Vh = torch.linalg.svd(delta, full_matrices=False)
    return padded((Vh[:rank], U[:, :rank] * S[:rank]), rank)


def refactored_product(factors: Factors, rank: int) -> Factors:
    """`refactored` of BA, from A [k, in] and B [out, k] alone: exact, and quick where k is small.

    With B = Q R and A' = P T, BA = Q (R T') P', and the decomposition of the small R T' is that of BA.
    """
    A, B = factors
    Q, R = torch.linalg.qr(B)
    P, T = torch.linalg.qr(A.T)
    small_A, small_B = refactored(R @ T.T, rank)
    return small_A @ P.T, Q @ small_B
