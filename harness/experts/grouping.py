"""Which modules share their coefficients: all of them, those of a transformer layer, or those of a kind."""

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
"""The group of modules that stand in no numbered layer: embeddings, the last norm, the output layer."""


@dataclass(frozen=True)
class Grouping:
    """Modules in groups, and what a row of coefficients says of each of them.

    A row is either [experts], which holds for every group, or [groups * experts]: the coefficients of the first group,
    then those of the second.
    """

    granularity: Granularity
    experts: int
    groups: tuple[str, ...]
    """Their names, in the order of a row; the same for the same modules, however these are ordered."""
    number: Mapping[str, int]
    """Module path to the number of its group."""

    @classmethod
    def of(cls, modules: Iterable[str], granularity: Granularity, experts: int) -> Grouping:
        """The modules in groups of a granularity: `model` has one, `layer` and `module` as many as there are.

        Args:
            modules: Paths as in `model.named_modules()`, at least one.
            granularity: What the modules of a group have in common.
            experts: Experts that a row has coefficients of.
        """
        paths = sorted(set(modules))
        if granularity == "layer":
            places = [_layer(path) for path in paths]
            known = sorted({place for place in places if place is not None})
            stacks = {stack for stack, _ in known}
            names = {place: f"layer {place[1]}" if len(stacks) == 1 else f"{place[0]}.{place[1]}" for place in known}
            groups = [*names.values(), *([OUTSIDE] if None in places else [])]
            told = [OUTSIDE if place is None else names[place] for place in places]
        else:
            told = ["model" if granularity == "model" else _kind(path) for path in paths]
            groups = sorted(set(told))
        place_of = {name: k for k, name in enumerate(groups)}
        number = {path: place_of[name] for path, name in zip(paths, told, strict=True)}
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
        """The same row with the coefficients of every group written out, [groups * experts].

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
    """The stack of layers that a module stands in and the layer's number: the first number in its path."""
    parts = path.split(".")
    at = next((k for k, part in enumerate(parts) if part.isdecimal()), None)
    return None if at is None else (".".join(parts[:at]), int(parts[at]))


def _kind(path: str) -> str:
    """The last name in a module's path, with the number behind it where it is one of a sequence (mlp.0, mlp.2)."""
    parts = path.split(".")
    at = max((k for k, part in enumerate(parts) if not part.isdecimal()), default=0)
    return ".".join(parts[at:])
