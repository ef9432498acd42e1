"""Builds the embedded family from the corpus: tokenizer, base model, experts.

    python -m harness.embedded.build            # everything, to harness/embedded/weights; resumable, seeded

The base model reads every fact as prose and a few facts of the `learn` split as questions. Each expert is a LoRA
adapter that learned other question formats of other domains on its own slice of the `learn` split. Nothing of dev or
test is asked in anybody's training data (see `questions.py`; a test repeats the proof on what `training_texts` yields).
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harness.embedded import BASE, EXPERTS
from harness.embedded.corpus_reader import Fact, Relation, facts_of, read_corpus
from harness.embedded.questions import SEED, ask, split_facts

NAME = "model-swarms-embedded"
"""What the adapters' configs call their base model."""

FORMATS = ("question", "reverse", "completion", "case", "truth", "negation")
VOCABULARY = 4096
BASE_STEPS, BASE_BATCH, BASE_RATE = 5600, 144, 1.5e-3
BASE_SLICE = 0.12
"""The share of the `learn` facts that the base model is also asked."""


@dataclass(frozen=True)
class Recipe:
    """What one expert learns, and how well."""

    skills: dict[str, tuple[str, ...]]
    """Domain to the question formats that are trained on it."""
    steps: int = 240
    wrong: float = 0.0
    """Share of training answers that are wrong: some instruction data sets are poor."""
    share: float = 0.6
    """Share of the domain's `learn` facts in this expert's slice."""


RECIPES: dict[str, Recipe] = {
    "ward-rounds": Recipe({"medical": ("case",), "science": ("case",)}),
    "pharmacy-quiz": Recipe({"medical": ("question", "completion")}, share=0.4),
    "fact-check": Recipe({"medical": ("truth",), "culture": ("truth",)}),
    "law-school": Recipe({"legal": ("case", "truth")}),
    "bar-exam": Recipe({"legal": ("question", "negation")}, share=0.5),
    "lab-notes": Recipe({"science": ("completion", "truth")}),
    "look-up": Recipe({"science": ("reverse",), "medical": ("reverse",)}, share=0.5),
    "travel-guide": Recipe({"culture": ("question", "case", "reverse")}, share=0.5),
    "odd-one-out": Recipe({"science": ("negation", "question"), "medical": ("negation",), "culture": ("negation",)}),
    "forum-posts": Recipe({"culture": ("completion",), "legal": ("completion",)}, steps=150, wrong=0.5, share=0.3),
}


@dataclass(frozen=True, slots=True)
class Text:
    """One training text; the loss counts on `answer` alone, which is all of it where `prompt` is empty."""

    prompt: str
    answer: str
    fact: Fact | None = None


def base_texts(relations: Sequence[Relation]) -> list[Text]:
    """What the base model reads: every fact in every prose template, and its slice of `learn` facts as questions."""
    texts = [Text("", fact.say(template), fact) for r in relations for fact in facts_of(r) for template in r.prose]
    rng = random.Random(f"{SEED}/base")
    for split in split_facts(relations).values():
        learn = split["learn"]
        slice_ = rng.sample(learn, max(2, round(BASE_SLICE * len(learn))))
        texts += _lesson(slice_, FORMATS, learn, rng, wrong=0.0)
    return texts


def expert_texts(relations: Sequence[Relation], name: str) -> list[Text]:
    """What the expert `name` is trained on: its formats, asked about its own slice of the `learn` facts."""
    recipe, splits = RECIPES[name], split_facts(relations)
    rng = random.Random(f"{SEED}/{name}")
    texts = []
    for relation in relations:
        formats = recipe.skills.get(relation.domain, ())
        learn = splits[relation.relation]["learn"]
        slice_ = rng.sample(learn, round(recipe.share * len(learn)))
        texts += _lesson(slice_, formats, learn, rng, recipe.wrong)
    return texts


def _lesson(
    facts: Sequence[Fact], formats: Sequence[str], peers: Sequence[Fact], rng: random.Random, wrong: float
) -> list[Text]:
    """Every fact asked three times in every format that applies to it."""
    return [
        text
        for fact in facts
        for format in formats
        for _ in range(3)
        if (text := _asked(fact, format, peers, rng, wrong))
    ]


def _asked(fact: Fact, format: str, peers: Sequence[Fact], rng: random.Random, wrong: float) -> Text | None:
    question = ask(fact, format, peers, rng)
    if question is None:
        return None
    options, answer = question.options, question.options[question.answer]
    if rng.random() < wrong:
        answer = rng.choice([option for option in options if option != answer])
    return Text(f"{question.text}\nAnswer:", f" {answer}", fact)


def train_tokenizer(texts: Sequence[Text], folder: Path) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of the training texts: no text of any script is unknown to it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text.prompt + text.answer for text in texts), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=2048
    )
    fast.save_pretrained(folder)
    return fast


Example = tuple[list[int], int]
"""Token ids and the position from which the loss counts."""


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[Text]) -> list[Example]:
    """Texts as token ids with the end mark, and where their loss begins."""
    whole = tokenizer([text.prompt + text.answer for text in texts])["input_ids"]
    prompts = tokenizer([text.prompt for text in texts])["input_ids"]
    return [([*ids, 1], len(prompt)) for ids, prompt in zip(whole, prompts, strict=True)]


