"""Pools of experts of different architectures."""

import json

import numpy as np
import pytest
import torch
from tiny_models import make_full, make_lora, make_model

from harness.experts.lora_pool import LoraPool
from harness.experts.model_pool import ModelPool
from harness.experts.token_pool import open_token_pool, read_mixture
from utilities.errors import UserError


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """A Llama and a Qwen2 base with an adapter each, and a full model."""
    folder = tmp_path_factory.mktemp("models")
    llama, qwen = make_model(folder / "llama", "llama"), make_model(folder / "qwen", "qwen2", seed=3)
    make_lora(llama, folder / "ant")
    make_lora(qwen, folder / "other" / "ant", seed=2)
    make_full(qwen, folder / "whole")
    return folder


def specs(family):
    return [f"{family / 'ant'}", f"{family / 'other'}::{family / 'qwen'}", f"{family / 'whole'}"]


def test_each_expert_has_its_own_base_model(family):
    pool = open_token_pool(specs(family), family / "llama")
    assert pool.names == ["ant", "qwen2-ant", "whole"]
    kinds = [type(pool.parts[part]) for part, _ in pool.places]
    bases = [pool.parts[part].base.folder.name for part, _ in pool.places]
    assert kinds == [LoraPool, LoraPool, ModelPool]
    assert bases == ["llama", "qwen", "whole"]


def test_the_config_of_an_adapter_may_name_its_base_model(family):
    pool = open_token_pool([str(family / "ant"), str(family / "other")], family / "llama")
    assert [pool.parts[part].base.folder.name for part, _ in pool.places] == ["llama", "qwen"]


def test_an_adapter_of_another_base_model_is_refused(family, tmp_path):
    with pytest.raises(UserError, match=r"does not (fit|have)"):
        open_token_pool([f"{family / 'ant'}::{make_model(tmp_path / 'gpt', 'gpt2')}"], family / "llama")


def test_adapters_of_different_ranks_are_separate_parts(family, tmp_path):
    make_lora(family / "llama", tmp_path / "bee", r=3)
    pool = open_token_pool([str(family / "ant"), str(tmp_path / "bee")], family / "llama")
    assert pool.places == ((0, 0), (1, 0))


def test_a_written_mixture_has_models_weights_and_coefficients(family, tmp_path):
    pool = open_token_pool(specs(family), family / "llama")
    pool.write(torch.tensor([0.25, 0.75, 0.0]), tmp_path / "best")
    document = json.loads((tmp_path / "best" / "mixture.json").read_text())
    assert [(one["name"], one["coefficient"]) for one in document["experts"]] == [("ant", 0.25), ("qwen2-ant", 0.75)]
    assert sorted(path.name for path in (tmp_path / "best" / "models").iterdir()) == ["1", "2"]
    mixture = read_mixture(tmp_path / "best")
    assert (mixture.pool.names, mixture.weights) == (["ant", "qwen2-ant"], (0.25, 0.75))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "token-mixture 9"}, "is accepted"),
        ({"experts": [{"name": "x", "coefficient": 1.0, "model": "../elsewhere", "adapter": None}]}, "outside"),
        ({"experts": 3}, "corrupt"),
    ],
)
def test_a_folder_with_another_content_is_refused(family, tmp_path, change, message):
    open_token_pool(specs(family)[:1], family / "llama").write(torch.ones(1), tmp_path / "best")
    path = tmp_path / "best" / "mixture.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        read_mixture(tmp_path / "best")
    with pytest.raises(UserError, match="no mixture"):
        read_mixture(family / "llama")


def test_a_token_pool_has_no_weights_to_mix(family):
    pool = open_token_pool(specs(family), family / "llama")
    with pytest.raises(UserError, match="weights are not mixed"):
        next(pool.mix(torch.from_numpy(np.eye(3))))
    with pytest.raises(UserError, match="granularity"):
        pool.grouped("layer")
