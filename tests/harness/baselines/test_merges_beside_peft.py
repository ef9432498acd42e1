"""The same adapters merged by peft's own `add_weighted_adapter` in a real model, and by us."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from conftest import make_adapter
from peft import PeftModel
from random_adapters import assert_same_change
from transformers import LlamaForCausalLM

from harness.baselines.merging.apply import apply
from harness.baselines.merging.registry import merges
from harness.experts.adapter import read_adapter

NAMES = ("ant", "bee", "cat")
SEED = 11
PEFT_NAMES = {"task_arithmetic": ("linear", "svd")}
"""What peft calls a method in factors and in delta, where it is not the same name (with _svd behind)."""


@pytest.fixture(scope="module")
def folders_of(base, tmp_path_factory):
    """Folders of three adapters with these ranks and alphas, each kind made once."""

    @cache
    def make(ranks, alphas):
        root = tmp_path_factory.mktemp("three")
        return [
            make_adapter(base, root / name, seed, r=rank, lora_alpha=alpha)
            for seed, (name, rank, alpha) in enumerate(zip(NAMES, ranks, alphas, strict=True))
        ]

    return make


def loaded(base, folders):
    """The model with all adapters, and they in memory, modules in the order in which peft goes through them."""
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), folders[0], adapter_name=NAMES[0])
    for name, folder in zip(NAMES[1:], folders[1:], strict=True):
        model.load_adapter(folder, adapter_name=name)
    order = [
        name.removeprefix("base_model.model.")
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    ]
    adapters = [read_adapter(folder) for folder in folders]
    return model, [replace(one, factors={module: one.factors[module] for module in order}) for one in adapters]


def merged_by_peft(model, weights, monkeypatch, **options):
    """Module path to BA. The new adapter's initialisation draws random numbers, so peft is seeded after it."""
    inject = model.base_model.inject_adapter

    def inject_and_seed(*arguments, **others):
        inject(*arguments, **others)
        torch.manual_seed(SEED)

    monkeypatch.setattr(model.base_model, "inject_adapter", inject_and_seed)
    model.add_weighted_adapter(list(NAMES), weights, "merged", **options)
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("merged").detach()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }


CASES = [
    ("task_arithmetic", {}),
    ("ties", {"density": 0.2}),
    ("ties", {"density": 0.6, "majority_sign_method": "frequency"}),
    ("dare_linear", {"density": 0.7}),
    ("dare_ties", {"density": 0.5}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("rank", [1, 4, 8])
def test_merges_of_factors_equal_peft_s(base, folders_of, monkeypatch, name, options, rank):
    model, adapters = loaded(base, folders_of((rank,) * 3, (8,) * 3))
    weights = [0.5, 1.25, -0.75]
    kind = PEFT_NAMES.get(name, (name, ""))[0]
    expected = merged_by_peft(model, weights, monkeypatch, combination_type=kind, **options)
    found = apply(merges.get(name), adapters, space="factors", seed=SEED, weights=weights, **options)
    assert_same_change(found, expected)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("ranks", [(4, 4, 4), (1, 3, 6)])
def test_merges_of_delta_equal_peft_s_for_adapters_of_any_ranks_and_scalings(
    base, folders_of, monkeypatch, name, options, ranks
):
    model, adapters = loaded(base, folders_of(ranks, (8, 9, 3)))
    weights = [0.5, 1.25, -0.75]
    kind = PEFT_NAMES.get(name, ("", f"{name}_svd"))[1]
    expected = merged_by_peft(model, weights, monkeypatch, combination_type=kind, **options)
    found = apply(merges.get(name), adapters, space="delta", seed=SEED, weights=weights, **options)
    assert found.rank == max(ranks)
    assert_same_change(found, expected)


def test_the_soup_in_delta_equals_peft_s_svd_with_equal_weights(base, adapters, monkeypatch):
    model, ours = loaded(base, adapters)
    expected = merged_by_peft(model, [1 / 3] * 3, monkeypatch, combination_type="svd")
    assert_same_change(apply(merges.get("uniform_soup"), ours, space="delta"), expected)