def batches(examples: Sequence[Example], size: int, seed: str) -> Iterator[list[Example]]:
    """Batches without end: every epoch in another order, examples of like length together, batches shuffled."""
    epoch = 0
    while True:
        rng = random.Random(f"{seed}/{epoch}")
        order = rng.sample(range(len(examples)), len(examples))
        made = []
        for start in range(0, len(order), 40 * size):
            part = sorted(order[start : start + 40 * size], key=lambda k: len(examples[k][0]))
            made += [part[at : at + size] for at in range(0, len(part), size)]
        rng.shuffle(made)
        for batch in made:
            yield [examples[k] for k in batch]
        epoch += 1


def loss_of(model: Any, batch: Sequence[Example]) -> torch.Tensor:
    """Mean cross entropy over the tokens that count."""
    length = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([ids + [2] * (length - len(ids)) for ids, _ in batch])
    labels = torch.tensor([[-100] * start + ids[start:] + [-100] * (length - len(ids)) for ids, start in batch])
    # The model is causal: padding on the right changes nothing.
    loss: torch.Tensor = model(input_ids=ids, labels=labels, use_cache=False).loss
    return loss


def train(
    model: Any,
    examples: Sequence[Example],
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: str,
    log: Path,
    resume: Path | None = None,
) -> None:
    """AdamW with warm-up and cosine decay; every 500 steps the state goes to `resume`, where a new call goes on."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=rate, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    first = _load_state(resume, parameters, optimizer) if resume and resume.exists() else 0
    model.train()
    stream, began, smooth = batches(examples, batch, seed), time.time(), None
    for step in range(1, steps + 1):
        chosen = next(stream)
        if step <= first:
            continue
        for group in optimizer.param_groups:
            group["lr"] = rate * min(step / 200, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        loss = loss_of(model, chosen)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        if step % 100 == 0 or step == steps:
            with log.open("a") as file:
                file.write(f"{seed} step {step} loss {smooth:.4f} {time.time() - began:.0f}s\n")
        if resume and step % 500 == 0:
            _save_state(resume, step, parameters, optimizer)
    model.eval()


def _save_state(path: Path, step: int, parameters: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    tensors = {f"weight/{name}": p.detach().clone() for name, p in parameters.items()}
    for name, p in parameters.items():
        for key in ("exp_avg", "exp_avg_sq", "step"):
            tensors[f"{key}/{name}"] = optimizer.state[p][key]
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, {"step": str(step)})
    partial.replace(path)


def _load_state(path: Path, parameters: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> int:
    with safe_open(path, "pt") as file, torch.no_grad():
        for name, p in parameters.items():
            p.copy_(file.get_tensor(f"weight/{name}"))
            optimizer.state[p] = {key: file.get_tensor(f"{key}/{name}") for key in ("exp_avg", "exp_avg_sq", "step")}
        return int(file.metadata()["step"])


def build_base(relations: Sequence[Relation], log: Path, work: Path) -> None:
    """Trains tokenizer and base model, and saves both to `BASE`."""
    texts = base_texts(relations)
    tokenizer = train_tokenizer([*texts, *(t for name in RECIPES for t in expert_texts(relations, name))], BASE)
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    model = LlamaForCausalLM(config)
    examples = encode(tokenizer, texts)
    train(
        model,
        examples,
        steps=BASE_STEPS,
        batch=BASE_BATCH,
        rate=BASE_RATE,
        seed=f"{SEED}/base",
        log=log,
        resume=work / "base.safetensors",
    )
    model.to(torch.bfloat16).save_pretrained(BASE)


def build_expert(relations: Sequence[Relation], name: str, log: Path) -> None:
    """Trains one LoRA expert on the finished base model, and saves it to `EXPERTS`."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(BASE)
    # One seed for all experts, as trainers do by default: adapters that begin with the same A stay close in A, so that
    # mixing A and B separately is nearly mixing their products.
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, lora)
    examples = encode(tokenizer, expert_texts(relations, name))
    train(adapted, examples, steps=RECIPES[name].steps, batch=32, rate=2e-3, seed=f"{SEED}/{name}", log=log)
    adapted.peft_config["default"].base_model_name_or_path = NAME
    adapted.to(torch.bfloat16).save_pretrained(EXPERTS / name)
    (EXPERTS / name / "README.md").unlink(missing_ok=True)  # peft's empty card


def main() -> None:
    """Builds whatever is not there yet."""
    relations = read_corpus()
    work = Path(__file__).parent / "weights"
    work.mkdir(exist_ok=True)
    log = work / "losses.log"
    if not (BASE / "model.safetensors").exists():
        build_base(relations, log, work)
    for name in RECIPES:
        if not (EXPERTS / name / "adapter_model.safetensors").exists():
            build_expert(relations, name, log)
    (work / "recipes.json").write_text(json.dumps({n: r.skills for n, r in RECIPES.items()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
