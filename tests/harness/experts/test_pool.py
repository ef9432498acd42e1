from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import make_adapter, make_base
from peft import IA3Config, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from harness.experts.files import open_file, resolve, weight_files
from harness.experts.lora_pool import LoraPool
from harness.experts.mixing import CHUNK, StoredTensor, mixed_tensor
from harness.experts.model_pool import ModelPool
from harness.experts.pool import open_pool
from utilities.errors import UserError

IDS = torch.arange(3, 40)[None]
ADAPTER, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def opened(folders, base, **options):
    return open_pool([str(folder) for folder in folders], base, **options)


def mixed(pool, row):
    """One mixture, name to tensor, in float64."""
    return {name: tensor[0] for name, tensor in pool.mix(torch.tensor([row], dtype=torch.float64))}


def pool_delta(pool, row):
    """Module path to s BA."""
    halves = mixed(pool, row)
    return {m: pool.scaling[m] * halves[f"{m}.B"] @ halves[f"{m}.A"] for m in pool.modules}


def peft_delta(base, folder):
    """Module path to what peft itself adds to the weight, its own scaling included."""
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), folder).double()
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default")
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }


def peft_logits(base, folder):
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), folder).double().eval()
    with torch.inference_mode():
        return model(IDS).logits


def model_logits(folder):
    with torch.inference_mode():
        return AutoModelForCausalLM.from_pretrained(folder).eval()(IDS).logits


def assert_same_deltas(found, expected):
    assert found.keys() == expected.keys()
    assert any(delta.abs().max() > 0.1 for delta in expected.values())
    for name, delta in expected.items():
        torch.testing.assert_close(found[name], delta, atol=1e-6, rtol=1e-6)


def edit_config(folder, **changes):
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def edit_tensors(folder, change):
    save_file(change(load_file(folder / ADAPTER)), folder / ADAPTER)
    return folder


@pytest.fixture(scope="module")
def pool(adapters, base):
    return opened(adapters, base)


# -- mixing ------------------------------------------------------------------------------------------------------------


def test_a_mixture_is_the_weighted_sum_of_the_experts_tensors(pool, adapters):
    files = [load_file(folder / ADAPTER) for folder in adapters]
    row = [0.5, -0.25, 1.5]
    found = mixed(pool, row)
    assert len(found) == len(files[0]) == 28
    for key in files[0]:
        name = key.removeprefix("base_model.model.").replace(".lora_", ".").removesuffix(".weight")
        expected = sum(c * file[key].double() for c, file in zip(row, files, strict=True))
        torch.testing.assert_close(found[name], expected, atol=1e-12, rtol=0)


def test_rows_mixed_together_equal_rows_mixed_one_by_one(pool):
    rows = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    together = dict(pool.mix(rows))
    for k, row in enumerate(rows.tolist()):
        for name, tensor in mixed(pool, row).items():
            torch.testing.assert_close(together[name][k], tensor, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 7])
def test_tensors_around_and_above_the_chunk_size_are_mixed_whole(tmp_path, size):
    tensors = torch.randn(2, size, generator=torch.Generator().manual_seed(size))
    sources = []
    for k, tensor in enumerate(tensors):
        save_file({"x": tensor.clone()}, tmp_path / f"{k}.safetensors")
        sources.append(StoredTensor(open_file(tmp_path / f"{k}.safetensors"), "x", 1.0))
    rows = torch.tensor([[0.3, 0.7], [2.0, -1.0], [0.0, 0.0]])
    torch.testing.assert_close(mixed_tensor(sources, rows, (1, size))[:, 0], rows @ tensors, atol=1e-6, rtol=0)


def test_a_unit_row_is_the_original_adapter_bit_for_bit(pool, adapters, tmp_path):
    for k, folder in enumerate(adapters):
        pool.write(torch.eye(3, dtype=torch.float64)[k], tmp_path / str(k))
        written, original = load_file(tmp_path / str(k) / ADAPTER), load_file(folder / ADAPTER)
        assert written.keys() == original.keys()
        assert all(torch.equal(written[key], original[key]) for key in original)


def test_a_pool_knows_its_names_rank_modules_and_size(pool, adapters):
    assert pool.names == ["ant", "bee", "cat"]
    assert pool.rank == 4
    assert len(pool.modules) == 14 and "model.layers.0.self_attn.q_proj" in pool.modules
    assert pool.parameters == sum(tensor.numel() for tensor in load_file(adapters[0] / ADAPTER).values())


