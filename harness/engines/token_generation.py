"""Greedy generation from a mixture of next-token distributions of models that share one vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from harness.engines.tokenizer import Tokens
from utilities.errors import UserError

__all__ = ["generate_mixed", "mixed_next"]


def mixed_next(logits: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """Log-probabilities of the next token, log sum_k w_k softmax(logits_k).

    Args:
        logits: Of each model, [sequences, tokens]; wider ones, of padded embeddings, are cut to the narrowest.
        weights: w, positive, with the sum 1.

    Returns:
        [sequences, tokens] in float64.
    """
    width = min(one.shape[-1] for one in logits)
    each = torch.stack([one[:, :width].double().log_softmax(dim=-1) for one in logits])
    w = torch.tensor(weights, dtype=torch.float64, device=each.device)
    return (each + w.log()[:, None, None]).logsumexp(dim=0)


class _Reader:
    """One model that reads a batch of sequences, with its KV cache."""

    def __init__(self, model: Any, ids: Sequence[Sequence[int]], pad: int, device: torch.device) -> None:
        width = max(map(len, ids))
        self._model, self._cache = model, None
        self._ids = torch.tensor([[pad] * (width - len(one)) + list(one) for one in ids], device=device)
        self._mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in ids], device=device)

    def logits(self) -> torch.Tensor:
        """Logits of the next token, [sequences, tokens]."""
        positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)[:, -self._ids.shape[1] :]
        out = self._model(
            input_ids=self._ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache = getattr(out, "past_key_values", None)
        if self._cache is None:
            raise UserError(f"--mix tokens: {type(self._model).__name__} has no KV cache, which generation needs")
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def append(self, tokens: torch.Tensor) -> None:
        """The next token of each sequence, [sequences]."""
        self._ids = tokens[:, None]
        self._mask = torch.cat([self._mask, torch.ones_like(self._ids)], dim=1)


def generate_mixed(
    models: Sequence[Any],
    weights: Sequence[float],
    ids: Sequence[Sequence[Sequence[int]]],
    tokens: Tokens,
    max_tokens: int,
    stop: Sequence[str],
    device: torch.device,
) -> list[list[int]]:
    """The new tokens of each sequence: at every step the most likely token of the mixture.

    Args:
        models: Causal language models that share one vocabulary.
        weights: As in `mixed_next`.
        ids: The prompts in each model's tokens, [models][sequences].
        tokens: The vocabulary.
        max_tokens: Limit of new tokens.
        stop: Strings after which a sequence ends.
        device: Of the models.
    """
    readers = [_Reader(model, own, tokens.pad, device) for model, own in zip(models, ids, strict=True)]
    count = len(ids[0])
    new: list[list[int]] = [[] for _ in range(count)]
    open_ = set(range(count))
    for _ in range(max_tokens):
        best = mixed_next([reader.logits() for reader in readers], weights).argmax(dim=-1)
        for k in sorted(open_):
            token = int(best[k])
            new[k].append(token)
            text = tokens.tokenizer.decode(new[k], skip_special_tokens=True) if stop else ""
            if token in tokens.ends or any(mark in text for mark in stop):
                open_.discard(k)
        if not open_:
            break
        for reader in readers:
            reader.append(best)
    return new
