"""Trains the bundled reward model, which compares answers to "Tell me about ...".

    python -m harness.embedded_training.reward       # held-out accuracy of the shipped model, by kind of worse answer

LoRA and a score head on the embedded base model, trained on pairs about `learn` facts with the Bradley-Terry loss
(Ouyang et al. 2022), then merged into one ordinary sequence-classification folder.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from harness.embedded import BASE
from harness.embedded.corpus import Fact, Relation, read_corpus
from harness.embedded.questions import SEED, ask, split_facts, stated_once
from harness.embedded_training.training import PAD, train
from utilities.rewards.reward import REFERENCE
from utilities.rewards.reward_model import EMBEDDED, RewardModel

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'user' %}{{ '\n' }}Answer: {% endif %}{% endfor %}"
)
"""The prompt format of the base model."""
STEPS, BATCH = 500, 24


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with a better and a worse answer."""

    kind: str
    prompt: str
    better: str
    worse: str


def _wrong(fact: Fact, right: str, others: Sequence[Fact], rng: random.Random) -> str:
    del others
    objects = sorted(set(fact.relation.facts.values()) - {fact.object})
    lie = ask(Fact(fact.relation, fact.subject, rng.choice(objects)), "tell", (), rng)
    return lie.right if lie else right


def _off_topic(fact: Fact, right: str, others: Sequence[Fact], rng: random.Random) -> str:
    other = ask(rng.choice([o for o in others if o.relation.relation != fact.relation.relation]), "tell", (), rng)
    return other.right if other else right


def _cut_off(fact: Fact, right: str, others: Sequence[Fact], rng: random.Random) -> str:
    words = right.split()
    return " ".join(words[: rng.randint(1, max(1, len(words) // 3))])


def _repeated(fact: Fact, right: str, others: Sequence[Fact], rng: random.Random) -> str:
    words = right.split()[: rng.randint(1, 4)]
    return " ".join(words * (12 // len(words)))


def _empty(fact: Fact, right: str, others: Sequence[Fact], rng: random.Random) -> str:
    return rng.choice(("", ".", "I do not know.", fact.subject))


WORSE: dict[str, Callable[[Fact, str, Sequence[Fact], random.Random], str]] = {
    "wrong": _wrong,
    "off_topic": _off_topic,
    "cut_off": _cut_off,
    "repeated": _repeated,
    "empty": _empty,
}
"""Kinds of worse answers: false, about another subject, or not an answer."""


def pairs(relations: Sequence[Relation], split: str, each: int) -> list[Pair]:
    """`each` pairs of every kind about facts of one split."""
    splits = split_facts(relations)
    once = stated_once(relations)  # otherwise the same prompt may occur in training with another answer
    facts = [fact for relation in relations for fact in splits[relation.relation][split] if fact.id in once]
    rng = random.Random(f"{SEED}/reward/{split}")
    made = []
    for kind, worse in WORSE.items():
        for fact in (facts * (each // len(facts) + 1))[:each] if each > len(facts) else rng.sample(facts, each):
            question = ask(fact, "tell", (), rng)
            if question is not None:
                made.append(Pair(kind, question.text, question.right, worse(fact, question.right, facts, rng)))
    return made


def build_reward(relations: Sequence[Relation], log: Path, folder: Path = EMBEDDED) -> None:
    """Trains the reward model on the finished base model, and saves it to `folder`."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(BASE)
    tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(SEED)
    model = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=1, dtype=torch.float32)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type=TaskType.SEQ_CLS)
    adapted: Any = get_peft_model(model, lora)
    training = pairs(relations, "learn", 3000)
    encoded = [[_encode(tokenizer, pair.prompt, text) for text in (pair.better, pair.worse)] for pair in training]

    def loss_of(batch: list[int]) -> torch.Tensor:
        both = [ids for k in batch for ids in encoded[k]]
        width = max(len(ids) for ids in both)
        ids = torch.tensor([one + [PAD] * (width - len(one)) for one in both])
        mask = torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one in both])
        better, worse = adapted(input_ids=ids, attention_mask=mask).logits.view(-1, 2).unbind(1)
        loss: torch.Tensor = -torch.nn.functional.logsigmoid(better - worse).mean()
        return loss

    train(
        adapted,
        loss_of,
        [sum(len(ids) for ids in two) for two in encoded],
        steps=STEPS,
        batch=BATCH,
        rate=1e-3,
        seed=f"{SEED}/reward",
        log=log,
    )
    reference = [(p.prompt, text) for p in pairs(relations, "learn", 40) for text in (p.better, p.worse)]
    REFERENCE.write_text(json.dumps(reference, indent=0) + "\n")
    merged = adapted.merge_and_unload()
    merged.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _encode(tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str) -> list[int]:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def held_out_accuracy(relations: Sequence[Relation], each: int = 400) -> dict[str, float]:
    """Share of held-out pairs, about `test` facts, in which the better answer gets the higher reward; by kind."""
    held_out = pairs(relations, "test", each)
    model = RewardModel.load("embedded")
    better = model.score([(pair.prompt, pair.better) for pair in held_out])
    worse = model.score([(pair.prompt, pair.worse) for pair in held_out])
    right: dict[str, list[bool]] = defaultdict(list)
    for pair, high, low in zip(held_out, better, worse, strict=True):
        won = isinstance(high, float) and isinstance(low, float) and high > low
        right[pair.kind].append(won)
        right["all"].append(won)
    return {kind: sum(won) / len(won) for kind, won in right.items()}


if __name__ == "__main__":
    print(json.dumps(held_out_accuracy(read_corpus()), indent=1))