# -- writing -----------------------------------------------------------------------------------------------------------


def test_a_written_mixture_loads_with_plain_peft_and_answers_like_hand_mixed_weights(pool, adapters, base, tmp_path):
    row = [0.61, 0.44, -0.12]
    pool.write(torch.tensor(row, dtype=torch.float64), tmp_path / "winner")
    by_hand = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), adapters[0]).double().eval()
    files = [load_file(folder / ADAPTER) for folder in adapters]
    with torch.inference_mode():
        untouched = by_hand(IDS).logits
        for name, parameter in by_hand.named_parameters():
            if "lora_" in name:
                key = name.replace(".default", "")
                parameter.copy_(sum(c * file[key].double() for c, file in zip(row, files, strict=True)))
        expected = by_hand(IDS).logits
    assert (untouched - expected).abs().max() > 0.1
    torch.testing.assert_close(peft_logits(base, tmp_path / "winner"), expected, atol=1e-5, rtol=0)


def test_a_written_mixture_can_be_an_expert_again(pool, base, tmp_path):
    pool.write(torch.tensor([0.2, 0.3, 0.5]), tmp_path / "again")
    again = opened([tmp_path / "again"], base)
    assert_same_deltas(pool_delta(again, [1.0]), pool_delta(pool, [0.2, 0.3, 0.5]))


# -- scaling: what counts is the product s BA, not A and B separately --------------------------------------------------

DIFFERENT = {"ant": {}, "bee": {"lora_alpha": 20}, "cat": {"lora_alpha": 3, "use_rslora": True}}


@pytest.mark.parametrize("order", [("ant", "bee", "cat"), ("cat", "ant", "bee")])
def test_experts_of_different_alpha_and_rslora_keep_their_own_delta(order, base, new_adapter):
    folders = {name: new_adapter(name, seed=k, **DIFFERENT[name]) for k, name in enumerate(order)}
    pool = opened(folders.values(), base)
    for k, folder in enumerate(folders.values()):
        assert_same_deltas(pool_delta(pool, torch.eye(3)[k].tolist()), peft_delta(base, folder))


def test_a_written_mixture_of_different_scalings_has_the_delta_of_the_mixture(base, new_adapter, tmp_path):
    folders = [new_adapter(name, seed=k, **DIFFERENT[name]) for k, name in enumerate(("cat", "bee"))]
    pool = opened(folders, base)
    row = [0.7, 0.6]
    pool.write(torch.tensor(row), tmp_path / "winner")
    assert_same_deltas(peft_delta(base, tmp_path / "winner"), pool_delta(pool, row))
    # Written out: A is the plain mixture; B carries each expert's own scaling relative to the first one's.
    name = "model.layers.0.mlp.up_proj"
    (A0, B0), (A1, B1) = (
        [load_file(f / ADAPTER)[f"base_model.model.{name}.lora_{x}.weight"].double() for x in "AB"] for f in folders
    )
    s0, s1 = 3 / 4**0.5, 20 / 4
    expected = (row[0] * s0 * B0 + row[1] * s1 * B1) @ (row[0] * A0 + row[1] * A1)
    torch.testing.assert_close(pool_delta(pool, row)[name], expected, atol=1e-9, rtol=0)


def test_rank_and_alpha_patterns_are_followed_as_peft_follows_them(base, new_adapter, tmp_path):
    patterns = {
        "rank_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 3},
        "alpha_pattern": {"q_proj": 5, "up_proj": 1},
    }
    folders = [new_adapter("ant", seed=1, **patterns), new_adapter("bee", seed=2, **patterns, lora_alpha=11)]
    pool = opened(folders, base)
    assert mixed(pool, [1.0, 0.0])["model.layers.1.mlp.down_proj.A"].shape == (3, 64)
    assert pool.rank == 4
    for k, folder in enumerate(folders):
        assert_same_deltas(pool_delta(pool, torch.eye(2)[k].tolist()), peft_delta(base, folder))
    pool.write(torch.tensor([0.5, 0.5]), tmp_path / "winner")
    assert_same_deltas(peft_delta(base, tmp_path / "winner"), pool_delta(pool, [0.5, 0.5]))


