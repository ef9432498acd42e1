"""slerp, breadcrumbs and model_stock beside mergekit's own functions, on dense tensors against a base of zeros."""

from __future__ import annotations

import pytest
import torch
from random_adapters import SHAPES, random_adapter

from harness.baselines.merging.apply import apply
from harness.baselines.merging.registry import merges
from harness.experts.adapter import Adapter

pytest.importorskip("mergekit", reason="mergekit is not installed (pip install '.[compat]')")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def slerp(tensors):
    from mergekit.merge_methods.slerp import slerp

    merged = tensors[0]
    for k, tensor in enumerate(tensors[1:], start=2):
        merged = slerp(torch.tensor([1 / k]), merged[None], tensor[None])[0]
    return merged


def breadcrumbs(tensors):
    from mergekit.sparsify import magnitude_outliers

    return sum(magnitude_outliers(tensor, 0.144, gamma=0.006) for tensor in tensors)


def model_stock(tensors):
    from mergekit.merge_methods.base import TensorGroup
    from mergekit.merge_methods.model_stock import model_stock_merge_method

    group = TensorGroup.from_tensors([torch.zeros_like(tensors[0]), *tensors], base_index=0)
    return model_stock_merge_method([group])[0]


MERGEKIT = {"slerp": slerp, "breadcrumbs": breadcrumbs, "model_stock": model_stock}


def given_adapters(count, rank, shared):
    """Adapters of which a share is common to all, so that their angles differ from case to case."""
    common = random_adapter(99, rank)
    result = []
    for seed in range(count):
        own = random_adapter(seed, rank)
        factors = {
            m: tuple(shared * c + o for c, o in zip(common.factors[m], own.factors[m], strict=True)) for m in SHAPES
        }
        result.append(Adapter(own.name, factors, own.config))
    return result


@pytest.mark.parametrize("name", MERGEKIT)
@pytest.mark.parametrize("shared", [0.0, 2.0, 100.0])
@pytest.mark.parametrize(("count", "rank"), [(2, 1), (2, 4), (3, 8), (5, 4)])
def test_both_spaces_agree_with_mergekit(name, shared, count, rank):
    adapters = given_adapters(count, rank, shared)
    merge, weights = merges.get(name), [1.0] * count if name == "breadcrumbs" else None
    factors = apply(merge, adapters, weights=weights)
    delta = apply(merge, adapters, weights=weights, space="delta", rank=16)
    for module in SHAPES:
        A, B = (MERGEKIT[name]([one.factors[module][k] for one in adapters]) for k in (0, 1))
        dense = MERGEKIT[name]([one.delta(module) for one in adapters])
        for found, expected in ((factors.delta(module), B @ A), (delta.delta(module), dense)):
            scale = expected.abs().max()
            assert scale > 0
            torch.testing.assert_close(found / scale, expected / scale, atol=1e-5, rtol=0)
