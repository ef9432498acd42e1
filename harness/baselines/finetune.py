"""Fine-tuning one LoRA on pairs of prompt and answer.

`dev_finetune` trains on the dev items that every search uses; the reviewers of the paper asked for this comparison.
`data_merge` trains on the union of the experts' own training texts, which a user of finished experts does not have: an
upper reference.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from harness.baselines.training_texts import Pair
from utilities.core import Item
from utilities.errors import UserError
from utilities.scorers.base import PromptedScorer

__all__ = ["Finetuned", "finetune", "held_out_pairs", "pairs_of", "why_no_pairs"]

BATCH = 8
RATES = (2e-4, 2e-3)
"""Learning rates tried; a rate for a billion parameters is too small for a million."""
PATIENCE = 3
"""Training stops after so many epochs without a lower held-out loss."""
Ids = tuple[list[int], list[int]]
"""Token ids of a prompt and of its answer."""


class Finetuned(NamedTuple):
    """The result of a training."""

    loss: float
    """Mean loss an answer token of the held-out pairs, in nats: the lowest one, of the adapter that is returned."""
    epochs: int
    """Epochs after which it was reached."""
    rate: float
    """Its learning rate."""


def why_no_pairs(scorer: Any, items: Sequence[Item]) -> str | None:
    """The reason why `scorer` and `items` give no training pairs; None if they do."""
    if not isinstance(scorer, PromptedScorer):
        return f"{type(scorer).__name__} has no prompt of its own"
    if scorer.prompt.chat:
        return "the prompts are in a chat template, which the training does not use"
    if missing := next((item for item in items if not (item.answer or "").strip()), None):
        return f"item {missing.id!r} has no right answer to train on"
    return None


def pairs_of(scorer: PromptedScorer, items: Sequence[Item]) -> list[Pair]:
    """Pairs of the scorer's prompt and the gold answer: the option's text, its letter, or the answer."""
    return [Pair(scorer.prompt.render(item), f" {scorer.gold_text(item)}", item.source) for item in items]


def finetune(
    base: Path,
    like: Path,
    pairs: Sequence[Pair],
    folder: Path,
    *,
    epochs: int,
    held_out: float = 0.2,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    trust_remote_code: bool = False,
) -> Finetuned:
    """Trains one LoRA adapter by AdamW and writes it to `folder`.

    A share of the pairs is held out; the adapter of the epoch and learning rate with the lowest loss on it is written,
    and training stops when this loss has not fallen for `PATIENCE` epochs.

    Args:
        base: Folder of the base model.
        like: Folder of an adapter whose rank, target modules and base model name are used.
        pairs: Training data; pairs longer than the model's context are left out.
        folder: Folder of the new adapter, in float32.
        epochs: Maximum number of epochs.
        held_out: Share of the pairs that is not trained on; pairs of one source are all held out or all trained on.
        seed: Of the split, of the initial weights and of the order.
        device: auto is a GPU if there is one.
        trust_remote_code: Whether Python code of the base model's repository may run.

    Raises:
        UserError: Pairs of fewer than two sources fit into the model's context.
    """
    disable_progress_bar()  # of reading weights from disk
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=trust_remote_code)
    device_name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    dtype = torch.bfloat16 if device_name == "cuda" else torch.float32
    like_config = LoraConfig.from_pretrained(like)
    best: tuple[Finetuned, Any] | None = None
    for rate in RATES:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_pretrained(
                base, dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code
            ).to(device_name)
            config = copy(like_config)
            config.inference_mode, config.init_lora_weights, config.lora_dropout = False, True, 0.0
            config.base_model_name_or_path = None  # set at the end
            adapted = get_peft_model(model, config)
            context = int(getattr(model.config, "max_position_embeddings", 0) or 2048)
            encoded = _encode(tokenizer, pairs, context)
            held_places = held_out_pairs([pairs[k].source for k in encoded], held_out, seed)
            held = [one for place, one in enumerate(encoded.values()) if place in held_places]
            train = [one for place, one in enumerate(encoded.values()) if place not in held_places]
            result = _train(adapted, train, held, rate, epochs, seed)
        if best is None or result.loss < best[0].loss:
            best = result, adapted
    assert best is not None  # noqa: S101 - there are learning rates
    best[1].peft_config["default"].base_model_name_or_path = like_config.base_model_name_or_path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # peft looks up the base by that name; it may not exist
        best[1].float().save_pretrained(folder, save_embedding_layers=False)  # else it asks the hub
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty card
    return best[0]


def _encode(tokenizer: Any, pairs: Sequence[Pair], context: int) -> dict[int, Ids]:
    """Index of each pair that fits to its ids; prompt and answer are encoded separately, and EOS ends the answer."""
    prompts = tokenizer([pair.prompt for pair in pairs])["input_ids"]
    answers = tokenizer([pair.answer for pair in pairs], add_special_tokens=False)["input_ids"]
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    encoded = [(prompt, [*answer, *end]) for prompt, answer in zip(prompts, answers, strict=True)]
    return {k: (p, a) for k, (p, a) in enumerate(encoded) if p and len(p) + len(a) <= context}


def held_out_pairs(sources: Sequence[str | None], share: float, seed: int) -> set[int]:
    """Indices of the pairs that are held out: whole sources in random order, until about `share` of the pairs is.

    Args:
        sources: Source of each pair; a pair without one is its own source.
        share: Share of the pairs.
        seed: Seed of the order.

    Raises:
        UserError: There are fewer than two sources, so one part would be empty.
    """
    groups: dict[str | int, list[int]] = {}
    for k, source in enumerate(sources):
        groups.setdefault(k if source is None else source, []).append(k)
    if len(groups) < 2:
        raise UserError(
            f"{len(sources)} training pairs fit into the model's context; pairs of two or more sources are needed"
        )
    names = list(groups)
    held: set[int] = set()
    for place in np.random.default_rng(seed).permutation(len(names))[:-1]:
        held |= set(groups[names[place]])
        if len(held) >= share * len(sources):
            break
    return held


def _batches(examples: Sequence[Ids]) -> Iterator[Sequence[Ids]]:
    for start in range(0, len(examples), BATCH):
        yield examples[start : start + BATCH]


def _loss(model: Any, batch: Sequence[Ids]) -> tuple[torch.Tensor, int]:
    """Summed cross entropy of the answers' tokens, and their number. A causal model ignores padding on the right."""
    width = max(len(prompt) + len(answer) for prompt, answer in batch)
    ids = torch.tensor([[*p, *a] + [0] * (width - len(p) - len(a)) for p, a in batch], device=model.device)
    labels = torch.tensor(
        [[-100] * len(p) + a + [-100] * (width - len(p) - len(a)) for p, a in batch], device=model.device
    )
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    loss = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum")
    return loss, sum(len(answer) for _, answer in batch)