def test_the_order_of_keys_in_a_file_does_not_matter(base, new_adapter):
    straight, other = new_adapter("ant", seed=1), new_adapter("bee", seed=2)
    original = peft_delta(base, other)
    # safetensors sorts by name within a dtype, so a second dtype changes the order in the file.
    edit_tensors(other, lambda t: {k: v.double() if "mlp" in k else v for k, v in reversed(t.items())})
    keys = []
    for folder in (straight, other):
        data = (folder / ADAPTER).read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        header.pop("__metadata__", None)
        keys.append(sorted(header, key=lambda key, header=header: header[key]["data_offsets"]))
    assert keys[0] != keys[1] and sorted(keys[0]) == sorted(keys[1])
    assert_same_deltas(pool_delta(opened([straight, other], base), [0.0, 1.0]), original)


# -- refused, in words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"r": 2}, r"'odd' has shape .* 'ant' has .* ranks must be equal"),
        ({"target_modules": ["q_proj"]}, r"'odd' does not adapt the same modules as 'ant'"),
        ({"use_dora": True}, r"'odd' uses DoRA"),
        ({"modules_to_save": ["lm_head"]}, r"'odd' uses fully trained modules"),
        ({"bias": "lora_only"}, r"'odd' uses trained biases"),
    ],
)
def test_adapters_of_another_kind_are_refused_by_name_and_reason(config, reason, adapters, base, new_adapter):
    with pytest.raises(UserError, match=reason):
        opened([adapters[0], new_adapter("odd", **config)], base)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"base_model_name_or_path": "other/larger"},
            r"'odd' was trained on the base model 'other/larger'.*'ant' on 'tiny'",
        ),
        ({"init_lora_weights": "pissa"}, r"'odd' uses the initialisation 'pissa'"),
        ({"layer_replication": [[0, 2], [1, 2]]}, r"'odd' uses layer_replication"),
        ({"trainable_token_indices": [1, 2]}, r"'odd' uses trained token embeddings"),
        ({"scale_by_depth": 0.5}, r"'odd'.*scale_by_depth is no setting that the installed peft knows"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, r"'odd' uses target_parameters"),
        ({"base_model_name_or_path": ["tiny"]}, r"'odd'.*base_model_name_or_path is \['tiny'\]"),
        ({"rank_pattern": {"(((": 8}}, r"'odd'.*not a PEFT adapter config"),
        ({"lora_alpha": float("nan")}, r"'odd'.*ranks and alphas must be finite numbers"),
        ({"r": 16}, r"'odd': its config says rank 16 .* has shape \[4, "),
        ({"lora_alpha": 0}, r"'odd' has lora_alpha 0"),
        ({"rank_pattern": ["q_proj"]}, r"'odd'.*not a PEFT adapter config"),
        ({"r": "four"}, r"'odd'.*ranks and alphas must be finite numbers"),
        ({"lora_alpha": None}, r"'odd'.*ranks and alphas must be finite numbers"),
        ({"peft_type": None}, r"'odd' is a None adapter"),
    ],
)
def test_configs_that_ask_for_more_than_a_lora_are_refused(changes, reason, adapters, base, new_adapter):
    with pytest.raises(UserError, match=reason):
        opened([adapters[0], edit_config(new_adapter("odd"), **changes)], base)


@pytest.mark.parametrize(
    ("folder", "told", "doubted"),
    [
        ("tiny", None, False),
        ("Tiny", None, False),
        ("models--owner--tiny/snapshots/0123abc", None, False),
        ("renamed", "owner/tiny", False),
        ("renamed", None, True),
        ("renamed", "owner/tiny-chat", True),
    ],
)
def test_a_base_of_another_name_is_doubted_in_words(folder, told, doubted, adapters, base, tmp_path):
    copy = tmp_path / folder
    shutil.copytree(base, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | ({"_name_or_path": told} if told else {})))
    warning = opened(adapters, copy).base_warning
    assert (warning is not None) == doubted
    assert not doubted or "trained on 'tiny', the base model is 'renamed'" in warning


def test_experts_that_name_no_base_doubt_none(adapters, base, new_adapter):
    odd = edit_config(new_adapter("odd"), base_model_name_or_path=None)
    assert opened([odd], shutil.copytree(base, odd.parent / "renamed")).base_warning is None


