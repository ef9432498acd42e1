"""The same models and items through lm-evaluation-harness: the same numbers and choices, item by item.

Needs the extra `compat` (lm-eval); everything else of the project works without it.
"""

import asyncio
import json
import shutil

import pytest
from tiny_models import make_model
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from harness.embedded import BASE
from harness.engines.local import LocalEngine
from harness.engines.settings import EngineSettings
from utilities.data_files import read_published
from utilities.prompts import bundled
from utilities.scorers.multiple_choice import MultipleChoice

lm_eval = pytest.importorskip("lm_eval", reason="the extra `compat` is not installed")
pytestmark = pytest.mark.slow

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
BEGIN = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])


@pytest.fixture(scope="module")
def items():
    sets = ("medical_questions", "legal_cases")
    return [item for name in sets for item in read_published(bundled("tasks") / "data" / f"{name}.json")["test"][:20]]


@pytest.fixture(scope="module")
def task(items, tmp_path_factory):
    """The items as a task of lm-eval."""
    from lm_eval.api.task import ConfigurableTask

    path = tmp_path_factory.mktemp("lm_eval") / "items.jsonl"
    rows = [
        {"text": item.question, "options": list(item.choices.values()), "gold": list(item.choices).index(item.answer)}
        for item in items
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return ConfigurableTask(
        config={
            "task": "bundled",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(path)}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{text}}\nAnswer:",
            "doc_to_choice": "{{options}}",
            "doc_to_target": "{{gold}}",
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        }
    )


def byte_level(texts):
    """As of GPT-2 and Qwen: bytes, and no begin token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet))
    return tokenizer


def blank_first(texts):
    """As of Llama 2: a blank is prepended to every text, and pieces begin with their blank."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    special = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=600, special_tokens=special))
    tokenizer.pre_tokenizer, tokenizer.post_processor = None, BEGIN
    return tokenizer


def unigram(texts):
    """As of XLM-R and T5: unigram pieces of words with their blank."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = {"special_tokens": SPECIAL, "unk_token": "<unk>"}
    tokenizer.train_from_iterator(texts, trainers.UnigramTrainer(vocab_size=500, **special))
    tokenizer.post_processor = BEGIN
    return tokenizer


def make_base(folder, items, family):
    """A tiny model with random weights and a tokenizer trained on the items; the bundled base for `family` None."""
    if family is None:
        return shutil.copytree(BASE, folder)
    tokenizer = family([text for item in items for text in (item.question, *item.choices.values())])
    names = dict(zip(("unk_token", "bos_token", "eos_token", "pad_token"), SPECIAL, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    make_model(folder, vocab_size=len(tokenizer), max_position_embeddings=2048)
    (folder / "tokenizer_config.json").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", [None, byte_level, blank_first, unigram])
def test_every_item_is_scored_as_lm_eval_scores_it(family, items, task, tmp_path):
    from lm_eval.models.huggingface import HFLM

    base = make_base(tmp_path / "base", items, family)
    begins = family is not byte_level
    model = HFLM(pretrained=str(base), device="cpu", dtype="float32", batch_size=32, add_bos_token=begins)
    found = lm_eval.simple_evaluate(model=model, tasks=[task], bootstrap_iters=0, log_samples=True)
    theirs = sorted(found["samples"]["bundled"], key=lambda sample: sample["doc_id"])
    engine = LocalEngine(base, None, EngineSettings(device="cpu", dtype="float32"))
    try:
        for normalize, metric in (("none", "acc"), ("length", "acc_norm")):
            scorer = MultipleChoice(prompt="plain", answer_by="text", normalize=normalize)
            ours = asyncio.run(scorer(engine.particle(None), items)).results
            assert len(ours) == len(theirs) == len(items)
            for result, sample in zip(ours, theirs, strict=True):
                logprobs = [float(answer[0]) for answer in sample["filtered_resps"]]
                assert result.response.choice_logprobs == pytest.approx(logprobs, abs=1e-3)
                assert result.outcome.value == sample[metric]
    finally:
        engine.close()
