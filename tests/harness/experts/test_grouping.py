"""Groups of modules: which they are, what a row says of each, and that a mixture is made of that and nothing else."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_base
from hypothesis import given as for_all
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from harness.engines.local import LocalEngine
from harness.engines.settings import EngineSettings
from harness.experts.grouping import OUTSIDE, Grouping
from harness.experts.model_pool import ModelPool
from harness.experts.pool import open_pool
from harness.run.adapt import adapt
from harness.run_folder.events import Bus, Evaluated, IterationDone, Note
from harness.run_folder.store import Store
from harness.session.session import BASE, open_session
from harness.session.settings import run_settings
from utilities.errors import UserError

IDS = torch.arange(3, 40)[None]
ADAPTER = "adapter_model.safetensors"
KINDS = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
CPU = EngineSettings(device="cpu", dtype="float32")


def opened(folders, base, granularity="model"):
    return open_pool([str(folder) for folder in folders], base).grouped(granularity)


@pytest.fixture(scope="module")
def pool(adapters, base):
    return opened(adapters, base)


@pytest.fixture
def given(base, adapters):
    """Settings of a small job; a test adds its own."""

    def make(**changes):
        flat = {"task": "medical", "edition": "mini", "limit": 4, "base_model": str(base), "particles": 4}
        flat |= {"iterations": 2, "experts": [str(folder) for folder in adapters], "device": "cpu"}
        return run_settings({**flat, **changes})

    return make


def row_of(pool, seed=1):
    """A row [groups * experts] whose coefficients all differ."""
    return np.random.default_rng(seed).normal(0.3, 0.6, len(pool.grouping.groups) * len(pool.experts))


def part_of(granularity, row, path):
    """The coefficients of a module of the tiny model, read off its path without any help of the code under test."""
    number = {"model": lambda: 0, "layer": lambda: int(path.split(".")[2]), "module": lambda: KINDS.index(_last(path))}
    return row.reshape(-1, 3)[number[granularity]()]


def _last(path):
    return path.split(".")[-1]


# -- which groups there are --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granularity", "groups"), [("model", ("model",)), ("layer", ("layer 0", "layer 1")), ("module", KINDS)]
)
def test_the_groups_of_a_llama(granularity, groups, pool):
    assert pool.grouped(granularity).grouping.groups == groups


def test_layers_are_in_the_order_of_their_numbers_and_what_has_none_is_one_group():
    paths = ["lm_head", *(f"model.layers.{k}.mlp.experts.{j}.w1" for k in (10, 2, 0) for j in (7, 1)), "model.norm"]
    grouping = Grouping.of(paths, "layer", 2)
    assert grouping.groups == ("layer 0", "layer 2", "layer 10", OUTSIDE)
    assert grouping.number["model.layers.10.mlp.experts.1.w1"] == 2
    assert grouping.number["lm_head"] == grouping.number["model.norm"] == 3


def test_two_stacks_of_layers_are_kept_apart():
    grouping = Grouping.of(["vision.blocks.0.q", "model.layers.0.q", "model.layers.1.q"], "layer", 2)
    assert grouping.groups == ("model.layers.0", "model.layers.1", "vision.blocks.0")


def test_without_numbers_there_is_one_layer_and_kinds_as_ever():
    paths = ["encoder.first.q_proj", "encoder.second.q_proj", "encoder.second.mlp"]
    assert Grouping.of(paths, "layer", 2).groups == (OUTSIDE,)
    assert Grouping.of(paths, "module", 2).groups == ("mlp", "q_proj")


def test_modules_of_a_sequence_are_kinds_with_their_number():
    assert Grouping.of(["h.0.mlp.0", "h.1.mlp.2", "h.1.mlp.0"], "module", 2).groups == ("mlp.0", "mlp.2")
    assert Grouping.of(["0", "1"], "module", 2).groups == ("0", "1")


@hypothesis_settings(deadline=None)
@for_all(
    st.permutations([f"h.{k}.{kind}" for k in range(4) for kind in "abc"] + ["head"]),
    st.sampled_from(["layer", "module"]),
)
def test_the_order_of_modules_does_not_matter(paths, granularity):
    assert Grouping.of(paths, granularity, 3) == Grouping.of(sorted(paths), granularity, 3)


def test_a_row_of_another_width_is_no_row(pool):
    layers = pool.grouped("layer")
    for width in (2, 4, 9):
        with pytest.raises(ValueError, match=f"a row of {width} coefficients for 3 experts in 2 groups"):
            list(layers.mix(torch.zeros(1, width)))
        with pytest.raises(ValueError, match=f"a row of {width} coefficients"):
            layers.grouping.for_every_group(np.zeros(width))


def test_a_grouped_pool_is_another_one(pool):
    assert pool.grouped("layer").grouping.groups != pool.grouping.groups == ("model",)


# -- mixtures of adapters ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["model", "layer", "module"])
def test_each_tensor_is_the_sum_with_the_coefficients_of_its_group(granularity, pool, adapters):
    grouped = pool.grouped(granularity)
    rows = np.stack([row_of(grouped, seed) for seed in (1, 2)])
    files = [load_file(folder / ADAPTER) for folder in adapters]
    found = dict(grouped.mix(torch.from_numpy(rows)))
    assert len(found) == len(files[0]) == 28
    for name, tensors in found.items():
        path, letter = name.rsplit(".", 1)
        for row, tensor in zip(rows, tensors, strict=True):
            experts = [file[f"base_model.model.{path}.lora_{letter}.weight"].double() for file in files]
            part = part_of(granularity, row, path)
            torch.testing.assert_close(
                tensor, sum(c * e for c, e in zip(part, experts, strict=True)), atol=1e-12, rtol=0
            )


@pytest.mark.parametrize("granularity", ["model", "layer", "module"])
def test_one_row_for_all_groups_is_the_ungrouped_mixture_bit_for_bit(granularity, pool):
    rows = torch.from_numpy(np.random.default_rng(3).normal(size=(4, 3)))
    grouped = pool.grouped(granularity)
    written_out = torch.stack([torch.from_numpy(grouped.grouping.for_every_group(row)) for row in rows.numpy()])
    assert written_out.shape == (4, 3 * len(grouped.grouping.groups))
    for (name, plain), short, long in zip(pool.mix(rows), grouped.mix(rows), grouped.mix(written_out), strict=True):
        assert short[0] == long[0] == name
        assert torch.equal(short[1], plain) and torch.equal(long[1], plain)


@pytest.mark.parametrize("granularity", ["layer", "module"])
def test_a_written_mixture_answers_in_plain_peft_like_weights_mixed_by_hand(
    granularity, pool, adapters, base, tmp_path
):
    grouped = pool.grouped(granularity)
    row = row_of(grouped)
    grouped.write(torch.from_numpy(row), tmp_path / "mixed")
    by_hand = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), adapters[0]).double().eval()
    files = [load_file(folder / ADAPTER) for folder in adapters]
    for name, parameter in by_hand.named_parameters():
        if "lora_" in name:
            key = name.replace(".default", "")
            part = part_of(granularity, row, key.removeprefix("base_model.model.").split(".lora_")[0])
            parameter.data.copy_(sum(c * file[key].double() for c, file in zip(part, files, strict=True)))
    winner = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), tmp_path / "mixed").double().eval()
    mean = row.reshape(-1, 3).mean(axis=0)
    grouped.write(torch.from_numpy(mean), tmp_path / "mean")
    shared = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), tmp_path / "mean").double().eval()
    with torch.inference_mode():
        expected = by_hand(IDS).logits
        torch.testing.assert_close(winner(IDS).logits, expected, atol=1e-5, rtol=0)
        assert (shared(IDS).logits - expected).abs().max() > 0.01  # the groups do matter


@pytest.mark.parametrize("granularity", ["layer", "module"])
def test_an_expert_in_one_group_changes_the_modules_of_that_group_alone(granularity, pool, base, tmp_path):
    """Seen by peft: the expert's own change of the weights there, and none elsewhere."""
    grouped = pool.grouped(granularity)
    groups = grouped.grouping.groups
    row = np.zeros((len(groups), 3))
    row[1, 2] = 1.0
    grouped.write(torch.from_numpy(row.reshape(-1)), tmp_path / "one")
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), tmp_path / "one")
    cat = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), grouped.experts[2].folder)
    inside = 0
    for (name, one), (_, other) in zip(model.named_modules(), cat.named_modules(), strict=True):
        if not hasattr(one, "get_delta_weight"):
            continue
        mine = groups[grouped.grouping.number[name.removeprefix("base_model.model.")]] == groups[1]
        inside += mine
        expected = other.get_delta_weight("default") if mine else torch.zeros_like(other.get_delta_weight("default"))
        assert torch.equal(one.get_delta_weight("default"), expected)
    assert inside == {"layer": 7, "module": 2}[granularity]


