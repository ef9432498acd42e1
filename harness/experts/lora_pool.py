"""LoRA adapters as experts.

A and B are mixed separately, as in the paper, so the product BA of a mixture has cross terms between experts: mixing is
linear in (A, B), not in BA.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from harness.experts.base_model import BaseModel, why_not_foldable
from harness.experts.base_name import base_name_warning
from harness.experts.files import ADAPTER, FLOATS, open_file, weight_files
from harness.experts.lora_file import lora_keys, module_rank, module_scaling, read_lora_config
from harness.experts.mixing import Expert, PoolTensors, StoredTensor, mapped_safetensors, mixed_tensor, module_of
from utilities.errors import UserError

__all__ = ["LoraPool"]


class LoraPool(PoolTensors):
    """LoRA adapters in PEFT's format that share base, target modules and ranks.

    Adapters with different alpha (or rsLoRA scaling) are rescaled through B to the first one's scaling, which leaves
    every adapter's scaled BA unchanged. Different ranks cannot be mixed in the paper's space and are rejected.
    """

    kind: Literal["lora", "model", "tokens"] = "lora"

    def __init__(self, experts: tuple[Expert, ...], base: BaseModel) -> None:
        super().__init__(experts, base)
        self._configs = [read_lora_config(expert) for expert in experts]
        self.base_warning = base_name_warning(experts, self._configs, base)
        files = [open_file(weight_files(expert.folder)[0]) for expert in experts]
        keys = [lora_keys(file, expert, base) for file, expert in zip(files, experts, strict=True)]
        self._shapes = self._check_keys(keys, files)
        self.transposed = frozenset(m for m in self.modules if not isinstance(base.model.get_submodule(m), nn.Linear))
        """Modules that store their weight as [in, out]."""
        scales = [{module: module_scaling(config, module) for module in self.modules} for config in self._configs]
        for name in self._shapes:
            module, letter = name.rsplit(".", 1)
            self._sources[name] = [
                StoredTensor(file, own[name], scale[module] / scales[0][module] if letter == "B" else 1.0)
                for file, own, scale in zip(files, keys, scales, strict=True)
            ]
        self.scaling: dict[str, float] = scales[0]
        """Module path to the factor s of W + s BA."""

    @property
    def rank(self) -> int:
        """The largest rank of any module."""
        return max(shape[0] for name, shape in self._shapes.items() if name.endswith(".A"))

    def mix(self, rows: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Streams the mixtures: ("path.to.module.A" | "...B", [rows, *shape]), in the dtype of `rows`."""
        for name, sources in self._sources.items():
            yield name, mixed_tensor(sources, self.grouping.part(rows, module_of(name)), self._shapes[name])

    def write(self, row: torch.Tensor, folder: Path) -> None:
        """Writes the mixture `row` as a float32 PEFT adapter folder."""
        self.write_all(row[None], [folder])

    def write_all(self, rows: torch.Tensor, folders: Sequence[Path], dtype: torch.dtype = torch.float32) -> None:
        """Writes the mixtures `rows` [adapters, width] as PEFT adapter folders, reading every expert only once.

        Each tensor is mixed for all rows at once, directly into the memory-mapped files.

        Raises:
            OSError: Not enough space; it is reserved before tensors are written.
        """
        names = [f"base_model.model.{name.rsplit('.', 1)[0]}.lora_{name[-1]}.weight" for name in self._shapes]
        shapes = dict(zip(names, self._shapes.values(), strict=True))
        files = []
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            files.append(mapped_safetensors(folder / ADAPTER, shapes, dtype))
            config = copy(self._configs[0])
            if isinstance(config.target_modules, set):  # sets have a different order in every process
                config.target_modules = sorted(config.target_modules)
            config.save_pretrained(folder)
        for name, (_, mixed) in zip(names, self.mix(rows.to(torch.float32)), strict=True):
            for file, tensor in zip(files, mixed, strict=True):
                file[name].copy_(tensor)

    def _check_keys(self, keys: Sequence[dict[str, str]], files: Sequence[Any]) -> dict[str, tuple[int, ...]]:
        first = self.experts[0]
        shapes: dict[str, tuple[int, ...]] = {}
        for expert, own, file in zip(self.experts, keys, files, strict=True):
            if missing := sorted(set(keys[0]) ^ set(own)):
                raise UserError(
                    f"expert {expert.name!r} does not adapt the same modules as {first.name!r};"
                    f" the first difference is {missing[0].rsplit('.', 1)[0]}"
                )
            for name in sorted(own):
                tensor = file.get_slice(own[name])
                if (stored := tensor.get_dtype()) not in FLOATS:
                    raise UserError(
                        f"expert {expert.name!r}: tensor {own[name]} is stored as {stored}; floating point is accepted"
                    )
                shape = tuple(tensor.get_shape())
                if shapes.setdefault(name, shape) != shape:
                    raise UserError(
                        f"expert {expert.name!r} has shape {list(shape)} for {name}, {first.name!r} has"
                        f" {list(shapes[name])}: adapters are mixed as A and B, so their ranks must be equal"
                    )
        for name, shape in shapes.items():
            module, letter = name.rsplit(".", 1)
            weight = self.base.shapes.get(f"{module}.weight")
            if weight is None:
                raise UserError(f"expert {first.name!r} adapts {module}, which the base model does not have")
            layer = self.base.model.get_submodule(module)
            if (reason := why_not_foldable(layer, module)) is not None:
                raise UserError(f"expert {first.name!r}: {reason}; adapters of linear layers are accepted")
            weight = weight if isinstance(layer, nn.Linear) else weight[::-1]
            axis = 1 if letter == "A" else 0
            if len(shape) != 2 or len(weight) != 2 or shape[axis] != weight[axis]:
                raise UserError(
                    f"expert {first.name!r}: {name} of shape {list(shape)} does not fit the base model's weight"
                    f" {list(weight)} of {module}"
                )
            for expert, config in zip(self.experts, self._configs, strict=True):
                if (rank := module_rank(config, module)) != shape[1 - axis]:
                    raise UserError(
                        f"expert {expert.name!r}: its config says rank {rank} for {module}, its {name} has shape"
                        f" {list(shape)}"
                    )
                if not module_scaling(config, module):
                    raise UserError(f"expert {expert.name!r} has lora_alpha 0 for {module}: it changes nothing there")
        return shapes
