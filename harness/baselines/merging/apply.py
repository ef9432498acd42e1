"""Applies a merge method to adapters: to the factors A and B separately, or to their products BA.

Adapters are merged module by module, so that only one module's temporary tensors exist beside the inputs and the
result. The result is allocated first: pieces of it between freed temporary tensors would fragment the memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, get_args

import torch
from peft.utils.merge_utils import task_arithmetic

from harness.baselines.merging.inner_products import InnerProducts
from harness.baselines.merging.registry import Merge, Space
from harness.experts.adapter import Adapter, Factors, padded
from utilities.errors import UserError
from utilities.registry import unknown_name

__all__ = ["apply", "exact_rank", "refactored", "refactored_product"]


def apply(
    merge: Merge,
    adapters: Sequence[Adapter],
    *,
    space: Space = "factors",
    rank: int | None = None,
    seed: int = 0,
    weights: Sequence[float] | None = None,
    **options: Any,
) -> Adapter:
    """The merged adapter; its modules have the order of the first adapter's.

    Args:
        merge: The method.
        adapters: At least `merge.least`; they adapt the same modules, in "factors" with the same ranks.
        space: What is merged: "factors" (A and B separately) or "delta" (BA).
        rank: Rank of the result in "delta", at most the smaller side of a module; by default the largest rank of the
            module, as in peft, which loses a large part of a merge of many adapters (`exact_rank` does not).
        seed: Of the random numbers; the state of torch's own generator is not changed.
        weights: Factor of each adapter's BA. In "factors" A and B get its square root each, A the sign as well: peft's
            convention.
        options: Other options of the method, by name; see its own docstring.

    Raises:
        UserError: Adapters, space, rank or options are not accepted; the message says what would be.
    """
    _check_options(merge, len(adapters), space, weights, options)
    _check_adapters(adapters, space, rank)
    with torch.random.fork_rng(devices=[]):  # peft's functions draw from torch's own generator
        torch.default_generator.manual_seed(seed)
        factors = _merged(merge, adapters, space, rank, weights, options)
    return Adapter(merge.name, factors, adapters[0].config)


def _check_options(
    merge: Merge, count: int, space: str, weights: Sequence[float] | None, options: Mapping[str, Any]
) -> None:
    if count < merge.least:
        raise UserError(
            f"{merge.name} needs at least {'two adapters' if merge.least == 2 else 'one adapter'}, got {count}"
        )
    if space not in get_args(Space):
        raise unknown_name("space of a merge", space, get_args(Space))
    for name in [*options, *(["weights"] if weights is not None else [])]:
        if name not in merge.options:
            raise unknown_name(f"option of {merge.name}", name, merge.options)
    if weights is not None and len(weights) != count:
        raise UserError(f"{merge.name}: {len(weights)} weights for {count} adapters; each adapter needs one")
    if not 0 < (density := options.get("density", 1.0)) <= 1:
        raise UserError(f"{merge.name}: density must be above 0 and at most 1, got {density}")


def _check_adapters(adapters: Sequence[Adapter], space: Space, rank: int | None) -> None:
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
                    " A and B are merged separately, so ranks must be equal; the space 'delta' accepts different ranks"
                )


def _merged(
    merge: Merge,
    adapters: Sequence[Adapter],
    space: Space,
    rank: int | None,
    weights: Sequence[float] | None,
    options: Mapping[str, Any],
) -> dict[str, Factors]:
    """The merged modules, in the order of the first adapter's: module path to (A, B)."""
    result = {module: _place([one.factors[module] for one in adapters], rank) for module in adapters[0].factors}
    on_A, on_B, on_delta = ({**options, **own} for own in _weights(weights))
    for module, (A, B) in result.items():
        As, Bs = ([adapter.factors[module][k] for adapter in adapters] for k in (0, 1))
        if space == "factors":
            A.copy_(_merged_tensor(merge, As, on_A))
            B.copy_(_merged_tensor(merge, Bs, on_B))
            continue
        if merge.linear:
            coefficients = merge.rule(InnerProducts(len(As), partial(_of_products, As, Bs)), **on_delta).tolist()
            weighted = torch.cat([c * up for c, up in zip(coefficients, Bs, strict=True)], dim=1)
            factors = refactored_product((torch.cat(As), weighted), len(A))
        else:
            deltas = [up @ down for down, up in zip(As, Bs, strict=True)]
            factors = refactored(merge.rule(deltas, **on_delta), len(A))
        for place, tensor in zip((A, B), factors, strict=True):
            place.copy_(tensor)
    return result


def exact_rank(adapters: Sequence[Adapter]) -> int:
    """The sum of the adapters' ranks: a linear merge in "delta" is exact with it."""
    return sum(adapter.rank for adapter in adapters)


def _place(inputs: Sequence[Factors], rank: int | None) -> Factors:
    """Uninitialised factors of one merged module; by default of the largest rank of the inputs."""
    A, B = inputs[0]
    rank = min(rank, A.shape[1], len(B)) if rank else max(len(down) for down, _ in inputs)
    return A.new_empty(rank, A.shape[1]), B.new_empty(B.shape[0], rank)


def _weights(weights: Sequence[float] | None) -> list[dict[str, torch.Tensor]]:
    """The option `weights` for A, for B and for BA; empty for the method's default."""
    if weights is None:
        return [{}, {}, {}]
    roots = [math.sqrt(abs(weight)) for weight in weights]
    values = [[math.copysign(root, w) for root, w in zip(roots, weights, strict=True)], roots, list(weights)]
    return [{"weights": torch.tensor(one, dtype=torch.float32)} for one in values]


def _merged_tensor(merge: Merge, tensors: list[torch.Tensor], options: Mapping[str, Any]) -> torch.Tensor:
    """A or B of one module, merged."""
    if not merge.linear:
        return merge.rule(tensors, **options)
    coefficients = merge.rule(InnerProducts(len(tensors), partial(_of_tensors, tensors)), **options)
    result: torch.Tensor = task_arithmetic(tensors, coefficients.float())
    return result


def _of_tensors(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """<t_i, t_j> of the full tensors."""
    flat = torch.stack([tensor.flatten() for tensor in tensors]).double()
    return flat @ flat.T


def _of_products(downs: Sequence[torch.Tensor], ups: Sequence[torch.Tensor]) -> torch.Tensor:
    """<B_i A_i, B_j A_j> = sum over (B_i' B_j) * (A_i A_j'), A being `downs` and B `ups`; no BA is computed."""
    A, B = torch.cat(list(downs)).double(), torch.cat(list(ups), dim=1).double()
    owner = torch.repeat_interleave(torch.tensor([len(down) for down in downs]))
    owns = torch.nn.functional.one_hot(owner, len(downs)).double()
    return owns.T @ ((B.T @ B) * (A @ A.T)) @ owns


def refactored(delta: torch.Tensor, rank: int) -> Factors:
    """The factors of the nearest matrix to `delta` [out, in] of that rank: A has orthonormal rows, as in peft."""
    U, S, Vh = torch.linalg.svd(delta, full_matrices=False)
    return padded((Vh[:rank], U[:, :rank] * S[:rank]), rank)


def refactored_product(factors: Factors, rank: int) -> Factors:
    """`refactored` of BA, from A [k, in] and B [out, k] alone: exact, and fast for small k.

    With B = Q R and A' = P T, BA = Q (R T') P', and the decomposition of the small R T' is that of BA.
    """
    A, B = factors
    Q, R = torch.linalg.qr(B)
    P, T = torch.linalg.qr(A.T)
    small_A, small_B = refactored(R @ T.T, rank)
    return small_A @ P.T, Q @ small_B
