"""Builds the embedded family from the corpus: tokenizers, base models, experts, reward model, judge, and their report.

    python -m harness.embedded_training.build            # builds what is missing; resumable, seeded

To rebuild everything, remove `harness/embedded/weights`, `utilities/rewards/embedded` and `REPORT.md` first. Nothing
of dev or test is asked in any training data (see `questions.py`; a test checks the training texts).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from harness.embedded import JUDGE, WEIGHTS
from harness.embedded.corpus import Relation, read_corpus
from harness.embedded.lessons import EXPERTS, Recipe, all_texts, base_texts, expert_texts
from harness.embedded.questions import SEED
from harness.embedded_training.judge import build_judge
from harness.embedded_training.report import REPORT, write_report
from harness.embedded_training.reward import build_reward
from harness.embedded_training.training import BOS, EOS, PAD, encode, train_adapter, train_on_texts, train_tokenizer
from harness.run_folder.store import write_atomically
from utilities.rewards.reward_model import EMBEDDED

BASE_BATCH = 256
SHAPE = {
    "max_position_embeddings": 2048, "tie_word_embeddings": True,
    "bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD,
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A base model and the experts that are trained on it."""

    name: str
    """Prefix of its seeds and of its lines in the log of losses."""
    folder: Path
    tokenizer: str
    make: Callable[[], Any]
    """The untrained base model."""
    steps: int
    """Batches of the base model's training."""
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


LLAMA = Family("model-swarms-embedded", WEIGHTS, "bpe", _llama, 1800, 8, EXPERTS)
QWEN2 = Family(
    "model-swarms-embedded-qwen2",
    WEIGHTS / "qwen2",
    "unigram",
    _qwen2,
    400,
    4,
    {name: EXPERTS[name] for name in ("pharmacy-quiz", "law-school", "lab-notes", "travel-guide")},
)
DATA_MERGE_RANK, DATA_MERGE_EPOCHS = 16, 2.0
"""The expert of all data; not part of the pool, but a reference for the possible gain."""


def build_base(family: Family, relations: Sequence[Relation], log: Path) -> None:
    """Trains a family's tokenizer and base model."""
    torch.manual_seed(SEED)
    model: Any = family.make()
    texts = base_texts(relations)
    tokenizer = train_tokenizer([*texts, *all_texts(relations)], family.base, family.tokenizer, model.config.vocab_size)
    examples = encode(tokenizer, texts)
    state = family.folder / "base.training"
    train_on_texts(
        model,
        examples,
        steps=family.steps,
        batch=BASE_BATCH,
        rate=5e-3,
        seed=f"{family.name}/base",
        log=log,
        muon=True,
        resume=state,
    )
    state.unlink()
    model.to(torch.bfloat16).save_pretrained(family.base)
    config = json.loads((family.base / "config.json").read_text())
    # Adapters refer to their base by this name; transformers reads it, and does not write it.
    write_atomically(family.base / "config.json", json.dumps({**config, "_name_or_path": family.name}, indent=2) + "\n")


def build_family(family: Family, relations: Sequence[Relation]) -> None:
    """Builds the missing parts of a family."""
    family.folder.mkdir(parents=True, exist_ok=True)
    log = WEIGHTS / "losses.log"
    if not (family.base / "model.safetensors").exists():
        build_base(family, relations, log)
    wanted = {name: (family.folder / "experts" / name, recipe) for name, recipe in family.experts.items()}
    for name, (folder, recipe) in wanted.items():
        if not (folder / "adapter_model.safetensors").exists():
            texts = expert_texts(relations, name, family.experts)
            seed = f"{family.name}/{name}"
            train_adapter(family.base, texts, folder, rank=family.rank, epochs=recipe.epochs, seed=seed, log=log)
    recipes = {name: asdict(recipe) for name, recipe in family.experts.items()}
    (family.folder / "recipes.json").write_text(json.dumps(recipes, indent=1) + "\n")


def main() -> None:
    """Builds everything that is missing."""
    relations = read_corpus()
    build_family(LLAMA, relations)
    merged = WEIGHTS / "data_merge"
    if not (merged / "adapter_model.safetensors").exists():
        log, texts = WEIGHTS / "losses.log", all_texts(relations)
        seed = f"{LLAMA.name}/data_merge"
        train_adapter(LLAMA.base, texts, merged, rank=DATA_MERGE_RANK, epochs=DATA_MERGE_EPOCHS, seed=seed, log=log)
    if not (EMBEDDED / "model.safetensors").exists():
        build_reward(relations, WEIGHTS / "losses.log")
    if not (JUDGE / "adapter_model.safetensors").exists():
        build_judge(relations, WEIGHTS / "losses.log")
    build_family(QWEN2, relations)
    if not REPORT.exists():
        write_report()


if __name__ == "__main__":
    main()
