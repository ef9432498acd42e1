"""The adapter check: verifies that a loaded adapter is applied.

If an adapter's tensors match no module, an engine answers as the base model without an error. So after every load the
log-probabilities of a fixed text are compared with the base model's: they must differ by more than rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from harness.engines.tokenizer import Tokens
from harness.experts.lora_pool import LoraPool
from harness.experts.pool import Pool
from utilities.errors import UserError

__all__ = [
    "AdapterCheck",
    "base_tolerance",
    "check_finite_logprobs",
    "check_like_local",
    "check_servable",
    "rounding_tolerance",
]

TEXT = "The adapter check compares this text: 1, 2, 3 and so on."
LONG = 600
"""Tokens of the long prompt."""
TOLERANCE, LOW_PRECISION_TOLERANCE = 0.01, 0.2
"""Mean difference of a token's log-probability from the local engine's that rounding in float32 and in 16 bits can
cause."""
SAME = 0.05
"""Difference of a token's log-probability that rounding can cause in two runs of one server."""
OUTPUT_LAYERS = {"lm_head", "embed_out"}


class AdapterCheck:
    """A fixed text and the base model's log-probabilities of it.

    Args:
        tokens: The base model's tokenizer.
    """

    def __init__(self, tokens: Tokens) -> None:
        self.ids = tokens.ids([TEXT])[0][: tokens.context // 4]
        self.prompts = [self.ids, *(self.ids * k for k in (1, 2, 3))]
        """Prompts for the base model: the text alone, and in a batch, where rounding differs."""
        self.long = (self.ids * (1 + LONG // len(self.ids)))[: min(LONG, tokens.context - 2)]
        """A prompt as long as those on which some GPUs' kernels for adapters return NaN."""
        self._base, self._noise = np.zeros(len(self.ids) - 1), 0.0

    def record_base(self, logprobs: Sequence[Sequence[float]]) -> None:
        """Stores the base model's log-probabilities and their variation between batches.

        Args:
            logprobs: Of each of `prompts`, starting at its second token.
        """
        each = [np.array(one[: len(self.ids) - 1]) for one in logprobs]
        self._base = each[0]
        self._noise = max(self._difference(one) for one in each)

    def is_applied(self, logprobs: Sequence[float], pool: LoraPool, row: NDArray[np.float64]) -> bool:
        """Whether a particle's log-probabilities of the text differ from the base model's, or its adapter is zero."""
        return self._difference(logprobs) > self._noise or not _changes_something(pool, row)

    def is_base(self, logprobs: Sequence[float]) -> bool:
        """Whether these are the base model's log-probabilities of the text, up to rounding."""
        return self._difference(logprobs) <= max(10 * self._noise, 1e-3)

    def is_same(self, logprobs: Sequence[float], earlier: Sequence[float]) -> bool:
        """Whether two lists of an adapter's log-probabilities of the text are equal up to rounding."""
        return float(np.abs(np.array(logprobs) - np.array(earlier)).max()) <= max(10 * self._noise, SAME)

    def _difference(self, logprobs: Sequence[float] | NDArray[np.float64]) -> float:
        return float(np.abs(np.array(logprobs) - self._base).max())


def check_finite_logprobs(logprobs: Sequence[float], engine: str) -> None:
    """Checks that the log-probabilities of a prompt with an adapter are finite.

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


def rounding_tolerance(dtype: torch.dtype) -> float:
    """Mean difference of a token's log-probability that rounding in a precision can cause."""
    return TOLERANCE if dtype == torch.float32 else LOW_PRECISION_TOLERANCE


def base_tolerance(logprobs: Sequence[float], expected: Sequence[float]) -> float | None:
    """Tolerance for an adapter on a base model of unknown precision, from how far the base model itself differs.

    Args:
        logprobs: The base model's log-probabilities of a prompt in the other engine.
        expected: The same in the local engine.

    Returns:
        Mean difference per token; None if it is more than rounding, so that the base models differ.
    """
    difference = float(np.abs(np.array(logprobs) - np.array(expected)).mean())
    if not difference <= LOW_PRECISION_TOLERANCE / 2:
        return None
    return min(LOW_PRECISION_TOLERANCE, max(TOLERANCE, 5 * difference))


def check_like_local(
    logprobs: Sequence[float], expected: Sequence[float], tolerance: float, engine: str, expert: str
) -> None:
    """Checks that the log-probabilities of a prompt with an adapter are the local engine's.

    Args:
        logprobs: Of the prompt's tokens, starting at the second.
        expected: The local engine's.
        tolerance: Accepted mean difference per token.
        engine: The engine's registered name.
        expert: The expert's name.

    Raises:
        UserError: They are not; names the difference and the token where it begins.
    """
    differences = np.abs(np.array(logprobs) - np.array(expected))
    if (mean := float(differences.mean())) > tolerance:
        first = int(np.argmax(differences > tolerance)) + 1
        raise UserError(
            f"--engine {engine}: with expert {expert!r}, log-probabilities of a prompt of {len(logprobs) + 1} tokens"
            f" differ from the local engine's by {mean:.2g} per token, from token {first} on: its kernels for adapters"
            " are wrong for this model or device; use --engine local"
        )


def _changes_something(pool: LoraPool, row: NDArray[np.float64]) -> bool:
    """Whether any B of the mixture is nonzero."""
    mixed = pool.mix(torch.from_numpy(row).to(torch.float32)[None])
    return any(bool(tensor.any()) for name, tensor in mixed if name.endswith(".B"))


def check_servable(pool: Pool | None, engine: str) -> LoraPool | None:
    """The pool, if vLLM can serve its mixtures.

    Raises:
        UserError: The experts are full models or adapt the output layer. With slots for the output layer, vLLM
            computes a prompt's log-probabilities with the last request's slot.
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
