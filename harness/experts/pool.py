"""The expert pool: opens adapters (or full models) and checks them against each other and the base.

Pickle files are rejected, because loading one can run arbitrary code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import torch

from harness.experts.base_model import BaseModel, read_base
from harness.experts.files import CONFIG, folder_name, not_finite, resolve, weight_files
from harness.experts.grouping import Granularity, Grouping
from harness.experts.lora_pool import LoraPool
from harness.experts.mixing import Expert
from harness.experts.model_pool import ModelPool
from utilities.errors import UserError

__all__ = ["Pool", "check_finite", "expert_folders", "named_experts", "open_pool"]


class Pool(Protocol):
    """Experts that can be mixed by rows of coefficients: [experts], or [groups * experts], see `Grouping`."""

    kind: Literal["lora", "model", "tokens"]
    experts: tuple[Expert, ...]
    base: BaseModel
    base_warning: str | None
    """Warning that the experts may have been trained on another base model; None if there is no sign of it."""

    @property
    def grouping(self) -> Grouping:
        """Groups of modules that share coefficients; one group unless the pool comes from `grouped`."""
        ...

    def grouped(self, granularity: Granularity) -> Pool:
        """The same experts; rows may have coefficients for each group of modules."""
        ...

    @property
    def names(self) -> list[str]:
        """The experts' names, in the order of the columns of every row."""
        ...

    @property
    def parameters(self) -> int:
        """Parameters of one expert."""
        ...

    def mix(self, rows: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Streams the mixtures, tensor by tensor: (module path, [rows, ...])."""
        ...

    def write(self, row: torch.Tensor, folder: Path) -> None:
        """Writes one mixture as a folder that peft or transformers loads."""
        ...


RESERVED = {"base model", "winner"}
"""Reserved names: rows of the tables that are not experts."""


def expert_folders(specs: Sequence[str]) -> list[Path]:
    """Resolves specs to folders; a folder of adapter folders is expanded, sorted by name."""
    folders: list[Path] = []
    for spec in specs:
        folder = resolve(spec)
        inside = sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
        if inside and not (folder / CONFIG).exists():
            folders += inside
        else:
            folders.append(folder)
    return folders


def named_experts(folders: Sequence[Path], prefixes: Sequence[str] = ()) -> tuple[Expert, ...]:
    """The experts in folders; a name that is taken gets a prefix, by default the name of the folder above.

    Raises:
        UserError: No folder, or a name that is no name of an expert.
    """
    if not folders:
        raise UserError("no experts given: name at least one adapter folder with --experts")
    names: list[str] = []
    for folder, prefix in zip(folders, prefixes or [folder.parent.name for folder in folders], strict=True):
        name = folder_name(folder)
        if not name.isprintable():
            raise UserError(f"an expert's folder is called {name!r}; its name may hold printable characters only")
        names.append(name if name not in names else f"{prefix}-{name}")
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two experts are called {doubled!r}; give folders with different names")
    if taken := sorted({name for name in names if name.casefold() in RESERVED}):
        raise UserError(f"an expert cannot be called {taken[0]!r}, which is a row of the tables; rename its folder")
    return tuple(Expert(name, folder) for name, folder in zip(names, folders, strict=True))


def open_pool(specs: Sequence[str], base: Path, *, check_values: bool = True, trust_remote_code: bool = False) -> Pool:
    """Opens the experts `specs` and checks that they fit each other and the base, and that all values are finite.

    Args:
        specs: Folders, folders of adapter folders, or hub ids; LoRA adapters, or full models of one architecture.
        base: Folder of the base model.
        check_values: Whether to read the weights and look for NaN or infinite values.
        trust_remote_code: Whether Python code in the base model's folder may run.

    Raises:
        UserError: An expert does not fit; names the first one and the reason.
    """
    experts = named_experts(expert_folders(specs))
    model = read_base(base, trust_remote_code=trust_remote_code)
    adapters = [(expert.folder / CONFIG).exists() for expert in experts]
    if not any(adapters) and all((expert.folder / "config.json").exists() for expert in experts):
        pool: Pool = ModelPool(experts, model)
    else:
        pool = LoraPool(experts, model)
    if check_values:
        check_finite(pool)
    return pool


def check_finite(pool: Pool) -> None:
    """Checks the weights of the experts and of the base for NaN and infinite values.

    Raises:
        UserError: There are some.
    """
    folders = [(f"expert {expert.name!r}", expert.folder) for expert in pool.experts]
    for name, folder in [*folders, ("the base model", pool.base.folder)]:
        if (problem := not_finite(weight_files(folder))) is not None:
            raise UserError(f"{name}: {problem[0]}: tensor {problem[1]} holds NaN or infinite values")
