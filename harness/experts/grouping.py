"""Groups of modules that share coefficients: all modules, those of a transformer layer, or those of a type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

__all__ = ["Granularity", "Grouping"]

Granularity = Literal["model", "layer", "module"]

OUTSIDE = "outside the layers"
"""Group of the modules outside the numbered layers: embeddings, last norm, output layer."""


@dataclass(frozen=True)
class Grouping:
    """Groups of modules and their parts of a row of coefficients.

    A row is either [experts], which applies to every group, or [groups * experts]: the coefficients of the first group,
    then those of the second.
    """

    granularity: Granularity
    experts: int
    groups: tuple[str, ...]
    """Group names in the order of a row; independent of the order of the modules."""
    number: Mapping[str, int]
    """Module path to the number of its group."""

    @classmethod
    def of(cls, modules: Iterable[str], granularity: Granularity, experts: int) -> Grouping:
        """Groups modules by a granularity: `model` makes one group, `layer` one per layer, `module` one per type.

        Args:
            modules: Paths as in `model.named_modules()`, at least one.
            granularity: What the modules of a group share.
            experts: Number of experts.
        """
        paths = sorted(set(modules))
        if granularity == "layer":
            places = [_layer(path) for path in paths]
            layers = sorted({place for place in places if place is not None})
            stacks = {stack for stack, _ in layers}
            names = {place: f"layer {place[1]}" if len(stacks) == 1 else f"{place[0]}.{place[1]}" for place in layers}
            groups = [*names.values(), *([OUTSIDE] if None in places else [])]
            group_of = [OUTSIDE if place is None else names[place] for place in places]
        else:
            group_of = ["model" if granularity == "model" else _kind(path) for path in paths]
            groups = sorted(set(group_of))
        place_of = {name: k for k, name in enumerate(groups)}
        number = {path: place_of[name] for path, name in zip(paths, group_of, strict=True)}
        return cls(granularity, experts, tuple(groups), number)

    def part(self, rows: torch.Tensor, module: str) -> torch.Tensor:
        """The coefficients of a module's group, [rows, experts], of rows [rows, experts] or [rows, groups * experts].

        Raises:
            ValueError: The rows have another width.
        """
        if rows.shape[1] == self.experts:
            return rows
        return rows.reshape(len(rows), *self._shape(rows.shape[1]))[:, self.number[module]]

    def for_every_group(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        """The row expanded to the coefficients of every group, [groups * experts].

        Raises:
            ValueError: The row is neither [experts] nor [groups * experts].
        """
        if row.size == self.experts:
            return row[None].repeat(len(self.groups), axis=0).reshape(-1)
        return row.reshape(self._shape(row.size)).reshape(-1)

    def _shape(self, width: int) -> tuple[int, int]:
        if width != len(self.groups) * self.experts:
            raise ValueError(f"a row of {width} coefficients for {self.experts} experts in {len(self.groups)} groups")
        return len(self.groups), self.experts


def _layer(path: str) -> tuple[str, int] | None:
    """A module's stack of layers and layer number (the first number in its path); None if it is in no layer."""
    parts = path.split(".")
    at = next((k for k, part in enumerate(parts) if part.isdecimal()), None)
    return None if at is None else (".".join(parts[:at]), int(parts[at]))


def _kind(path: str) -> str:
    """The last name in a module's path, followed by its number if it is part of a sequence (mlp.0, mlp.2)."""
    parts = path.split(".")
    at = max((k for k, part in enumerate(parts) if not part.isdecimal()), default=0)
    return ".".join(parts[at:])