def test_an_adapter_that_is_no_lora_is_refused(adapters, base, tmp_path):
    config = IA3Config(task_type="CAUSAL_LM", target_modules=["q_proj"], feedforward_modules=[])
    get_peft_model(LlamaForCausalLM.from_pretrained(base), config).save_pretrained(tmp_path / "odd")
    with pytest.raises(UserError, match="'odd' is a IA3 adapter; only LORA"):
        opened([adapters[0], tmp_path / "odd"], base)


@pytest.mark.parametrize("text", ["{", "[]", "", '"LORA"', b"\xff\xfe"])
def test_a_corrupt_config_is_refused(text, adapters, base, new_adapter):
    odd = new_adapter("odd")
    (odd / CONFIG).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=r"'odd'.*adapter_config\.json: not a PEFT adapter config"):
        opened([adapters[0], odd], base)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_and_the_tensor_is_named(value, adapters, base, new_adapter):
    key = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"

    def spoil(tensors):
        tensors[key][3, 1] = value
        return tensors

    odd = edit_tensors(new_adapter("odd"), spoil)
    with pytest.raises(UserError, match=rf"'odd'.*{key} holds NaN or infinite"):
        opened([adapters[0], odd], base)
    assert opened([adapters[0], odd], base, check_values=False).names == ["ant", "odd"]


@pytest.mark.parametrize("content", [b"", b"not a tensor file at all", None])
def test_a_corrupt_or_cut_off_weight_file_is_refused(content, adapters, base, new_adapter):
    path = new_adapter("odd") / ADAPTER
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(UserError, match=r"odd/adapter_model\.safetensors: not a readable safetensors file"):
        opened([adapters[0], path.parent], base)


def test_a_pickle_file_is_refused_and_never_opened(adapters, base, new_adapter):
    odd = new_adapter("odd")
    (odd / ADAPTER).unlink()
    (odd / "adapter_model.bin").write_bytes(b"anything")
    with pytest.raises(UserError, match=r"odd: .*adapter_model\.bin is a pickle file and is refused"):
        opened([adapters[0], odd], base)


def test_a_missing_adapter_file_is_named(adapters, base, new_adapter):
    odd = new_adapter("odd")
    (odd / ADAPTER).unlink()
    with pytest.raises(UserError, match=r"odd: there is no adapter_model\.safetensors$"):
        opened([adapters[0], odd], base)


def test_an_empty_folder_is_refused(adapters, base, tmp_path):
    (tmp_path / "odd").mkdir()
    for specs in ([tmp_path / "odd"], [adapters[0], tmp_path / "odd"]):
        with pytest.raises(UserError, match=r"'odd'.*holds no adapter_config\.json"):
            opened(specs, base)


def test_a_missing_folder_is_refused(adapters, base, tmp_path):
    with pytest.raises(UserError, match=r"nowhere: there is no such folder"):
        opened([adapters[0], tmp_path / "nowhere"], base)


def test_a_hub_id_that_cannot_be_asked_for_offline_is_refused():
    with pytest.raises(UserError, match=r"nobody/nothing: .* the hub could not be asked for it \("):
        resolve("nobody/nothing")


@pytest.mark.parametrize("spec", ["name", "a/b/c", "./a", "/a", "a/", "~/x-not-there", ""])
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such folder, and it is no hub id"):
        resolve(spec)


def test_adapters_of_another_base_do_not_fit(base, tmp_path):
    larger = make_base(tmp_path / "larger", hidden=64)
    odd = make_adapter(larger, tmp_path / "odd", seed=1)
    with pytest.raises(UserError, match=r"'odd': .* of shape \[4, \d+\] does not fit the base model's weight"):
        opened([odd], base)


def renamed(old, new):
    return lambda tensors: {key.replace(old, new): tensor for key, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (renamed("layers.1", "layers.7"), r"'odd' adapts model\.layers\.7\..*the base model does not have"),
        # A module whose weight has one axis, and tensors that are no matrices.
        (renamed("layers.1.mlp.up_proj", "norm"), r"'odd': model\.norm is a LlamaRMSNorm, not a linear layer"),
        (lambda tensors: {key: tensor.reshape(-1) for key, tensor in tensors.items()}, r"does not fit the base"),
        (renamed("lora_A.weight", "lora_embedding_A"), r"'odd': tensor .* is no lora_A or lora_B"),
        (lambda t: {k: v for k, v in t.items() if "lora_B" not in k}, r"'odd': .* has lora_A but no lora_B"),
        (lambda tensors: {}, r"'odd': its file holds no tensors"),
    ],
)
def test_tensors_that_do_not_fit_the_base_are_refused(change, reason, base, new_adapter):
    with pytest.raises(UserError, match=reason):
        opened([edit_tensors(new_adapter("odd"), change)], base)


