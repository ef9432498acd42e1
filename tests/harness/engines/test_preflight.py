"""`validate` promises what `evaluate` keeps: bases and pools that fit, and others that are refused in one sentence."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import (
    ADAPTER,
    ARCHITECTURES,
    CONFIG,
    TARGETS,
    WEIGHTS,
    edit_json,
    edit_tensors,
    make_full,
    make_lora,
    make_model,
)
from transformers import AutoModelForCausalLM

from harness.cli.main import _run

TASK = {
    "name": "small",
    "title": "Two kinds of questions",
    "combine": "mean",
    "editions": {
        "own": {
            "settings": {"iterations": 1, "particles": 4},
            "item_sets": {
                "choices": {
                    "scorer": "multiple_choice",
                    "options": {"prompt": "plain", "answer_by": "text"},
                    "items": {
                        split: [
                            {"id": str(k), "question": f"Is it {k}?", "choices": {"A": "lamp", "B": "b"}, "answer": "A"}
                            for k in range(2)
                        ]
                        for split in ("dev", "test")
                    },
                },
                "texts": {
                    "scorer": "exact_match",
                    "options": {"prompt": "bare", "max_tokens": 4},
                    "items": {
                        split: [{"id": f"{split}{k}", "question": f"What is {k}?", "answer": "x"} for k in range(2)]
                        for split in ("dev", "test")
                    },
                },
            },
        }
    },
}  # fmt: skip


def kind_of(name, **changes):
    """A base of an architecture and two adapters of it."""

    def make(folder):
        base = make_model(folder / "base", name, **changes)
        options = {"target_modules": TARGETS[name]} if name in TARGETS else {}
        for seed, expert in enumerate("ab", 1):
            make_lora(base, folder / expert, seed, **options)

    return make


def changed(change, *, full=False):
    """A small Llama and two experts, and what `change` makes of the folder that holds them."""

    def make(folder):
        base = make_model(folder / "base", hidden_size=16, head_dim=8)
        for seed, expert in enumerate("ab", 1):
            (make_full if full else make_lora)(base, folder / expert, seed)
        change(folder)

    return make


def config(**values):
    return changed(lambda folder: edit_json(folder / "base/config.json", **values))


def adapter(**values):
    return changed(lambda folder: edit_json(folder / "a" / CONFIG, **values))


def tensors(path, change):
    return changed(lambda folder: edit_tensors(folder / path, change))


def first(change):
    """Changes one tensor of a file."""
    return lambda held: held | {name: change(held[name]) for name in sorted(held)[1:2]}


def text(path, content):
    return changed(lambda folder: (folder / path).write_text(content))


def without(*paths):
    return changed(lambda folder: [(folder / path).unlink() for path in paths])


def pickled(folder):
    (folder / "base" / WEIGHTS).unlink()
    torch.save({}, folder / "base/pytorch_model.bin")


def sharded(folder):
    AutoModelForCausalLM.from_pretrained(folder / "base").save_pretrained(folder / "base", max_shard_size="5KB")
    (folder / "base" / WEIGHTS).unlink(missing_ok=True)


def last_shard_missing(folder):
    sharded(folder)
    sorted((folder / "base").glob("model-*.safetensors"))[-1].unlink()


def broken_index(folder):
    sharded(folder)
    (folder / "base/model.safetensors.index.json").write_text("{}")


def half_a_file(folder):
    data = (folder / "base" / WEIGHTS).read_bytes()
    (folder / "base" / WEIGHTS).write_bytes(data[: len(data) // 2])


def mlx_adapter(folder):
    for name in (ADAPTER, CONFIG):
        (folder / "a" / name).unlink()
    save_file({"x": torch.ones(1)}, folder / "a/adapters.safetensors")
    (folder / "a" / CONFIG).write_text('{"fine_tune_type": "lora", "lora_parameters": {"rank": 8}}')


def scales(folder):
    held = load_file(folder / "base" / WEIGHTS)
    name = next(name for name in held if name.endswith("q_proj.weight"))
    held[name] = held[name].to(torch.float8_e4m3fn)
    save_file(held | {f"{name}_scale_inv": torch.ones(1)}, folder / "base" / WEIGHTS, {"format": "pt"})


def names(one, other):
    def change(folder):
        edit_json(folder / "a" / CONFIG, base_model_name_or_path=one)
        edit_json(folder / "b" / CONFIG, base_model_name_or_path=other)

    return changed(change)


FITS = {
    **{f"kind {name}": kind_of(name) for name in ARCHITECTURES},
    "untied": kind_of("llama", tie_word_embeddings=False),
    "sharded": changed(sharded),
    "float8 adapter": tensors(f"a/{ADAPTER}", lambda held: {k: v.to(torch.float8_e4m3fn) for k, v in held.items()}),
    "half adapter": tensors(f"a/{ADAPTER}", lambda held: {k: v.half() for k, v in held.items()}),
    "bfloat16 base": tensors(f"base/{WEIGHTS}", lambda held: {k: v.bfloat16() for k, v in held.items()}),
    "no base name": names(None, ""),
    "quantised twin": names("owner/Small-bnb-4bit", "small"),
    "inactive key": adapter(use_new_thing=False, other_thing=None),
    "full models": changed(lambda folder: None, full=True),
    "no generation config": without("base/generation_config.json"),
    "output layer": changed(
        lambda folder: [
            make_lora(folder / "base", folder / name, k, target_modules=["lm_head"]) for k, name in enumerate("ab")
        ]
    ),
}
REFUSED = {
    "config null": text("base/config.json", "null"),
    "config cut off": text("base/config.json", "{"),
    "config nested": text("base/config.json", "[" * 100_000),
    "width a text": config(hidden_size="x"),
    "width of no model": config(hidden_size=10**9),
    "other width": config(hidden_size=64),
    "no heads": config(num_attention_heads=0),
    "a million layers": config(num_hidden_layers=10**6),
    "unknown model type": config(model_type="of_the_future"),
    "gptq": config(quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128}),
    "awq": config(quantization_config={"quant_method": "awq", "bits": 4, "group_size": 128}),
    "fp8": config(quantization_config={"quant_method": "fp8"}),
    "mlx base": config(quantization={"group_size": 64, "bits": 4}),
    "pickled base": changed(pickled),
    "no weights": without(f"base/{WEIGHTS}"),
    "missing shard": changed(last_shard_missing),
    "broken index": changed(broken_index),
    "cut off": changed(half_a_file),
    "no tokenizer": without("base/tokenizer.json", "base/tokenizer_config.json"),
    "tokenizer is no tokenizer": text("base/tokenizer.json", "{}"),
    "missing tensor": tensors(f"base/{WEIGHTS}", lambda held: {k: v for k, v in held.items() if "norm" not in k}),
    "base not finite": tensors(f"base/{WEIGHTS}", first(lambda tensor: tensor * float("nan"))),
    "base of integers": tensors(f"base/{WEIGHTS}", first(lambda tensor: tensor.to(torch.int8))),
    "scales without a config": changed(scales),
    "adapter not finite": tensors(f"a/{ADAPTER}", first(lambda tensor: tensor / 0)),
    "adapter of truth values": tensors(f"a/{ADAPTER}", first(lambda tensor: tensor > 0)),
    "adapter config nested": text(f"a/{CONFIG}", "[" * 100_000),
    "alpha not a number": adapter(lora_alpha=float("nan")),
    "base name a list": adapter(base_model_name_or_path=["a"]),
    "pattern no regex": adapter(rank_pattern={"(((": 8}),
    "unknown active key": adapter(scale_by_depth=0.5),
    "mlx adapter": changed(mlx_adapter),
    "other bases": names("owner/one", "owner/two"),
    "rope of a full model": changed(
        lambda folder: edit_json(
            folder / "a/config.json", rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
        ),
        full=True,
    ),
    "quantised full model": changed(
        lambda folder: edit_json(folder / "a/config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        full=True,
    ),
    "context too short": config(max_position_embeddings=8),
    **{f"encoder {name}": kind_of(name, is_decoder=False) for name in ("roberta", "rembert")},
    **{
        f"sees later tokens {name}": text("base/config.json", json.dumps({"model_type": name}))
        for name in ("xlnet", "xlm", "cpmant", "prophetnet", "roformer", "megatron-bert", "big_bird", "bert")
    },
    "encoder and decoder": text("base/config.json", json.dumps({"model_type": "t5"})),
    "vocabulary of another model": kind_of("llama", vocab_size=60),
}


@pytest.fixture
def verb(tmp_path, capfd):
    """Runs a verb of the command line on the models in a folder: its exit code and what it wrote."""
    task = tmp_path / "small.yaml"
    task.write_text(json.dumps(TASK))

    def run(name, *more):
        arguments = [name, "--task", str(task), "--base-model", str(tmp_path / "base"), "--engine", "local"]
        arguments += ["--experts", str(tmp_path / "a"), "--experts", str(tmp_path / "b"), *more]
        try:
            _run(arguments, "run.py")
            code = 0
        except SystemExit as end:
            code = end.code
        out, err = capfd.readouterr()
        return code, out + err

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_what_validate_accepts_evaluate_runs(name, verb, tmp_path):
    FITS[name](tmp_path)
    code, output = verb("validate")
    assert code == 0, output
    code, output = verb("evaluate", "--limit", "2")
    assert code == 0 and "Traceback" not in output, output
    assert "no item could be scored" not in output


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_validate_refuses_in_one_sentence(name, verb, tmp_path):
    REFUSED[name](tmp_path)
    code, output = verb("validate")
    assert code == 2, output
    message = output[output.index("Error: ") :].strip()
    assert "Traceback" not in output and message and "\n\n" not in message


def test_a_chat_template_that_the_base_lacks_is_refused_before_a_run_begins(verb, tmp_path):
    changed(lambda folder: None)(tmp_path)
    task = json.loads(json.dumps(TASK))
    instructions = {"dev": ["What does a rabbit eat?"], "test": ["How long do rabbits live?"]}
    options = {"topic": "rabbits", "prompt": "bare", "chat": True, "max_tokens": 8}
    task["editions"]["own"]["item_sets"] = {
        "instructions": {"scorer": "topic_interest", "options": options, "items": instructions}
    }
    (tmp_path / "small.yaml").write_text(json.dumps(task))
    more = ["--judge", "embedded", "--judge-cache", str(tmp_path / "cache")]
    code, output = verb("search", "--out", str(tmp_path / "runs"), *more)
    assert code == 2 and "chat template" in output
    assert not (tmp_path / "runs").exists()


def test_items_that_do_not_fit_are_counted_and_a_few_of_many_are_a_note(verb, tmp_path):
    changed(lambda folder: None)(tmp_path)
    task = json.loads(json.dumps(TASK))
    items = [{"id": str(k), "question": f"What is {k}?", "answer": "x"} for k in range(20)]
    items[7]["question"] *= 100
    task["editions"]["own"]["item_sets"]["texts"]["items"]["dev"] = items
    (tmp_path / "small.yaml").write_text(json.dumps(task))
    code, output = verb("validate")
    assert code == 0 and "1 of 20 dev items cannot be scored: item 7" in " ".join(output.split())
    for item in items[:5]:
        item["question"] *= 100
    (tmp_path / "small.yaml").write_text(json.dumps(task))
    code, output = verb("validate")
    assert code == 2 and "of 20 dev items cannot be scored" in " ".join(output.split())


def test_the_rows_cover_at_least_sixty_bases_and_pools():
    assert len(FITS) + len(REFUSED) >= 60
    assert not set(FITS) & set(REFUSED)
