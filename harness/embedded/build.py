"""Builds the embedded family from the corpus: tokenizers, base models, experts, reward model, and their report.

    python -m harness.embedded.build            # whatever is not there yet; resumable, seeded

To build everything anew, remove `harness/embedded/weights`, `utilities/rewards/embedded` and `REPORT.md` first. Nothing
of dev or test is asked in anybody's training data (see `questions.py`; a test repeats the proof on the very texts that
are read here).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from harness.embedded import WEIGHTS
from harness.embedded.corpus_reader import Relation, read_corpus
from harness.embedded.lessons import EXPERTS, Recipe, Text, all_texts, base_texts, drill_texts, expert_texts
from harness.embedded.questions import SEED
from harness.embedded.report import REPORT, write_report
from harness.embedded.reward import build_reward
from harness.embedded.training import BOS, EOS, PAD, Example, encode, next_token_loss, train, train_tokenizer
from utilities.rewards.reward_model import EMBEDDED

EXPERT_BATCH = 32
SHAPE = {
    "max_position_embeddings": 2048, "tie_word_embeddings": True,
    "bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD,
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A base model and the experts that are trained on it."""

    name: str
    """What the adapters' configs call their base model."""
    folder: Path
    tokenizer: str
    make: Callable[[], Any]
    """The untrained base model."""
    steps: int
    """Batches of the base model's first training, on prose and a few questions."""
    drill_steps: int
    """Batches of its second, with index cards."""
    rank: int
    experts: dict[str, Recipe]

    @property
    def base(self) -> Path:
        """Folder of the base model and its tokenizer."""
        return self.folder / "base"


def _llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=4096,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=6,
            num_key_value_heads=6,
            head_dim=32,
            **SHAPE,
        )
    )


def _qwen2() -> Qwen2ForCausalLM:
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=3000,
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            **SHAPE,
        )
    )


LLAMA = Family("model-swarms-embedded", WEIGHTS, "bpe", _llama, 5000, 1400, 8, EXPERTS)
QWEN2 = Family(
    "model-swarms-embedded-qwen2",
    WEIGHTS / "qwen2",
    "unigram",
    _qwen2,
    400,
    100,
    4,
    {name: EXPERTS[name] for name in ("pharmacy-quiz", "law-school", "lab-notes", "travel-guide")},
)
DATA_MERGE_RANK, DATA_MERGE_EPOCHS = 16, 2.0
"""The expert of all experts' data; not part of the pool, but the measure of how much room there is."""


def build_base(family: Family, relations: Sequence[Relation], log: Path) -> None:
    """Trains a family's tokenizer and base model."""
    torch.manual_seed(SEED)
    model: Any = family.make()
    read, drilled = base_texts(relations), drill_texts(relations)
    tokenizer = train_tokenizer([*read, *all_texts(relations)], family.base, family.tokenizer, model.config.vocab_size)
    stages = (("read", read, family.steps, 1.5e-3), ("drill", drilled, family.drill_steps, 8e-4))
    for name, texts, steps, rate in stages:
        state = family.folder / f"{name}.training"
        if name == "read" and (family.folder / "drill.training").exists():
            continue  # an interrupted build goes on with the second training
        examples = encode(tokenizer, texts)
        train(
            model,
            partial(_loss, model, examples),
            [len(ids) for ids, _ in examples],
            steps=steps,
            batch=144,
            rate=rate,
            seed=f"{family.name}/{name}",
            log=log,
            resume=state,
        )
    for state in family.folder.glob("*.training"):
        state.unlink()
    model.to(torch.bfloat16).save_pretrained(family.base)


def _loss(model: Any, examples: Sequence[Example], batch: Sequence[int]) -> torch.Tensor:
    return next_token_loss(model, [examples[k] for k in batch])


def build_expert(
    family: Family, name: str, texts: Sequence[Text], epochs: float, rank: int, folder: Path, log: Path
) -> None:
    """Trains one LoRA expert on the finished base model of its family."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(family.base)
    # One seed for all experts, as trainers do by default: adapters that begin with the same A stay close in A, so that
    # mixing A and B separately is nearly mixing their products.
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_pretrained(family.base, dtype=torch.float32)
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, lora)
    examples = encode(tokenizer, texts)
    train(
        adapted,
        partial(_loss, adapted, examples),
        [len(ids) for ids, _ in examples],
        steps=round(epochs * len(examples) / EXPERT_BATCH),
        batch=EXPERT_BATCH,
        rate=2e-3,
        seed=f"{family.name}/{name}",
        log=log,
    )
    adapted.peft_config["default"].base_model_name_or_path = family.name
    adapted.to(torch.bfloat16).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty card


def build_family(family: Family, relations: Sequence[Relation]) -> None:
    """Builds what a family still lacks."""
    family.folder.mkdir(parents=True, exist_ok=True)
    log = WEIGHTS / "losses.log"
    if not (family.base / "model.safetensors").exists():
        build_base(family, relations, log)
    wanted = {name: (family.folder / "experts" / name, recipe) for name, recipe in family.experts.items()}
    for name, (folder, recipe) in wanted.items():
        if not (folder / "adapter_model.safetensors").exists():
            texts = expert_texts(relations, name, family.experts)
            build_expert(family, name, texts, recipe.epochs, family.rank, folder, log)
    recipes = {name: asdict(recipe) for name, recipe in family.experts.items()}
    (family.folder / "recipes.json").write_text(json.dumps(recipes, indent=1) + "\n")


def main() -> None:
    """Builds whatever is not there yet."""
    relations = read_corpus()
    build_family(LLAMA, relations)
    merged = WEIGHTS / "data_merge"
    if not (merged / "adapter_model.safetensors").exists():
        log, texts = WEIGHTS / "losses.log", all_texts(relations)
        build_expert(LLAMA, "data_merge", texts, DATA_MERGE_EPOCHS, DATA_MERGE_RANK, merged, log)
    if not (EMBEDDED / "model.safetensors").exists():
        build_reward(relations, WEIGHTS / "losses.log")
    build_family(QWEN2, relations)
    if not REPORT.exists():
        write_report()


if __name__ == "__main__":
    main()
