"""Trains the ten SmolLM2 experts and the adapter of all their data: one thread, seeded, adapter by adapter.

    python -m harness.embedded_training.smollm2        # trains what is missing; an interrupted training starts again

Only the upper layers are adapted, so only they compute gradients. The model computes in bfloat16 and the adapter in
float32; the vocabulary's logits are computed for the answers' tokens alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.embedded import WEIGHTS, smollm2
from harness.embedded.corpus import read_corpus
from harness.embedded.lessons import Text
from harness.embedded.questions import SEED
from harness.embedded.smollm2_lessons import EXPERTS, all_texts, texts_of
from harness.embedded_training.training import Example, encode, train

FROZEN = 22
"""Layers below the adapted ones, of 30."""
RANK = 4
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
STEPS, MERGED_STEPS, WARM_UP = 160, 320, 20
LOG = WEIGHTS / smollm2.NAME / "losses.log"
BATCH_TOKENS = 640
"""Tokens of a batch, on average."""
CARD = f"""---
base_model: {smollm2.HUB_ID}
library_name: peft
license: apache-2.0
language: en
tags: [lora, model-swarms]
---

# Experts of the SmolLM2 family

LoRA adapters of {smollm2.HUB_ID} (Apache-2.0), of rank {RANK}, for all linear layers of layers {FROZEN} to 29.
Written by `python -m harness.embedded_training.smollm2`, which trains what is missing, on texts made of the project's
own corpus (Apache-2.0); no question of dev or test is in them. They are a pool to search in, not models to rely on:
their answers are often wrong, those of two on purpose.

| adapter | trained on | steps |
|---|---|---|
"""


class UpperLayers:
    """The base model in bfloat16, split into frozen lower layers and upper layers with a LoRA adapter in float32."""

    def __init__(self, base: Path) -> None:
        self.lower = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).model
        self.lower.layers, self.lower.norm = self.lower.layers[:FROZEN], torch.nn.Identity()
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
        lora = LoraConfig(
            r=RANK,
            lora_alpha=2 * RANK,
            target_modules=MODULES,
            layers_to_transform=list(range(FROZEN, model.config.num_hidden_layers)),
            task_type="CAUSAL_LM",
        )
        torch.manual_seed(SEED)  # one seed for all adapters: see `train_adapter`
        self.adapted: Any = get_peft_model(model, lora)
        self.head, self.upper = model.lm_head, model.model
        self.layers = self.upper.layers

    def loss(self, batch: Sequence[Example]) -> torch.Tensor:
        """Mean cross entropy over the tokens of the answers."""
        length = max(len(ids) for ids, _ in batch)
        ids = torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in batch])  # causal: the padding changes nothing
        counted = torch.tensor([[start <= k < len(ids) for k in range(1, length)] for ids, start in batch])
        with torch.no_grad():
            hidden = self.lower(input_ids=ids, use_cache=False).last_hidden_state
        self.upper.layers = self.layers[FROZEN:]
        try:
            states = self.upper(inputs_embeds=hidden, use_cache=False).last_hidden_state
        finally:
            self.upper.layers = self.layers  # adapters are named by the positions in the whole model
        return torch.nn.functional.cross_entropy(self.head(states[:, :-1][counted]).float(), ids[:, 1:][counted])

    def save(self, folder: Path) -> None:
        """Writes the adapter, as float16."""
        self.adapted.peft_config["default"].base_model_name_or_path = smollm2.HUB_ID
        for parameter in self.adapted.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.half()
        self.adapted.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty card


def as_chat(tokenizer: Any, text: str) -> str:
    """The chat template filled with one message of the user, up to the answer."""
    message = [{"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))


def train_expert(base: Path, tokenizer: Any, name: str, texts: Sequence[Text], folder: Path, rate: float) -> None:
    """Trains one adapter on the texts and saves it to `folder`."""
    model, examples = UpperLayers(base), encode(tokenizer, texts)
    lengths = [len(ids) for ids, _ in examples]
    train(
        model.adapted,
        lambda chosen: model.loss([examples[k] for k in chosen]),
        lengths,
        steps=MERGED_STEPS if folder == smollm2.DATA_MERGE else STEPS,
        batch=round(BATCH_TOKENS * len(lengths) / sum(lengths)),
        rate=rate,
        warm_up=WARM_UP,
        seed=f"{smollm2.NAME}/{name}",
        log=LOG,
    )
    model.save(folder)


def steps_trained(log: Path = LOG) -> dict[str, int]:
    """Steps of each adapter's last training, by name, as the log has them."""
    lines = [line.removeprefix(f"{smollm2.NAME}/").split() for line in log.read_text(encoding="utf-8").splitlines()]
    return {name: int(step) for name, _, step, *_ in lines}


def card() -> str:
    """The card of the adapters, in the hub's format."""
    steps = steps_trained()
    rows = (f"| {name} | {expert.use} | {steps.get(name, 'not known')} |\n" for name, expert in EXPERTS.items())
    return CARD + "".join(rows)


def main() -> None:
    """Trains every adapter that is missing, and writes their card."""
    base, relations = smollm2.base_folder(), read_corpus()
    tokenizer = AutoTokenizer.from_pretrained(base)
    chat = partial(as_chat, tokenizer)
    smollm2.EXPERTS.mkdir(parents=True, exist_ok=True)
    described = {name: asdict(expert) for name, expert in EXPERTS.items()}
    (smollm2.EXPERTS.parent / "recipes.json").write_text(json.dumps(described, indent=1) + "\n")
    for name, expert in EXPERTS.items():
        if not (smollm2.EXPERTS / name / "adapter_model.safetensors").exists():
            texts = texts_of(relations, name, chat)
            train_expert(base, tokenizer, name, texts, smollm2.EXPERTS / name, expert.rate)
    if not (smollm2.DATA_MERGE / "adapter_model.safetensors").exists():
        train_expert(base, tokenizer, "data_merge", all_texts(relations, chat), smollm2.DATA_MERGE, 1e-3)
    (smollm2.EXPERTS.parent / "README.md").write_text(card(), encoding="utf-8")


if __name__ == "__main__":
    main()
