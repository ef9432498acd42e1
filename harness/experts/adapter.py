"""One LoRA adapter in memory: input and output of the merge methods."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors.torch import save_file

from harness.experts.files import ADAPTER, folder_name, open_file, weight_files
from harness.experts.lora_file import lora_keys, module_rank, module_scaling, read_lora_config
from harness.experts.mixing import Expert
from utilities.errors import UserError

__all__ = ["Adapter", "Factors", "padded", "read_adapter"]

Factors = tuple[torch.Tensor, torch.Tensor]
"""A [r, in] and B [out, r] of one module."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """One LoRA adapter with its scaling folded into B: BA is its change of the weight W.

    Args:
        name: Name shown to the user.
        factors: Module path to (A [r, in], B [out, r]), float32; r may differ between modules.
        config: The PEFT config that `write` adapts.
    """

    name: str
    factors: Mapping[str, Factors]
    config: LoraConfig

    @property
    def rank(self) -> int:
        """The largest rank of any module."""
        return max(len(A) for A, _ in self.factors.values())

    def delta(self, module: str) -> torch.Tensor:
        """BA of one module, [out, in]."""
        A, B = self.factors[module]
        return B @ A

    @property
    def norm(self) -> float:
        """The Frobenius norm of all BA together."""
        squares = (float(((B.T @ B).double() * (A @ A.T).double()).sum()) for A, B in self.factors.values())
        return math.sqrt(max(0.0, sum(squares)))

    def scaled(self, factor: float) -> Adapter:
        """The same adapter with every BA times `factor`."""
        return replace(self, factors={module: (A, factor * B) for module, (A, B) in self.factors.items()})

    def padded(self, rank: int) -> Adapter:
        """The same adapter, padded with zeros to `rank`; every BA is unchanged.

        Raises:
            ValueError: A module has a higher rank.
        """
        return replace(self, factors={module: padded(factors, rank) for module, factors in self.factors.items()})

    def write(self, folder: Path) -> None:
        """Writes a float32 PEFT adapter folder with lora_alpha = r, so the scaling is 1."""
        tensors = {
            f"base_model.model.{module}.lora_{letter}.weight": tensor.contiguous()
            for module, factors in self.factors.items()
            for letter, tensor in zip("AB", factors, strict=True)
        }
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / ADAPTER, {"format": "pt"})
        config = copy(self.config)
        config.r = config.lora_alpha = self.rank
        config.rank_pattern = {module: len(A) for module, (A, _) in self.factors.items() if len(A) != self.rank}
        config.alpha_pattern = dict(config.rank_pattern)
        config.use_rslora = False
        if isinstance(config.target_modules, set):  # sets have a different order in every process
            config.target_modules = sorted(config.target_modules)
        config.save_pretrained(folder)


def padded(factors: Factors, rank: int) -> Factors:
    """(A [rank, in], B [out, rank]) with the same product: added rows of A and columns of B are zero.

    Raises:
        ValueError: The factors have a higher rank.
    """
    A, B = factors
    if len(A) > rank:
        raise ValueError(f"factors of rank {len(A)} cannot be padded to rank {rank}")
    wide_A, wide_B = A.new_zeros(rank, A.shape[1]), B.new_zeros(B.shape[0], rank)
    wide_A[: len(A)], wide_B[:, : len(A)] = A, B
    return wide_A, wide_B


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a PEFT folder; its modules are in alphabetical order.

    Raises:
        UserError: It is not a plain LoRA adapter in safetensors, its config contradicts its tensors, or it holds NaN or
            infinite values.
    """
    expert = Expert(folder_name(folder), folder)
    config = read_lora_config(expert)
    (path,) = weight_files(folder)
    file = open_file(path)
    keys = lora_keys(file, expert)
    factors: dict[str, Factors] = {}
    for module in sorted({name.rsplit(".", 1)[0] for name in keys}):
        A, B = (file.get_tensor(keys[f"{module}.{letter}"]) for letter in "AB")
        rank = module_rank(config, module)
        if A.dim() != 2 or B.dim() != 2 or not len(A) == B.shape[1] == rank:
            raise UserError(
                f"expert {expert.name!r}: its config says rank {rank} for {module}, its tensors have the shapes"
                f" {list(A.shape)} and {list(B.shape)}"
            )
        if not (torch.isfinite(A).all() and torch.isfinite(B).all()):
            raise UserError(f"expert {expert.name!r}: {path}: {module} holds NaN or infinite values")
        factors[module] = A.float(), B.float() * module_scaling(config, module)
    return Adapter(expert.name, factors, config)
