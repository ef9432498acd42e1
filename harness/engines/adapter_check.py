"""The adapter check: an engine that loads adapters finds out that one is applied.

An adapter whose tensors match no module leaves the base model answering, silently. So after every load the model's
log-probabilities of a fixed text are compared with the base model's: they must differ, by more than rounding does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from harness.engines.tokenizer import Tokens
from harness.experts.pool import LoraPool, Pool
from utilities.errors import UserError

__all__ = ["AdapterCheck", "check_finite_logprobs", "check_servable"]

TEXT = "The adapter check compares this text: 1, 2, 3 and so on."
LONG = 600
"""Tokens of the long prompt."""
OUTPUT_LAYERS = {"lm_head", "embed_out"}


class AdapterCheck:
    """A fixed text and the base model's log-probabilities of it.

    Args:
        tokens: The base model's tokenizer.
    """

    def __init__(self, tokens: Tokens) -> None:
        self.ids = tokens.ids([TEXT])[0][: tokens.context // 4]
        self.prompts = [self.ids, *(self.ids * k for k in (1, 2, 3))]
        """Prompts for the base model: the text alone, and in a batch, which rounds the same numbers otherwise."""
        self.long = (self.ids * (1 + LONG // len(self.ids)))[: min(LONG, tokens.context - 2)]
        """A prompt as long as those on which some GPUs' kernels for adapters return NaN."""
        self._base, self._noise = np.zeros(len(self.ids) - 1), 0.0

    def record_base(self, logprobs: Sequence[Sequence[float]]) -> None:
        """Stores the base model's log-probabilities, and how much they vary between batches.

        Args:
            logprobs: Of each of `prompts`, from its second token on.
        """
        each = [np.array(one[: len(self.ids) - 1]) for one in logprobs]
        self._base = each[0]
        self._noise = max(self._difference(one) for one in each)

    def is_applied(self, logprobs: Sequence[float], pool: LoraPool, row: NDArray[np.float64]) -> bool:
        """Whether a particle's log-probabilities of the text show its adapter, or it changes nothing by itself."""
        return self._difference(logprobs) > self._noise or not _changes_something(pool, row)

    def is_base(self, logprobs: Sequence[float]) -> bool:
        """Whether these are the base model's log-probabilities of the text, but for rounding."""
        return self._difference(logprobs) <= max(10 * self._noise, 1e-3)

    def _difference(self, logprobs: Sequence[float] | NDArray[np.float64]) -> float:
        return float(np.abs(np.array(logprobs) - self._base).max())


def check_finite_logprobs(logprobs: Sequence[float], engine: str) -> None:
    """Log-probabilities of a prompt with an adapter are numbers.

    Raises:
        UserError: One is NaN or infinite; the token is named.
    """
    wrong = np.flatnonzero(~np.isfinite(np.array(logprobs, dtype=float)))
    if len(wrong):
        raise UserError(
            f"--engine {engine}: with an adapter, the log-probability of token {int(wrong[0]) + 1} of a prompt of"
            f" {len(logprobs) + 1} tokens is not a finite number: its kernels for adapters fail on this device; use"
            " --engine local"
        )


def _changes_something(pool: LoraPool, row: NDArray[np.float64]) -> bool:
    """Whether a mixture's B is anything but zero."""
    mixed = pool.mix(torch.from_numpy(row).to(torch.float32)[None])
    return any(bool(tensor.any()) for name, tensor in mixed if name.endswith(".B"))


def check_servable(pool: Pool | None, engine: str) -> LoraPool | None:
    """The pool, if vLLM can serve its mixtures.

    Raises:
        UserError: Full models; or adapters of the output layer, with whose slots vLLM computes a prompt's
            log-probabilities for whatever request came last.
    """
    if pool is None:
        return None
    if not isinstance(pool, LoraPool):
        raise UserError(
            f"--engine {engine} serves LoRA adapters, and these experts are full models; take --engine local"
        )
    if any(module.rsplit(".", 1)[-1] in OUTPUT_LAYERS for module in pool.modules):
        raise UserError(f"--engine {engine}: the experts adapt the output layer; only --engine local answers for that")
    return pool