def test_no_experts_are_refused(base):
    with pytest.raises(UserError, match="no experts given"):
        open_pool([], base)


@pytest.mark.parametrize("config", [None, "{", '{"model_type": "unheard-of"}'])
def test_a_base_that_is_no_language_model_is_refused(config, adapters, tmp_path):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match="not a causal language model that can be loaded"):
        opened(adapters, tmp_path)


# -- names and folders -------------------------------------------------------------------------------------------------


def copied(folder, to):
    shutil.copytree(folder, to)
    return to


def test_experts_of_one_folder_name_are_told_apart_by_the_folder_above(adapters, base, tmp_path):
    mine, yours = copied(adapters[0], tmp_path / "mine/ant"), copied(adapters[1], tmp_path / "yours/ant")
    assert opened([mine, yours], base).names == ["ant", "yours-ant"]


def test_the_same_folder_given_three_times_is_refused(adapters, base):
    with pytest.raises(UserError, match="two experts are called"):
        opened([adapters[0]] * 3, base)


def test_a_folder_of_adapter_folders_stands_for_all_of_them_by_name(adapters, base):
    (adapters[0].parent / "notes").mkdir(exist_ok=True)
    assert opened([adapters[0].parent], base).names == ["ant", "bee", "cat"]


def test_an_adapter_with_checkpoints_inside_is_one_adapter(adapters, base, tmp_path):
    folder = copied(adapters[0], tmp_path / "ant")
    copied(adapters[0], folder / "checkpoint-10")
    assert opened([folder], base).names == ["ant"]


def test_an_expert_from_the_hub_is_called_by_its_repository(adapters, base, tmp_path):
    snapshots = [
        copied(folder, tmp_path / f"models--me--{folder.name}-lora/snapshots/0f{k}")
        for k, folder in enumerate(adapters)
    ]
    assert opened(snapshots, base).names == ["ant-lora", "bee-lora", "cat-lora"]


