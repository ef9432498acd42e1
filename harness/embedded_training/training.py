"""Trains the embedded models: tokenizers, batches, and one loop that can be interrupted."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from harness.embedded.lessons import Text
from harness.embedded.questions import SEED

ADAPTER_BATCH = 32
BOS, EOS, PAD = 0, 1, 2
SPECIAL = ["<s>", "</s>", "<pad>"]
Example = tuple[list[int], int]
"""Token ids and the position from which the loss counts."""


def train_tokenizer(texts: Sequence[Text], folder: Path, kind: str, size: int) -> PreTrainedTokenizerFast:
    """A tokenizer over the bytes of the training texts, `bpe` or `unigram`: it encodes any text."""
    tokenizer = Tokenizer(models.BPE() if kind == "bpe" else models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    make = trainers.BpeTrainer if kind == "bpe" else trainers.UnigramTrainer
    trainer = make(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text.prompt + text.answer for text in texts), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=2048
    )
    fast.save_pretrained(folder)
    return fast


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[Text]) -> list[Example]:
    """Texts as token ids with the end token, and the position where the loss starts."""
    full = tokenizer([text.prompt + text.answer for text in texts])["input_ids"]
    prompts = tokenizer([text.prompt for text in texts])["input_ids"]
    return [([*ids, tokenizer.eos_token_id], len(prompt)) for ids, prompt in zip(full, prompts, strict=True)]


def batches(lengths: Sequence[int], size: int, seed: str) -> Iterator[list[int]]:
    """Indices in endless batches: a new order in every epoch, similar lengths together, batches shuffled."""
    epoch = 0
    while True:
        rng = random.Random(f"{seed}/{epoch}")
        order = rng.sample(range(len(lengths)), len(lengths))
        made = []
        for start in range(0, len(order), 40 * size):
            part = sorted(order[start : start + 40 * size], key=lengths.__getitem__)
            made += [part[at : at + size] for at in range(0, len(part), size)]
        rng.shuffle(made)
        yield from made
        epoch += 1


def next_token_loss(model: Any, batch: Sequence[Example]) -> torch.Tensor:
    """Mean cross entropy over the tokens of the answers."""
    length = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([ids + [PAD] * (length - len(ids)) for ids, _ in batch])
    labels = torch.tensor([[-100] * start + ids[start:] + [-100] * (length - len(ids)) for ids, start in batch])
    # The model is causal: padding on the right changes nothing.
    loss: torch.Tensor = model(input_ids=ids, labels=labels, use_cache=False).loss
    return loss


def train_on_texts(model: Any, examples: Sequence[Example], **settings: Any) -> None:
    """`train` with the next-token loss on encoded texts."""

    def loss_of(batch: list[int]) -> torch.Tensor:
        return next_token_loss(model, [examples[k] for k in batch])

    train(model, loss_of, [len(ids) for ids, _ in examples], **settings)


def train_adapter(
    base: Path, texts: Sequence[Text], folder: Path, *, rank: int, epochs: float, seed: str, log: Path
) -> None:
    """Trains one LoRA adapter of all linear layers on a finished base model, and saves it to `folder`."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    # One seed for all adapters, as trainers do by default: adapters that start with the same A stay close in A, so that
    # mixing A and B separately approximates mixing their products.
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, lora)
    examples = encode(tokenizer, texts)
    steps = round(epochs * len(examples) / ADAPTER_BATCH)
    train_on_texts(adapted, examples, steps=steps, batch=ADAPTER_BATCH, rate=2e-3, seed=seed, log=log)
    adapted.peft_config["default"].base_model_name_or_path = seed.rpartition("/")[0]
    adapted.to(torch.bfloat16).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty card


def train(
    model: Any,
    loss_of: Callable[[list[int]], torch.Tensor],
    lengths: Sequence[int],
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: str,
    log: Path,
    warm_up: int = 100,
    muon: bool = False,
    resume: Path | None = None,
) -> None:
    """AdamW with warm-up and cosine decay; every 200 steps the state is saved to `resume`, from which a new call
    continues.

    Args:
        model: Its parameters that require a gradient are trained.
        loss_of: The loss of a batch, given the indices of its examples.
        lengths: Tokens of each example.
        steps: Batches in all.
        batch: Examples per batch.
        rate: Highest learning rate.
        seed: Names the order of the examples, and the lines of the log.
        log: The smoothed loss is appended here every 100 steps.
        warm_up: Steps until the highest rate is reached.
        muon: Layers' weight matrices are trained by Muon instead (K. Jordan, 2024; Liu et al., arXiv 2502.16982). On
            the corpus, the loss that AdamW reached after 250 batches was reached after about 130.
        resume: Safetensors file of an interrupted training's weights and optimizer.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = [p for name, p in parameters.items() if muon and p.ndim == 2 and "embed" not in name]
    others = [p for p in parameters.values() if all(p is not matrix for matrix in matrices)]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    ]
    if matrices:  # update sizes as AdamW's, so that one rate fits both
        optimizers.append(torch.optim.Muon(matrices, lr=rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"))
    first = _load_state(resume, parameters, optimizers) if resume and resume.exists() else 0
    model.train()
    stream, began, smooth = batches(lengths, batch, seed), time.perf_counter(), None
    for step in range(1, steps + 1):
        chosen = next(stream)
        if step <= first:
            continue
        now = rate * min(step / warm_up, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = now
        loss = loss_of(chosen)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        if step % 100 == 0 or step == steps:
            with log.open("a") as file:
                file.write(f"{seed} step {step} loss {smooth:.4f} {time.perf_counter() - began:.0f}s\n")
        if resume and step % 200 == 0:
            _save_state(resume, step, parameters, optimizers)
    model.eval()


def _save_state(
    path: Path, step: int, parameters: dict[str, torch.Tensor], optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    tensors = {f"weight/{name}": p.detach().clone() for name, p in parameters.items()}
    for name, p in parameters.items():
        for optimizer in optimizers:
            tensors |= {f"{key}/{name}": value for key, value in optimizer.state.get(p, {}).items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, {"step": str(step)})
    partial.replace(path)


def _load_state(path: Path, parameters: dict[str, torch.Tensor], optimizers: Sequence[torch.optim.Optimizer]) -> int:
    with safe_open(path, "pt") as file, torch.no_grad():
        saved: dict[str, dict[str, torch.Tensor]] = {}
        for at in file.keys():  # noqa: SIM118 - a safetensors file is no dict
            key, name = at.split("/", 1)
            saved.setdefault(name, {})[key] = file.get_tensor(at)
        for name, p in parameters.items():
            p.copy_(saved[name].pop("weight"))
            owner = next(o for o in optimizers if any(p is q for group in o.param_groups for q in group["params"]))
            owner.state[p] = saved[name]
        return int(file.metadata()["step"])
