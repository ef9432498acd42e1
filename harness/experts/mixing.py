"""Where the tensors of experts are stored, and how they are mixed.

Experts are never copied into memory: each mix reads the tensors one at a time from memory-mapped safetensors files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch

from harness.experts.base_model import BaseModel, Shapes
from harness.experts.grouping import Granularity, Grouping

__all__ = [
    "ConvertedTensor",
    "Expert",
    "PoolTensors",
    "StoredTensor",
    "mapped_safetensors",
    "mixed_tensor",
    "module_of",
]

CHUNK = 1 << 16
"""Elements of every expert that are mixed at once: few enough for the processor's cache, and more than the 32,768
below which torch copies with a single thread."""
SAFETENSORS_TYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


@dataclass(frozen=True)
class Expert:
    """One expert: its name and its folder."""

    name: str
    folder: Path


@dataclass(frozen=True)
class StoredTensor:
    """Location of one tensor of one expert, and its factor to the common scaling."""

    file: Any
    key: str
    factor: float

    def read(self) -> torch.Tensor:
        """The tensor as stored in the file."""
        tensor: torch.Tensor = self.file.get_tensor(self.key)
        return tensor


@dataclass(frozen=True)
class ConvertedTensor:
    """A tensor of the loaded model that is converted from several tensors in the file, or from a part of one."""

    name: str
    convert: Callable[[], dict[str, torch.Tensor]]
    factor: float = 1.0

    def read(self) -> torch.Tensor:
        """The tensor as in the loaded model."""
        return self.convert()[self.name]


def mixed_tensor(
    sources: Sequence[StoredTensor | ConvertedTensor], rows: torch.Tensor, shape: tuple[int, ...]
) -> torch.Tensor:
    """sum_j rows[:, j] * expert_j for one tensor, [rows, *shape]; in chunks, without copying the experts."""
    experts = [source.read().reshape(-1) for source in sources]
    weights = rows * torch.tensor([source.factor for source in sources], dtype=rows.dtype)
    size = experts[0].numel()
    out = torch.empty(rows.shape[0], size, dtype=rows.dtype)
    chunk = torch.empty(len(experts), min(CHUNK, size), dtype=rows.dtype)
    for start in range(0, size, CHUNK):
        end = min(start + CHUNK, size)
        part = chunk[:, : end - start]
        for j, expert in enumerate(experts):
            part[j].copy_(expert[start:end])
        torch.mm(weights, part, out=out[:, start:end])
    return out.reshape(rows.shape[0], *shape)


def mapped_safetensors(path: Path, shapes: Shapes, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Creates a safetensors file of zeros as memory-mapped tensors: writing to them writes the file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        end = at + torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": SAFETENSORS_TYPES[dtype], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format requires alignment to 8 bytes
    start = 8 + len(text)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.flush()
        os.posix_fallocate(file.fileno(), start, at)  # otherwise a full disk would raise SIGBUS during a copy
    data = torch.from_file(str(path), shared=True, size=start + at, dtype=torch.uint8)
    places = {name: [start + offset for offset in header[name]["data_offsets"]] for name in shapes}
    return {name: data[a:b].view(dtype).reshape(shapes[name]) for name, (a, b) in places.items()}


class PoolTensors:
    """Base of all pools: the location of each tensor in every expert's files."""

    def __init__(self, experts: tuple[Expert, ...], base: BaseModel) -> None:
        self.experts, self.base = experts, base
        self._sources: dict[str, list[StoredTensor | ConvertedTensor]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    @property
    def names(self) -> list[str]:
        """The experts' names, in the order of the columns of every row."""
        return [expert.name for expert in self.experts]

    @property
    def modules(self) -> list[str]:
        """Paths of the modules that are mixed, as in `model.named_modules()`."""
        return sorted({module_of(name) for name in self._shapes})

    @property
    def parameters(self) -> int:
        """Parameters of one expert."""
        return sum(torch.Size(shape).numel() for shape in self._shapes.values())

    @cached_property
    def grouping(self) -> Grouping:
        """Groups of modules that share coefficients; one group unless the pool comes from `grouped`."""
        return Grouping.of(self.modules, "model", len(self.experts))

    def grouped(self, granularity: Granularity) -> Self:
        """The same experts and open files; rows may have coefficients for each group of modules."""
        pool = copy(self)
        pool.grouping = Grouping.of(self.modules, granularity, len(self.experts))
        return pool


def module_of(name: str) -> str:
    """Path of a tensor's module."""
    return name.rpartition(".")[0] or name
