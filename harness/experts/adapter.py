"""One LoRA adapter in memory: what merges take and give back."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors.torch import save_file

from harness.experts.files import ADAPTER, folder_name, open_file, weight_files
from harness.experts.pool import Expert, _lora_keys, _rank, _read_lora_config, _scaling
from utilities.errors import UserError

__all__ = ["Adapter", "Factors", "padded", "read_adapter"]

Factors = tuple[torch.Tensor, torch.Tensor]
"""A [r, in] and B [out, r] of one module."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """One LoRA adapter, its scaling folded into B: BA is its whole change of the weight W.

    Args:
        name: What the user knows it by.
        factors: Module path to (A [r, in], B [out, r]), float32; r may differ from module to module.
        config: The config that `write` starts from.
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

    def padded(self, rank: int) -> Adapter:
        """The same adapter, every BA unchanged, with rows and columns of zeros up to `rank`.

        Raises:
            ValueError: A module has a higher rank than that.
        """
        return replace(self, factors={module: padded(factors, rank) for module, factors in self.factors.items()})

    def write(self, folder: Path) -> None:
        """Writes an ordinary float32 PEFT adapter folder, lora_alpha = r everywhere: nothing is left to scale."""
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
        if isinstance(config.target_modules, set):  # whose order would be another one in every process
            config.target_modules = sorted(config.target_modules)
        config.save_pretrained(folder)


def padded(factors: Factors, rank: int) -> Factors:
    """(A [rank, in], B [out, rank]) with the same product: rows of A and columns of B that were missing are zero.

    Raises:
        ValueError: The factors have a higher rank than that.
    """
    A, B = factors
    if len(A) > rank:
        raise ValueError(f"factors of rank {len(A)} cannot be padded to rank {rank}")
    wide_A, wide_B = A.new_zeros(rank, A.shape[1]), B.new_zeros(B.shape[0], rank)
    wide_A[: len(A)], wide_B[:, : len(A)] = A, B
    return wide_A, wide_B


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a PEFT folder; its modules are in alphabetical order, whatever the file's order is.

    Raises:
        UserError: It is no plain LoRA adapter in safetensors, its config and its tensors differ, or it holds numbers
            that are not finite.
    """
    expert = Expert(folder_name(folder), folder)
    config = _read_lora_config(expert)
    (path,) = weight_files(folder)
    file = open_file(path)
    keys = _lora_keys(file, expert)
    factors: dict[str, Factors] = {}
    for module in sorted({name.rsplit(".", 1)[0] for name in keys}):
        A, B = (file.get_tensor(keys[f"{module}.{letter}"]) for letter in "AB")
        rank = _rank(config, module)
        if A.dim() != 2 or B.dim() != 2 or not len(A) == B.shape[1] == rank:
            raise UserError(
                f"expert {expert.name!r}: its config says rank {rank} for {module}, its tensors have the shapes"
                f" {list(A.shape)} and {list(B.shape)}"
            )
        if not (torch.isfinite(A).all() and torch.isfinite(B).all()):
            raise UserError(f"expert {expert.name!r}: {path}: {module} holds NaN or infinite values")
        factors[module] = A.float(), B.float() * _scaling(config, module)
    return Adapter(expert.name, factors, config)