def test_one_expert_can_be_weighted_by_layer(base, adapters, tmp_path):
    layers = opened(adapters[:1], base, "layer")
    found = dict(layers.mix(torch.tensor([[0.0, 2.0]])))
    plain = dict(opened(adapters[:1], base).mix(torch.tensor([[1.0]])))
    for name, tensor in found.items():
        assert torch.equal(tensor, plain[name] * (0.0 if ".layers.0." in name else 2.0))


class Unnumbered(nn.Module):
    """Two linear modules under names without a number."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False)


def test_adapters_of_modules_without_a_number_are_one_layer(tmp_path, monkeypatch):
    folders = []
    for seed, name in enumerate(("ant", "bee")):
        torch.manual_seed(seed)
        model = get_peft_model(
            Unnumbered(), LoraConfig(r=2, target_modules=["first", "second"], init_lora_weights=False)
        )
        model.save_pretrained(tmp_path / name)
        folders.append(tmp_path / name)
    shapes = {"first.weight": (4, 4), "second.weight": (3, 4)}
    base = SimpleNamespace(folder=folders[0], config=None, shapes=shapes, model=Unnumbered())
    monkeypatch.setattr("harness.experts.pool.read_base", lambda *_, **__: base)
    pool = opened(folders, tmp_path)
    row = torch.tensor([[0.3, -1.2]])
    for granularity, count in (("layer", 1), ("module", 2)):
        grouped = pool.grouped(granularity)
        assert len(grouped.grouping.groups) == count
        for name, tensor in grouped.mix(row):
            assert torch.equal(tensor, dict(pool.mix(row))[name])
    apart = dict(pool.grouped("module").mix(torch.tensor([[1.0, 0.0, 0.0, 1.0]])))
    assert torch.equal(apart["first.A"], dict(pool.mix(torch.tensor([[1.0, 0.0]])))["first.A"])
    assert torch.equal(apart["second.B"], dict(pool.mix(torch.tensor([[0.0, 1.0]])))["second.B"])


# -- mixtures of full models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["layer", "module"])
def test_full_models_are_mixed_by_group_and_rows_of_zeros_are_the_base(granularity, base, tmp_path):
    folders = [make_base(tmp_path / name, seed) for seed, name in enumerate(("one", "two"), 21)]
    pool = opened(folders, base, granularity)
    assert isinstance(pool, ModelPool)
    groups = pool.grouping.groups
    assert (groups[-1] == OUTSIDE) == (granularity == "layer")
    row = np.random.default_rng(5).normal(0.4, 0.3, (len(groups), 2))
    row[0] = 0.0
    files = [load_file(folder / "model.safetensors") for folder in (*folders, base)]
    for name, tensor in pool.mix(torch.from_numpy(row.reshape(1, -1))):
        one, two, own = (file[name].double() for file in files)
        a, b = row[pool.grouping.number[name.rpartition(".")[0]]]
        torch.testing.assert_close(tensor[0], own + a * (one - own) + b * (two - own), atol=1e-12, rtol=0)
        if a == b == 0.0:
            assert torch.equal(tensor[0], own)
    pool.write(torch.from_numpy(row.reshape(-1)), tmp_path / "mixed")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "mixed")(IDS).logits.isfinite().all()


# -- on an engine ------------------------------------------------------------------------------------------------------


def test_the_local_engine_answers_a_grouped_row_as_peft_does(pool, base, tmp_path):
    layers = pool.grouped("layer")
    row = row_of(layers)
    layers.write(torch.from_numpy(row), tmp_path / "mixed")
    engine, alone = LocalEngine(base, layers, CPU), LocalEngine(base, opened([tmp_path / "mixed"], base), CPU)
    prompts, options = ["The heart pumps", "Q: what is it?\nA:"], [[" blood", " air"], [" yes", " no"]]

    def answers(engine, row):
        found = asyncio.run(engine.particle(np.asarray(row)).choice_logprobs(prompts, options))
        return [value for one in found for value in one.logprobs]

    try:
        first = answers(engine, row)
        assert answers(alone, [1.0]) == pytest.approx(first, abs=1e-4)
        shared = answers(engine, row[:3])
        assert shared != pytest.approx(first, abs=1e-3)
        assert answers(engine, np.tile(row[:3], 2)) == shared
        assert answers(engine, row) == first
    finally:
        engine.close()
        alone.close()


# -- from settings to result -------------------------------------------------------------------------------------------


def begun(settings, folder, *subscribers):
    """The job, begun or continued."""
    session = open_session(settings)
    again = (folder / "settings.yaml").exists()
    store = Store.open(folder) if again else Store.create(folder, {"settings": settings.model_dump(mode="json")})
    bus = Bus()
    for subscriber in (store.log, *subscribers):
        bus.subscribe(subscriber)
    try:
        return session, adapt(session, store, bus)
    finally:
        store.close()


@pytest.mark.parametrize(
    ("granularity", "include_base", "preset"),
    [
        ("model", False, "default"),
        ("module", False, "paper"),
        ("layer", True, "default"),
    ],
)
def test_a_model_is_adapted_at_every_granularity(granularity, include_base, preset, given, tmp_path):
    seen = []
    session, result = begun(
        given(granularity=granularity, include_base=include_base, preset=preset, particles=8, top_k=3),
        tmp_path / "run",
        seen.append,
    )
    winner, columns = result.winner, session.columns
    assert list(winner.coefficients) == columns == [*result.experts, *([BASE] if include_base else [])]
    notes = [event.text for event in seen if isinstance(event, Note)]
    assert any("coefficients for each of" in note for note in notes) == (granularity != "model")
    done = [event for event in seen if isinstance(event, IterationDone)]
    if winner.finalist == "best":
        assert done[-1].coefficients == winner.coefficients
    assert preset == "default" or winner.finalist == "best"
    card = (tmp_path / "run" / "best" / "README.md").read_text()
    if granularity == "model":
        assert winner.groups == {} and "| expert | coefficient |" in card
    else:
        assert list(winner.groups) == list(session.groups) and len(winner.groups) > 1
        for name, mean in winner.coefficients.items():
            parts = [group[name] for group in winner.groups.values()]
            assert np.mean(parts) == pytest.approx(mean, abs=1e-12)
            assert all(f"{part:+.4f}" in card for part in parts)
    # The adapter on disk is that mixture: each module of it is the sum with its group's coefficients.
    on_disk = load_file(tmp_path / "run" / "best" / ADAPTER)
    experts = [load_file(expert.folder / ADAPTER) for expert in session.pool.experts]
    groups = winner.groups or {"model": winner.coefficients}
    for key, tensor in on_disk.items():
        module = key.removeprefix("base_model.model.").split(".lora_")[0]
        part = groups[session.groups[session.pool.grouping.number[module]]]
        assert list(part)[: len(experts)] == result.experts
        expected = sum(c * file[key].double() for c, file in zip(part.values(), experts, strict=False))
        torch.testing.assert_close(tensor.double(), expected, atol=1e-5, rtol=0)
    # The initial experts were not evaluated a second time for the final table.
    evaluated = [event for event in seen if isinstance(event, Evaluated) and event.items]
    assert result.evaluations == len(evaluated)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_a_grouped_run_that_was_stopped_ends_as_one_that_was_not(preset, given, tmp_path):
    settings = given(granularity="layer", preset=preset, drop_particle=0.2, top_k=2)
    _, whole = begun(settings, tmp_path / "whole")

    def stop(event):
        if isinstance(event, IterationDone) and event.iteration == 1:
            raise Stopped

    with pytest.raises(Stopped):
        begun(settings, tmp_path / "run", stop)
    _, again = begun(settings, tmp_path / "run")
    changing = {"seconds", "time_share", "run", "winner", "cached_answers"}
    assert again.model_dump(exclude=changing) == whole.model_dump(exclude=changing)
    assert again.winner.groups == whole.winner.groups
    one, other = (load_file(tmp_path / name / "best" / ADAPTER) for name in ("whole", "run"))
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_with_shrinkage_1_a_run_finds_what_the_run_of_the_whole_model_finds(preset, given, tmp_path):
    _, whole = begun(given(preset=preset, top_k=2), tmp_path / "model")
    _, held = begun(given(preset=preset, top_k=2, granularity="module", shrinkage=1.0), tmp_path / "module")
    assert held.rows == whole.rows
    assert held.evaluations == whole.evaluations
    for part in held.winner.groups.values():
        assert part == pytest.approx(whole.winner.coefficients, abs=1e-12)
    one, other = (load_file(tmp_path / name / "best" / ADAPTER) for name in ("model", "module"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_published_search_evaluates_one_expert_once_at_any_granularity(given, adapters, tmp_path):
    settings = given(experts=[str(adapters[0])], granularity="layer", preset="paper")
    _, result = begun(settings, tmp_path / "run")
    assert result.evaluations == 1
    assert result.winner.groups == {"layer 0": {"ant": 1.0}, "layer 1": {"ant": 1.0}}


def test_rows_of_a_search_and_of_the_engine(given):
    session = open_session(given(granularity="layer", include_base=True))
    assert np.array_equal(session.unit_rows[1], [0, 1, 0, 0, 0, 1, 0, 0])
    row = np.arange(8.0)
    assert session.expert_row(row).tolist() == [0, 1, 2, 4, 5, 6]
    assert session.expert_row(np.array([1.0, 2, 3, 4, 1, 2, 3, 9])).tolist() == [1, 2, 3]  # the anchor is no expert
    assert session.expert_row(np.arange(3.0)).tolist() == [0, 1, 2]
    assert session.coefficients(row) == {"ant": 2.0, "bee": 3.0, "cat": 4.0, BASE: 5.0}
    assert session.group_coefficients(row)["layer 1"] == {"ant": 4.0, "bee": 5.0, "cat": 6.0, BASE: 7.0}


@pytest.mark.parametrize(
    ("option", "word"),
    [({"granularity": "row"}, "granularity"), ({"shrinkage": 1.5}, "shrinkage"), ({"shrinkage": -1}, "shrinkage")],
)
def test_what_is_no_granularity_or_shrinkage_is_refused(option, word, given):
    with pytest.raises(UserError, match=word):
        given(**option)
