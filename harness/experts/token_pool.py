"""Experts of any architecture, whose token probabilities are mixed instead of their weights.

An expert is an adapter of the base model, an adapter of a base model of its own (`ADAPTERS::BASE`, or a local folder
that its config names), or a full model. A mixture is written as a folder of models, adapters and their coefficients.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from harness.experts.base_model import BaseModel, read_base
from harness.experts.files import CONFIG, resolve
from harness.experts.grouping import Granularity, Grouping
from harness.experts.lora_pool import LoraPool
from harness.experts.mixing import Expert
from harness.experts.model_pool import ModelPool
from harness.experts.pool import Pool, expert_folders, named_experts
from utilities.bounded_input import read_json
from utilities.errors import UserError, first_line

__all__ = ["MIXTURE", "OWN_BASE", "Mixture", "TokenPool", "open_token_pool", "pool_parts", "read_mixture"]

OWN_BASE = "::"
"""Between an adapter and its own base model."""

MIXTURE = "mixture.json"
FORMAT = "token-mixture 1"
COPIED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")
"""Files of a model that a mixture's folder gets; no Python code."""


class TokenPool:
    """Experts that are mixed by their token probabilities.

    Args:
        base: The base model of the tables.
        parts: Pools of experts that share a base model and can be folded into one copy of it.
        order: The experts' names in the order of columns; by default that of the parts.
    """

    kind: Literal["lora", "model", "tokens"] = "tokens"
    base_warning: str | None = None

    def __init__(self, base: BaseModel, parts: Sequence[Pool], order: Sequence[str] = ()) -> None:
        self.base, self.parts = base, tuple(parts)
        places = {
            expert.name: (expert, part, column)
            for part, pool in enumerate(self.parts)
            for column, expert in enumerate(pool.experts)
        }
        chosen = [places[name] for name in order or places]
        self.experts = tuple(expert for expert, _, _ in chosen)
        self.places = tuple((part, column) for _, part, column in chosen)
        """Part and column in it of each expert."""
        warnings = [pool.base_warning for pool in self.parts if pool.base_warning]
        self.base_warning = warnings[0] if warnings else None

    @property
    def names(self) -> list[str]:
        """The experts' names, in the order of the columns of every row."""
        return [expert.name for expert in self.experts]

    @property
    def parameters(self) -> int:
        """Parameters of the largest expert."""
        return max(pool.parameters for pool in self.parts)

    @cached_property
    def grouping(self) -> Grouping:
        """One group: token probabilities belong to no module."""
        return Grouping.of(["model"], "model", len(self.experts))

    def grouped(self, granularity: Granularity) -> TokenPool:
        """The pool itself.

        Raises:
            UserError: Another granularity than the whole model.
        """
        if granularity != "model":
            raise UserError(f"--granularity {granularity} does not apply to --mix tokens, which mixes whole models")
        return self

    def mix(self, rows: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Raises, because these experts share no weights.

        Raises:
            UserError: Always.
        """
        raise UserError("--mix tokens: the experts' weights are not mixed, so this has no tensors")

    def write(self, row: torch.Tensor, folder: Path) -> None:
        """Writes the mixture: models, adapters and `mixture.json`; experts with coefficient 0 are left out."""
        models: list[dict[str, Any]] = []
        bases: dict[Path, str] = {}
        for expert, (part, _), weight in zip(self.experts, self.places, row.tolist(), strict=True):
            if not weight:
                continue
            source = self.parts[part].base.folder
            if source not in bases:
                bases[source] = f"models/{len(bases) + 1}"
                _copy(source, folder / bases[source])
            adapter = None
            if isinstance(self.parts[part], LoraPool):
                adapter = f"adapters/{len(models) + 1}"
                _copy(expert.folder, folder / adapter)
            models.append({"name": expert.name, "coefficient": weight, "model": bases[source], "adapter": adapter})
        folder.mkdir(parents=True, exist_ok=True)
        document = {"format": FORMAT, "experts": models}
        (folder / MIXTURE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in (one for pattern in COPIED for one in source.glob(pattern)):
        shutil.copy(path, target / path.name)


def pool_parts(pool: Pool) -> tuple[Pool, ...]:
    """The pools of one base model each that a pool consists of."""
    return pool.parts if isinstance(pool, TokenPool) else (pool,)


def open_token_pool(specs: Sequence[str], base: Path, *, trust_remote_code: bool = False) -> TokenPool:
    """Opens experts of any architecture; values are not read.

    Args:
        specs: As in `open_pool`; `ADAPTERS::BASE` names the base model of adapters.
        base: Folder of the base model of all other adapters.
        trust_remote_code: Whether Python code in the models' folders may run.

    Raises:
        UserError: An expert does not fit its base model.
    """
    located: list[tuple[Path, Path]] = []
    for spec in specs:
        adapters, _, own = spec.partition(OWN_BASE)
        given = resolve(own, code=trust_remote_code) if own else None
        located += [(folder, given or _base_of(folder, base)) for folder in expert_folders([adapters])]
    bases = {folder.resolve(): read_base(folder, trust_remote_code=trust_remote_code) for _, folder in located}
    main = bases.get(base.resolve()) or read_base(base, trust_remote_code=trust_remote_code)
    kinds = [str(bases[own.resolve()].config.model_type) for _, own in located]
    experts = named_experts([folder for folder, _ in located], kinds)
    parts: list[Pool] = []
    for path, model in bases.items():
        members = [e for e, (_, own) in zip(experts, located, strict=True) if own.resolve() == path]
        parts += _pools([e for e in members if (e.folder / CONFIG).exists()], model)
        parts += [ModelPool((e,), model) for e in members if not (e.folder / CONFIG).exists()]
    return TokenPool(main, parts, [expert.name for expert in experts])


def _base_of(folder: Path, base: Path) -> Path:
    """The base model of an expert that names none: its own folder for a full model, else the given base."""
    try:
        config = read_json((folder / CONFIG).read_text(encoding="utf-8"))
        claimed = Path(str(config.get("base_model_name_or_path") or "")).expanduser()
    except FileNotFoundError:
        return folder
    except (OSError, ValueError, AttributeError):
        return base  # opening the adapter raises
    return claimed if claimed.is_absolute() and (claimed / "config.json").is_file() else base


def _pools(experts: Sequence[Expert], base: BaseModel) -> list[Pool]:
    """One pool of all adapters of a base model, or one for each if they differ in modules, ranks or claimed base."""
    if not experts:
        return []
    try:
        return [LoraPool(tuple(experts), base)]
    except UserError:
        return [LoraPool((expert,), base) for expert in experts]


@dataclass(frozen=True)
class Mixture:
    """A mixture that was written to a folder."""

    pool: TokenPool
    weights: tuple[float, ...]


def read_mixture(folder: Path, *, trust_remote_code: bool = False) -> Mixture:
    """The mixture in a folder.

    Raises:
        UserError: The folder holds none, or it is corrupt.
    """
    path = folder / MIXTURE
    try:
        document = read_json(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise UserError(f"{path} has the format {document['format']!r}; {FORMAT!r} is accepted")
        entries = [
            (str(one["name"]), float(one["coefficient"]), str(one["model"]), one["adapter"] and str(one["adapter"]))
            for one in document["experts"]
        ]
    except FileNotFoundError:
        raise UserError(f"{folder} holds no {MIXTURE}; it is no mixture of token probabilities") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is corrupt: {first_line(error)}") from error
    inside = folder.resolve()
    for name in (name for _, _, model, adapter in entries for name in (model, adapter or model)):
        if not (folder / name).resolve().is_relative_to(inside):
            raise UserError(f"{path} names {name!r}, which is outside the folder")
    bases = {model: read_base(folder / model, trust_remote_code=trust_remote_code) for _, _, model, _ in entries}
    parts: list[Pool] = []
    for model, base in bases.items():
        own = [(Expert(name, folder / (a or model)), a) for name, _, one, a in entries if one == model]
        parts += _pools([expert for expert, adapter in own if adapter], base)
        parts += [ModelPool((expert,), base) for expert, adapter in own if not adapter]
    pool = TokenPool(next(iter(bases.values())), parts, [name for name, _, _, _ in entries])
    return Mixture(pool, tuple(weight for _, weight, _, _ in entries))