# -- full models as particles ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full_models(base, tmp_path_factory):
    """Two models that look like fine-tunings of the base: near it, not equal."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("owl", "fox"), 1):
        torch.manual_seed(seed)
        model = LlamaForCausalLM.from_pretrained(base)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(folder / name)
        AutoTokenizer.from_pretrained(base).save_pretrained(folder / name)
    return [folder / "owl", folder / "fox"]


@pytest.fixture(scope="module")
def model_pool(full_models, base):
    return opened(full_models, base)


def test_full_models_are_mixed_as_differences_from_the_base(model_pool, full_models, base):
    assert isinstance(model_pool, ModelPool) and model_pool.names == ["owl", "fox"]
    start, owl, fox = (load_file(f / "model.safetensors") for f in (base, *full_models))
    found = mixed(model_pool, [0.7, -0.2])
    assert found.keys() == start.keys()
    assert model_pool.parameters == sum(tensor.numel() for tensor in start.values())
    for key, tensor in found.items():
        expected = start[key].double() + 0.7 * (owl[key] - start[key]).double() - 0.2 * (fox[key] - start[key]).double()
        torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=0)


def test_a_row_of_zeros_is_the_base_and_a_unit_row_the_expert(model_pool, full_models, base):
    for row, folder in (([0.0, 0.0], base), ([1.0, 0.0], full_models[0]), ([0.0, 1.0], full_models[1])):
        expected = load_file(folder / "model.safetensors")
        for name, tensor in mixed(model_pool, row).items():
            assert torch.equal(tensor.float(), expected[name])


def test_a_written_model_loads_with_transformers_and_has_the_mixed_weights(full_models, base, tmp_path):
    own = shutil.copytree(base, tmp_path / "own")
    (own / "chat_template.jinja").write_text("{{ messages }}")
    model_pool = opened(full_models, own)
    model_pool.write(torch.tensor([0.5, 0.5], dtype=torch.float64), tmp_path / "winner")
    by_hand = LlamaForCausalLM.from_pretrained(full_models[0]).eval()
    expected = mixed(model_pool, [0.5, 0.5])
    with torch.inference_mode():
        for name, parameter in by_hand.named_parameters():
            parameter.copy_(expected[name])
        logits = by_hand(IDS).logits
    torch.testing.assert_close(model_logits(tmp_path / "winner"), logits, atol=1e-5, rtol=0)
    assert AutoTokenizer.from_pretrained(tmp_path / "winner")("ab")["input_ids"][0] == 0
    assert (tmp_path / "winner/chat_template.jinja").exists()


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_a_mixture_of_bfloat16_models_is_written_and_loaded_as_float32(key, full_models, base, tmp_path):
    folders = []
    for folder in full_models:
        half = tmp_path / folder.name
        LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(half)
        told = json.loads((half / "config.json").read_text())
        assert told.pop("dtype") == "bfloat16"
        (half / "config.json").write_text(json.dumps(told | {key: "bfloat16"}))
        folders.append(half)
    pool = opened(folders, base)
    pool.write(torch.tensor([0.3, 0.45]), tmp_path / "winner")
    told = json.loads((tmp_path / "winner" / "config.json").read_text())
    assert told == json.loads((base / "config.json").read_text()) | {"dtype": "float32"}
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "winner")
    assert loaded.dtype == torch.float32
    expected = mixed(pool, [0.3, 0.45])
    for name, parameter in loaded.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), expected[name], atol=1e-6, rtol=0)


def test_sharded_models_are_read_and_written_whole(model_pool, full_models, base, tmp_path):
    shards = tmp_path / "owl"
    LlamaForCausalLM.from_pretrained(full_models[0]).save_pretrained(shards, max_shard_size="30KB")
    AutoTokenizer.from_pretrained(base).save_pretrained(shards)
    assert len(weight_files(shards)) > 1
    pool = opened([shards, full_models[1]], base)
    expected = mixed(model_pool, [0.3, 0.3])
    found = mixed(pool, [0.3, 0.3])
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    pool.write(torch.tensor([1.0, 0.0]), tmp_path / "winner")
    torch.testing.assert_close(model_logits(tmp_path / "winner"), model_logits(shards), atol=1e-6, rtol=0)


def test_a_missing_shard_is_named(full_models, base, tmp_path):
    LlamaForCausalLM.from_pretrained(full_models[0]).save_pretrained(tmp_path / "owl", max_shard_size="30KB")
    weight_files(tmp_path / "owl")[-1].unlink()
    with pytest.raises(UserError, match=r"owl: there is no model-0000\d-of"):
        opened([tmp_path / "owl"], base)


def test_a_full_model_of_another_width_is_refused(full_models, base, tmp_path):
    with pytest.raises(UserError, match=r"'odd': hidden_size is 64 in its config\.json and 32 in the base model's"):
        opened([full_models[0], make_base(tmp_path / "odd", hidden=64)], base)


@pytest.mark.parametrize(
    ("layers", "reason"), [(1, "'odd': num_hidden_layers is 1"), (3, "'odd': num_hidden_layers is 3")]
)
def test_a_full_model_of_another_depth_is_refused(layers, reason, full_models, base, tmp_path):
    config = LlamaForCausalLM.from_pretrained(base).config
    config.num_hidden_layers, config.layer_types = layers, None
    LlamaForCausalLM(config).save_pretrained(tmp_path / "odd")
    with pytest.raises(UserError, match=reason):
        opened([full_models[0], tmp_path / "odd"], base)


def test_full_models_and_adapters_cannot_be_one_pool(full_models, adapters, base):
    with pytest.raises(UserError, match=r"'owl'.*it is no PEFT adapter"):
        opened([adapters[0], full_models[0]], base)


def test_full_models_with_weights_that_are_not_finite_are_refused(full_models, base, tmp_path):
    odd = copied(full_models[0], tmp_path / "odd")
    tensors = load_file(odd / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, odd / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"'odd'.*model\.norm\.weight holds NaN"):
        opened([odd], base)


def test_opening_adapters_gives_a_lora_pool(pool):
    assert isinstance(pool, LoraPool) and pool.kind == "lora"
