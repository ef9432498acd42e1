"""The canary: how an engine that loads adapters knows that one is there.

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

__all__ = ["Canary", "check_servable"]

TEXT = "The canary sings when the adapter is there: 1, 2, 3 and so on."
OUTPUT_LAYERS = {"lm_head", "embed_out"}


class Canary:
    """A fixed text and what the base model makes of it.

    Args:
        tokens: The base model's.
    """

    def __init__(self, tokens: Tokens) -> None:
        self.ids = tokens.ids([TEXT])[0][: tokens.context // 4]
        self.prompts = [self.ids, *(self.ids * k for k in (1, 2, 3))]
        """What the base model is asked: the text alone, and in company, which rounds the same numbers otherwise."""
        self._silence, self._noise = np.zeros(len(self.ids) - 1), 0.0

    def listen(self, songs: Sequence[Sequence[float]]) -> None:
        """Learns how the base model sounds, and how much that varies.

        Args:
            songs: Log-probabilities of each of `prompts`, from its second token on.
        """
        heard = [np.array(song[: len(self.ids) - 1]) for song in songs]
        self._silence = heard[0]
        self._noise = max(self._apart(song) for song in heard)

    def sings(self, song: Sequence[float], pool: LoraPool, row: NDArray[np.float64]) -> bool:
        """Whether a particle's log-probabilities of the text show its adapter, or it changes nothing by itself."""
        return self._apart(song) > self._noise or not _changes_something(pool, row)

    def is_base(self, song: Sequence[float]) -> bool:
        """Whether these are the base model's log-probabilities of the text, but for rounding."""
        return self._apart(song) <= max(10 * self._noise, 1e-3)

    def _apart(self, song: Sequence[float] | NDArray[np.float64]) -> float:
        return float(np.abs(np.array(song) - self._silence).max())


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
