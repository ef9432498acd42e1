"""slerp, breadcrumbs and model_stock beside their formulas, written down once more and on dense tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_adapters import SHAPES, random_adapter, random_adapters

from harness.baselines.merging.apply import apply
from harness.baselines.merging.registry import merges
from harness.experts.adapter import Adapter


def slerp_formula(x, y, t):
    x_norm, y_norm = np.linalg.norm(x), np.linalg.norm(y)
    angle = np.arccos((x / x_norm * (y / y_norm)).sum())
    return np.sin((1 - t) * angle) / np.sin(angle) * x + np.sin(t * angle) / np.sin(angle) * y


def slerp_of_many(tensors):
    merged = tensors[0]
    for k, tensor in enumerate(tensors[1:], start=2):
        merged = slerp_formula(merged, tensor, 1 / k)
    return merged


def breadcrumbs_formula(tensors, density=0.144, outliers=0.006):
    """With a full sort of each tensor, smallest first."""
    total = np.zeros_like(tensors[0])
    for tensor in tensors:
        order = np.argsort(np.abs(tensor), axis=None)
        end = tensor.size - int(outliers * tensor.size)
        kept = np.zeros(tensor.size, dtype=bool)
        kept[order[end - int(density * tensor.size) : end]] = True
        total += np.where(kept.reshape(tensor.shape), tensor, 0.0)
    norms = [np.linalg.norm(tensor) for tensor in tensors]
    return total * np.sqrt(np.mean(np.square(norms))) / np.linalg.norm(total)


def model_stock_formula(tensors):
    n = len(tensors)
    cosines = [
        (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()) for i, x in enumerate(tensors) for y in tensors[:i]
    ]
    t = n * np.mean(cosines) / (1 + (n - 1) * np.mean(cosines))
    return t * np.mean(tensors, axis=0)


FORMULAS = {"slerp": slerp_of_many, "breadcrumbs": breadcrumbs_formula, "model_stock": model_stock_formula}


@pytest.fixture(params=["unrelated", "alike"])
def adapters(request):
    """Random adapters, or such that share most of A and of B, so that angles are acute."""

    def make(count, rank):
        own = random_adapters(count, rank)
        if request.param == "unrelated":
            return own
        shared = random_adapter(99, rank)
        factors = [
            {m: tuple(s + 0.4 * o for s, o in zip(shared.factors[m], one.factors[m], strict=True)) for m in SHAPES}
            for one in own
        ]
        return [Adapter(one.name, mixed, one.config) for one, mixed in zip(own, factors, strict=True)]

    return make


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize(("count", "rank"), [(2, 1), (2, 4), (3, 2), (5, 4)])
def test_factors_follow_the_formula(adapters, name, count, rank):
    given = adapters(count, rank)
    merged = apply(merges.get(name), given, space="factors")
    for module in SHAPES:
        A, B = (FORMULAS[name]([one.factors[module][k].double().numpy() for one in given]) for k in (0, 1))
        np.testing.assert_allclose(merged.delta(module), B @ A, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize(("count", "rank"), [(2, 1), (2, 4), (3, 2), (5, 4)])
def test_delta_follows_the_formula_at_full_rank(adapters, name, count, rank):
    given = adapters(count, rank)
    merged = apply(merges.get(name), given, space="delta", rank=16)
    for module in SHAPES:
        deltas = [(one.factors[module][1].double() @ one.factors[module][0].double()).numpy() for one in given]
        np.testing.assert_allclose(merged.delta(module), FORMULAS[name](deltas), atol=1e-5, rtol=1e-5)


def test_slerp_of_orthogonal_tensors_of_one_norm_keeps_the_norm():
    one, other = random_adapter(0), random_adapter(1)
    turned = {}
    for module, (A, B) in other.factors.items():
        first, norm = one.factors[module][0], one.factors[module][0].norm()
        rest = A - (A * first).sum() / norm**2 * first
        turned[module] = (rest / rest.norm() * norm, B)
    merged = apply(merges.get("slerp"), [one, Adapter("turned", turned, other.config)])
    for module, (A, _) in merged.factors.items():
        torch.testing.assert_close(A.norm(), one.factors[module][0].norm(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("factor", [1.01, -1.01])
def test_slerp_of_parallel_and_of_opposite_tensors_is_the_straight_line(factor):
    one = random_adapter(0)
    other = Adapter("other", {m: (A, factor * B) for m, (A, B) in one.factors.items()}, one.config)
    merged = apply(merges.get("slerp"), [one, other], space="delta")
    for module in SHAPES:
        torch.testing.assert_close(merged.delta(module), (1 + factor) / 2 * one.delta(module), atol=1e-5, rtol=1e-5)


def test_breadcrumbs_drops_both_ends():
    A = torch.tensor([[1.0, -2.0, 3.0, -4.0, 5.0, -6.0, 7.0, -8.0, 9.0, -10.0]])
    one = Adapter("one", {"m": (A, torch.ones(10, 1))}, random_adapter(0).config)
    merged = apply(merges.get("breadcrumbs"), [one], density=0.3, outliers=0.2, weights=[1.0])
    assert merged.factors["m"][0].tolist() == [[0, 0, 0, 0, 0, -6, 7, -8, 0, 0]]


def test_model_stock_keeps_the_base_where_adapters_cancel_each_other():
    one = random_adapter(0)
    other = Adapter("other", {m: (A, -B) for m, (A, B) in one.factors.items()}, one.config)
    merged = apply(merges.get("model_stock"), [one, other], space="delta")
    assert all(merged.delta(module).abs().max() == 0 for module in SHAPES)