def _held_out_loss(model: Any, held: Sequence[Ids]) -> float:
    model.eval()
    with torch.inference_mode():
        sums = [(float(loss), count) for loss, count in (_loss(model, batch) for batch in _batches(held))]
    return sum(loss for loss, _ in sums) / sum(count for _, count in sums)


def _train(model: Any, train: Sequence[Ids], held: Sequence[Ids], rate: float, epochs: int, seed: int) -> Finetuned:
    """Trains the parameters of `model` that require a gradient; at the end it has those of the best epoch."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    steps, step = epochs * math.ceil(len(train) / BATCH), 0
    best, since = Finetuned(_held_out_loss(model, held), 0, rate), 0
    best_values = [p.detach().clone() for p in parameters]
    for epoch in range(1, epochs + 1):
        model.train()
        order = np.random.default_rng([seed, epoch]).permutation(len(train))
        for batch in _batches([train[k] for k in order]):
            step += 1
            for group in optimizer.param_groups:  # a short warm-up, then linear decay to 0
                group["lr"] = rate * min(step / 10, 1.0) * (1.0 - (step - 1) / steps)
            loss, count = _loss(model, batch)
            (loss / count).backward()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        value, since = _held_out_loss(model, held), since + 1
        if value < best.loss:
            best, since, best_values = Finetuned(value, epoch, rate), 0, [p.detach().clone() for p in parameters]
        if since >= PATIENCE:
            break
    with torch.no_grad():
        for p, best_value in zip(parameters, best_values, strict=True):
            p.copy_(best_value)
    model.eval()
    return best
