import json

import pytest
import torch
from conftest import make_adapter, make_base, refused
from peft import PeftModel
from text_run import make_winner_run
from tiny_models import edit_json, make_full, make_lora, make_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.publish import merge
from harness.publish.merge import merge_run
from utilities.errors import UserError

TOKENS = torch.arange(3, 40)[None]


@torch.no_grad()
def logits(model):
    return model(TOKENS).logits


def unmerged(base, run):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return logits(PeftModel.from_pretrained(model, run / "best"))


def test_the_merged_folder_gives_the_logits_of_base_and_adapter(base, adapters, tmp_path, here):
    run = make_winner_run(tmp_path / "run", base, adapters)
    done = here("merge", run, "--out", tmp_path / "out" / "merged")
    assert done.returncode == 0 and "(float32)" in done.stdout, done.stderr
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "merged")
    assert torch.allclose(logits(merged), unmerged(base, run), atol=1e-4)
    assert not torch.allclose(logits(merged), logits(AutoModelForCausalLM.from_pretrained(base)), atol=0.1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out" / "merged")
    assert tokenizer("ab").input_ids == AutoTokenizer.from_pretrained(base)("ab").input_ids
    card = (tmp_path / "out" / "merged" / "README.md").read_text()
    assert "library_name: transformers" in card and 'from_pretrained("merged")' in card and str(tmp_path) not in card
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["merged"]
    refused(here("merge", run, "--out", tmp_path / "out" / "merged"), "already exists")


@pytest.mark.parametrize("kind", ["gpt2", "falcon", "qwen3"])
def test_weights_that_are_transposed_fused_or_tied_are_merged(tmp_path, kind):
    base = make_model(tmp_path / "base", kind)
    expert = make_lora(base, tmp_path / "expert")
    run = make_winner_run(tmp_path / "run", base, [expert], [0.7])
    merge_run(run, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(logits(merged), unmerged(base, run), atol=1e-4)


def test_an_output_layer_that_is_tied_to_the_embedding_becomes_its_own(base, tmp_path):
    expert = make_adapter(base, tmp_path / "expert", 1, target_modules=["q_proj", "lm_head"])
    run = make_winner_run(tmp_path / "run", base, [expert], [0.7])
    assert merge_run(run, tmp_path / "merged").divergence < 1e-6
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.equal(merged.get_input_embeddings().weight, AutoModelForCausalLM.from_pretrained(base).lm_head.weight)


def test_half_precision_is_written_if_wanted_or_if_the_base_has_it(tmp_path):
    base = make_base(tmp_path / "base")
    run = make_winner_run(tmp_path / "run", base, [make_adapter(base, tmp_path / "expert", 1)], [0.2])
    assert merge_run(run, tmp_path / "half", dtype="bfloat16").dtype == torch.bfloat16
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"


def test_what_cannot_be_merged_is_refused_and_nothing_is_left(base, adapters, tmp_path, monkeypatch):
    run = make_winner_run(tmp_path / "run", base, adapters)
    quantised = make_base(tmp_path / "quantised")
    edit_json(quantised / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(UserError, match=r"is quantised \(gptq\).*--base-model"):
        merge_run(run, tmp_path / "merged", base_model=str(quantised))
    monkeypatch.setattr(merge, "_divergence", lambda *_: float("nan"))
    with pytest.raises(UserError, match="does not compute what base and adapter compute"):
        merge_run(run, tmp_path / "merged")
    full = make_winner_run(tmp_path / "full", base, [make_full(base, tmp_path / "own")], [1.0])
    with pytest.raises(UserError, match=f"a full model already, a folder of transformers: {full / 'best'}"):
        merge_run(full, tmp_path / "merged")
    (run / "best" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match="has no weights; `resume"):
        merge_run(run, tmp_path / "merged")
    assert not [path for path in tmp_path.iterdir() if "merged" in path.name]
