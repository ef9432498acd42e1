from __future__ import annotations

import json
import math

import pytest
import torch
from conftest import make_adapter
from peft import PeftModel
from random_adapters import assert_same_change, random_adapter
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from harness.baselines.merging.apply import apply
from harness.baselines.merging.registry import merges
from harness.experts.adapter import Adapter, padded, read_adapter
from harness.experts.pool import open_pool
from utilities.errors import UserError

FILE, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def peft_delta(base, folder):
    """Module path to what peft itself adds to the weight, its own scaling included."""
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), folder)
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }


def pool_delta(base, folder):
    pool = open_pool([str(folder)], base)
    halves = {name: tensor[0] for name, tensor in pool.mix(torch.ones(1, 1))}
    return {module: pool.scaling[module] * halves[f"{module}.B"] @ halves[f"{module}.A"] for module in pool.modules}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"lora_alpha": 3},
        {"use_rslora": True},
        {"target_modules": ["q_proj", "down_proj"], "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 5}},
    ],
)
def test_an_adapter_is_read_with_its_scaling_and_written_without_one(base, tmp_path, config):
    folder = make_adapter(base, tmp_path / "given", 3, **config)
    adapter = read_adapter(folder)
    assert adapter.name == "given"
    assert list(adapter.factors) == sorted(adapter.factors)
    assert_same_change(adapter, peft_delta(base, folder), 1e-6)

    adapter.write(tmp_path / "written")
    written = json.loads((tmp_path / "written" / CONFIG).read_text())
    assert written["r"] == written["lora_alpha"] and not written["use_rslora"]
    assert_same_change(adapter, peft_delta(base, tmp_path / "written"), 1e-6)
    assert_same_change(adapter, pool_delta(base, tmp_path / "written"), 1e-6)
    assert_same_change(read_adapter(tmp_path / "written"), adapter, 0)


@pytest.mark.parametrize("space", ["factors", "delta"])
@pytest.mark.parametrize("name", list(merges))
def test_every_merge_is_written_as_a_folder_that_the_pool_and_peft_read_alike(base, adapters, tmp_path, name, space):
    merged = apply(merges.get(name), [read_adapter(folder) for folder in adapters], space=space)
    merged.write(tmp_path / name)
    assert load_file(tmp_path / name / FILE).keys() == load_file(adapters[0] / FILE).keys()
    again = pool_delta(base, tmp_path / name)
    assert again.keys() == merged.factors.keys()
    for module, delta in again.items():
        torch.testing.assert_close(delta, merged.delta(module), atol=1e-6, rtol=1e-6)
    if space == "delta":
        for module, delta in peft_delta(base, tmp_path / name).items():
            torch.testing.assert_close(delta, merged.delta(module), atol=1e-6, rtol=1e-6)


def test_writing_leaves_the_adapter_s_own_config_alone(tmp_path):
    adapter = random_adapter(0)
    adapter.config.lora_alpha = 7
    adapter.write(tmp_path / "one")
    assert (adapter.config.r, adapter.config.lora_alpha) == (4, 7)


def test_padding_keeps_every_change_and_gives_all_modules_one_rank():
    small, large = random_adapter(0, rank=2), random_adapter(1, rank=5)
    mixed = Adapter("mixed", {**large.factors, "first.up": small.factors["first.up"]}, large.config)
    assert mixed.rank == 5
    wide = mixed.padded(7)
    assert {(len(A), B.shape[1]) for A, B in wide.factors.values()} == {(7, 7)}
    assert_same_change(wide, mixed, 1e-6)
    with pytest.raises(ValueError, match="rank 5 cannot be padded to rank 4"):
        padded(large.factors["first.up"], 4)


def test_adapters_with_ranks_of_their_own_modules_are_written_and_read(tmp_path):
    small, large = random_adapter(0, rank=2), random_adapter(1, rank=5)
    mixed = Adapter("mixed", {**large.factors, "first.up": small.factors["first.up"]}, large.config)
    mixed.write(tmp_path / "mixed")
    again = read_adapter(tmp_path / "mixed")
    assert {module: len(A) for module, (A, _) in again.factors.items()} == {
        "first.down": 5,
        "first.up": 2,
        "second.q": 5,
    }
    assert_same_change(again, mixed, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(adapters, tmp_path, value):
    tensors = load_file(adapters[0] / FILE)
    next(iter(tensors.values()))[0, 0] = value
    (tmp_path / "bad").mkdir()
    save_file(tensors, tmp_path / "bad" / FILE)
    (tmp_path / "bad" / CONFIG).write_text((adapters[0] / CONFIG).read_text())
    with pytest.raises(UserError, match=r"expert 'bad': .* holds NaN or infinite values"):
        read_adapter(tmp_path / "bad")


def test_a_config_that_tells_another_rank_and_a_dora_adapter_are_refused(base, adapters, tmp_path):
    folder = tmp_path / "liar"
    folder.mkdir()
    (folder / FILE).write_bytes((adapters[0] / FILE).read_bytes())
    told = json.loads((adapters[0] / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(told | {"r": 3}))
    with pytest.raises(UserError, match=r"expert 'liar': its config says rank 3 for model\.layers\.0\.mlp"):
        read_adapter(folder)
    (folder / CONFIG).write_text(json.dumps(told | {"use_dora": True}))
    with pytest.raises(UserError, match="expert 'liar' uses DoRA"):
        read_adapter(folder)
