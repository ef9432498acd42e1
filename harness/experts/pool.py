"""The expert pool: reads adapters (or full models), checks them against each other and the base, mixes and writes.

A pool never copies its experts into memory: each mix reads the tensors one at a time from memory-mapped safetensors
files. Pickle files are rejected, because loading one can run arbitrary code.

LoRA pools mix A and B separately, as in the paper, so the product BA of a mixture has cross terms between experts:
mixing is linear in (A, B), not in BA.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from torch import nn

from harness.experts.base_model import BaseModel, Shapes, base_shapes, differing_field, read_base, why_not_foldable
from harness.experts.files import (
    ADAPTER,
    CONFIG,
    FLOATS,
    folder_hash,
    folder_name,
    not_finite,
    open_file,
    resolve,
    weight_files,
)
from harness.experts.grouping import Granularity, Grouping
from utilities.bounded_input import read_json
from utilities.errors import UserError, first_line

__all__ = [
    "Expert",
    "LoraPool",
    "ModelPool",
    "Pool",
    "base_shapes",
    "check_finite",
    "expert_folders",
    "folder_hash",
    "named_experts",
    "open_pool",
    "resolve",
    "weight_files",
]

CHUNK = 1 << 16
"""Elements of every expert that are mixed at once: few enough for the processor's cache, and more than the 32,768
below which torch copies with a single thread."""

SAFETENSORS_TYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
LORA_KEY = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")
KNOWN_KEYS = {field.name for field in fields(LoraConfig)} | {"auto_mapping", "peft_version", "_comment"}
PLAIN_INITIALISATIONS = (True, False, "gaussian", "orthogonal", "eva")
VARIANTS = (
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "layer_replication",
    "target_parameters",
    "monteclora_config",
    "kasa_config",
)
QUANTISED_TWIN = re.compile(r"([-_](unsloth|bnb|4bit|8bit|int4|int8|nf4|fp8|awq|gptq))+$")
"""Suffixes of the names of quantised copies, in lower case."""


@dataclass(frozen=True)
class Expert:
    """One expert: its name and its folder."""

    name: str
    folder: Path


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


def check_finite(pool: Pool) -> None:
    """Checks the weights of the experts and of the base for NaN and infinite values.

    Raises:
        UserError: There are some.
    """
    folders = [(f"expert {expert.name!r}", expert.folder) for expert in pool.experts]
    for name, folder in [*folders, ("the base model", pool.base.folder)]:
        if (problem := not_finite(weight_files(folder))) is not None:
            raise UserError(f"{name}: {problem[0]}: tensor {problem[1]} holds NaN or infinite values")


@dataclass(frozen=True)
class _Where:
    """Location of one tensor of one expert, and its factor to the common scaling."""

    file: Any
    key: str
    factor: float

    def read(self) -> torch.Tensor:
        """The tensor as stored in the file."""
        tensor: torch.Tensor = self.file.get_tensor(self.key)
        return tensor


@dataclass(frozen=True)
class _Converted:
    """A tensor of the loaded model that is converted from several tensors in the file, or from a part of one."""

    name: str
    convert: Callable[[], dict[str, torch.Tensor]]
    factor: float = 1.0

    def read(self) -> torch.Tensor:
        """The tensor as in the loaded model."""
        return self.convert()[self.name]


def _mixed(sources: Sequence[_Where | _Converted], rows: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
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


def _mapped_safetensors(path: Path, shapes: Shapes, dtype: torch.dtype) -> dict[str, torch.Tensor]:
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


class _Tensors:
    """Base of all pools: the location of each tensor in every expert's files."""

    def __init__(self, experts: tuple[Expert, ...], base: BaseModel) -> None:
        self.experts, self.base = experts, base
        self._sources: dict[str, list[_Where | _Converted]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    @property
    def names(self) -> list[str]:
        """The experts' names, in the order of the columns of every row."""
        return [expert.name for expert in self.experts]

    @property
    def modules(self) -> list[str]:
        """Paths of the modules that are mixed, as in `model.named_modules()`."""
        return sorted({_module(name) for name in self._shapes})

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


def _module(name: str) -> str:
    """Path of a tensor's module."""
    return name.rpartition(".")[0] or name


class LoraPool(_Tensors):
    """LoRA adapters in PEFT's format that share base, target modules and ranks.

    Adapters with different alpha (or rsLoRA scaling) are rescaled through B to the first one's scaling, which leaves
    every adapter's scaled BA unchanged. Different ranks cannot be mixed in the paper's space and are rejected.
    """

    kind: Literal["lora", "model", "tokens"] = "lora"

    def __init__(self, experts: tuple[Expert, ...], base: BaseModel) -> None:
        super().__init__(experts, base)
        self._configs = [_read_lora_config(expert) for expert in experts]
        self.base_warning = self._base_mismatch()
        files = [open_file(weight_files(expert.folder)[0]) for expert in experts]
        keys = [_lora_keys(file, expert, base) for file, expert in zip(files, experts, strict=True)]
        self._shapes = self._check_keys(keys, files)
        self.transposed = frozenset(m for m in self.modules if not isinstance(base.model.get_submodule(m), nn.Linear))
        """Modules that store their weight as [in, out]."""
        scales = [{module: _scaling(config, module) for module in self.modules} for config in self._configs]
        for name in self._shapes:
            module, letter = name.rsplit(".", 1)
            self._sources[name] = [
                _Where(file, own[name], scale[module] / scales[0][module] if letter == "B" else 1.0)
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
            yield name, _mixed(sources, self.grouping.part(rows, _module(name)), self._shapes[name])

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
            files.append(_mapped_safetensors(folder / ADAPTER, shapes, dtype))
            config = copy(self._configs[0])
            if isinstance(config.target_modules, set):  # sets have a different order in every process
                config.target_modules = sorted(config.target_modules)
            config.save_pretrained(folder)
        for name, (_, mixed) in zip(names, self.mix(rows.to(torch.float32)), strict=True):
            for file, tensor in zip(files, mixed, strict=True):
                file[name].copy_(tensor)

    def _base_mismatch(self) -> str | None:
        """Warning that the adapters were trained on a base model of another name; shapes are checked elsewhere.

        A different name is only a warning: folders can be renamed, and a quantised copy is the same model. Different
        hub ids are different models.

        Raises:
            UserError: Two adapters name different models on the hub.
        """
        pairs = zip(self.experts, self._configs, strict=True)
        named = ((expert, config.base_model_name_or_path or "") for expert, config in pairs)
        claims = [(expert, claim) for expert, claim in named if _model_name(claim)]
        if not claims:
            return None
        first, claim = claims[0]
        for expert, other in claims[1:]:
            if _model_name(other) == _model_name(claim):
                continue
            if _is_hub_id(other) and _is_hub_id(claim):
                raise UserError(
                    f"expert {expert.name!r} was trained on the base model {other!r}, expert {first.name!r} on"
                    f" {claim!r}; all experts must share one base model"
                )
            return (
                f"base-model names differ: {first.name!r} was trained on {claim!r}, {expert.name!r} on {other!r}"
                " (shapes match). Check that they are the same model"
            )
        names = [folder_name(self.base.folder), str(getattr(self.base.config, "_name_or_path", None) or "")]
        if _model_name(claim) in {_model_name(name) for name in [*names, _stored_name(self.base.folder)]}:
            return None
        return (
            f"base-model name mismatch: the adapters were trained on {claim!r}, the base model is {names[0]!r} (shapes"
            " match). Check that they are the same model"
        )

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
                if (rank := _rank(config, module)) != shape[1 - axis]:
                    raise UserError(
                        f"expert {expert.name!r}: its config says rank {rank} for {module}, its {name} has shape"
                        f" {list(shape)}"
                    )
                if not _scaling(config, module):
                    raise UserError(f"expert {expert.name!r} has lora_alpha 0 for {module}: it changes nothing there")
        return shapes


def _read_lora_config(expert: Expert) -> LoraConfig:
    """The adapter's config.

    Raises:
        UserError: It is missing or invalid, or describes more than W + s BA.
    """
    path = expert.folder / CONFIG
    if not path.exists():
        raise UserError(f"expert {expert.name!r}: {expert.folder} holds no {CONFIG}; it is no PEFT adapter")
    try:
        data = read_json(path.read_text(encoding="utf-8"))
        if "peft_type" not in data and {"lora_parameters", "fine_tune_type"} & set(data):
            raise UserError(
                f"expert {expert.name!r}: {path} is of an MLX adapter; convert it to PEFT's format (safetensors with"
                " lora_A and lora_B)"
            )
        if data.get("peft_type") != "LORA":
            raise UserError(f"expert {expert.name!r} is a {data.get('peft_type')} adapter; only LORA can be mixed")
        config = LoraConfig.from_pretrained(expert.folder)
        name = config.base_model_name_or_path
        if name is not None and not isinstance(name, str):
            raise TypeError(f"base_model_name_or_path is {name!r}, not a text")
        for pattern in (*dict(config.rank_pattern or {}), *dict(config.alpha_pattern or {})):
            re.compile(pattern)
        numbers = [config.r, *dict(config.rank_pattern or {}).values()]
        numbers += [config.lora_alpha, *dict(config.alpha_pattern or {}).values()]
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise TypeError("ranks and alphas must be finite numbers")
        if not all(number >= 1 for number in numbers[: 1 + len(config.rank_pattern or {})]):
            raise TypeError("ranks must be at least 1")
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError, re.error) as error:
        reason = first_line(error)
        raise UserError(f"expert {expert.name!r}: {path}: not a PEFT adapter config ({reason})") from error
    unknown = sorted(key for key, value in data.items() if value and key not in KNOWN_KEYS)
    if unknown:
        raise UserError(
            f"expert {expert.name!r}: {path}: {unknown[0]} is no setting that the installed peft knows, and it is not"
            " empty: its effect on the adapter is unknown; install a newer peft, or remove the key if it does"
            " nothing"
        )
    features = {
        "DoRA": config.use_dora,
        "fully trained modules (modules_to_save)": bool(config.modules_to_save),
        "trained biases": config.bias != "none" or getattr(config, "lora_bias", False),
        "trained token embeddings": bool(getattr(config, "trainable_token_indices", None)),
        # These start from a modified base (peft modifies it again on loading), or compute something other than BA.
        f"the initialisation {config.init_lora_weights!r}": config.init_lora_weights not in PLAIN_INITIALISATIONS,
        **{f"{name} of peft": bool(getattr(config, name, None)) for name in VARIANTS},
    }
    if unsupported := [what for what, present in features.items() if present]:
        raise UserError(
            f"expert {expert.name!r} uses {unsupported[0]}, which is not a linear mixture of LoRA matrices;"
            " only plain LoRA adapters can be particles"
        )
    return config


def _lora_keys(file: Any, expert: Expert, base: BaseModel | None = None) -> dict[str, str]:
    """Maps "path.to.module.A" | "...B" to the key in the file.

    Adapters of embedding-sized layers contain a copy of the base's weight, which is ignored.

    Raises:
        UserError: The file holds no tensors, other tensors, or an A without its B or a B without its A.
    """
    keys: dict[str, str] = {}
    for key in file.keys():  # noqa: SIM118 - not a dict
        name = key.removeprefix("base_model.model.")
        if (match := LORA_KEY.fullmatch(name)) is not None:
            keys[f"{match[1]}.{match[2]}"] = key
        elif ".base_layer." not in name if base is None else not _is_copy(file, key, name, base):
            raise UserError(f"expert {expert.name!r}: tensor {key} is no lora_A or lora_B of a linear module")
    if not keys:
        raise UserError(f"expert {expert.name!r}: its file holds no tensors")
    for name in keys:
        other = name[:-1] + ("B" if name[-1] == "A" else "A")
        if other not in keys:
            raise UserError(f"expert {expert.name!r}: {name[:-2]} has lora_{name[-1]} but no lora_{other[-1]}")
    return keys


def _is_copy(file: Any, key: str, name: str, base: BaseModel) -> bool:
    """Whether a tensor of an adapter equals the base model's, after conversion to its dtype."""
    name = name.replace(".base_layer.", ".")
    if name not in base.shapes or tuple(file.get_slice(key).get_shape()) != tuple(base.shapes[name]):
        return False
    own = base.tensor(name)
    return own is not None and bool(torch.equal(file.get_tensor(key).to(own.dtype), own))


def _looked_up(pattern: Mapping[str, int] | None, module: str, default: int) -> int:
    """A module's entry in a rank or alpha pattern, matched by peft."""
    from peft.utils.other import get_pattern_key

    return (pattern or {}).get(get_pattern_key((pattern or {}).keys(), module), default)


def _rank(config: LoraConfig, module: str) -> int:
    return _looked_up(config.rank_pattern, module, config.r)


def _scaling(config: LoraConfig, module: str) -> float:
    """s of W + s BA for one module."""
    rank, alpha = _rank(config, module), _looked_up(config.alpha_pattern, module, config.lora_alpha)
    return float(alpha / (rank**0.5 if config.use_rslora else rank))


def _model_name(claim: str) -> str:
    """Normalised name of a base model: without folder, revision, case and quantisation suffix."""
    parts = [part for part in re.split(r"[/\\\\]", claim.strip()) if part]
    name = parts[-1].split("@")[0] if parts else ""
    if len(parts) > 2 and parts[-2] == "snapshots":
        name = parts[-3].rsplit("--", 1)[-1]
    return QUANTISED_TWIN.sub("", name.casefold())


def _is_hub_id(claim: str) -> bool:
    """Whether a claim is a hub id (owner/name or a name) rather than a path."""
    return re.fullmatch(r"([\w.-]+/)?[\w.-]+(@.+)?", claim) is not None and not claim.startswith(".")


def _stored_name(base: Path) -> str:
    """The `_name_or_path` in the base model's config; empty if there is none."""
    try:
        return str(read_json((base / "config.json").read_text(encoding="utf-8")).get("_name_or_path") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def _model_keys(folder: Path) -> dict[str, Any]:
    """Tensor name to its open file."""
    return {key: file for path in weight_files(folder) for file in [open_file(path)] for key in file.keys()}  # noqa: SIM118


def _converted(
    base: BaseModel, name: str, files: Mapping[str, Any], parts: Sequence[tuple[str, str | None]]
) -> dict[str, torch.Tensor]:
    return base.convert(name, [(key, pattern or "", files[key].get_tensor(key)) for key, pattern in parts])


def _check_config(expert: Expert, base: BaseModel) -> None:
    """Checks that a full model differs from the base only in its weights.

    Raises:
        UserError: It is quantised, or its config describes another computation; names the field.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(expert.folder, trust_remote_code=base.trusted)
    except Exception as error:  # any error of the config class
        raise UserError(f"expert {expert.name!r}: {expert.folder}: {first_line(error)}") from error
    if getattr(config, "quantization_config", None) is not None:
        raise UserError(f"expert {expert.name!r} is quantised; full models are mixed as plain numbers")
    if (field := differing_field(base.config, config)) is not None:
        name, one, other = field
        raise UserError(
            f"expert {expert.name!r}: {name} is {other} in its config.json and {one} in the base model's; full models"
            " must share one config"
        )


class ModelPool(_Tensors):
    """Fully fine-tuned models of one architecture as particles: their weights are mixed directly.

    A row is base + sum_j c_j (expert_j - base): with coefficients that sum to 1 the base cancels, and a row of zeros is
    the base model, as with LoRA. Tensors have the loaded model's names; files with other names or split tensors are
    converted as transformers does on loading.
    """

    kind: Literal["lora", "model", "tokens"] = "model"
    base_warning: str | None = None

    def __init__(self, experts: tuple[Expert, ...], base: BaseModel) -> None:
        super().__init__(experts, base)
        if base.quantisation:
            raise UserError(f"{base.folder}: full models cannot be mixed with a base quantised by {base.quantisation}")
        for expert in experts:
            _check_config(expert, base)
        members = (*experts, Expert("the base model", base.folder))
        sources = [self._member(expert) for expert in members]
        every = set().union(*sources)
        for expert, own in zip(members, sources, strict=True):
            if missing := sorted(every - set(own)):
                raise UserError(
                    f"expert {expert.name!r}: tensor {missing[0]} is missing; full models must share one architecture"
                )
        self._sources = {name: [own[name] for own in sources] for name in sources[-1]}
        self._shapes = {name: tuple(base.state[name].shape) for name in self._sources}

    def _member(self, expert: Expert) -> dict[str, _Where | _Converted]:
        """Loaded name to the source of each tensor of one model; tied names appear once."""
        files, base = _model_keys(expert.folder), self.base
        located, unused = base.locate(files)
        if stray := next((key for key in unused if not base.ignores(key)), None):
            raise UserError(f"expert {expert.name!r}: tensor {stray} is unknown to the base model")
        made: dict[str, _Where | _Converted] = {}
        for name, parts in located.items():
            for key, pattern in parts:
                tensor = files[key].get_slice(key)
                if tensor.get_dtype() not in FLOATS:
                    raise UserError(
                        f"expert {expert.name!r}: tensor {key} is stored as {tensor.get_dtype()}; floating point is"
                        " accepted"
                    )
                shape, expected = list(tensor.get_shape()), list(base.state[name].shape)
                if pattern is None and shape != expected:
                    raise UserError(
                        f"expert {expert.name!r}: {key} has shape {shape}, the base model's is {expected}; full models"
                        " must share one architecture"
                    )
            if parts[0][1] is None:
                made[name] = _Where(files[parts[0][0]], parts[0][0], 1.0)
            else:
                convert = partial(_converted, base, name, files, parts)
                made |= {target: _Converted(target, convert) for target in base.made_with(name)}
        for copy_of, name in base.tied.items():
            tied = made.pop(copy_of, None)
            if tied is not None and not torch.equal(tied.read(), made.setdefault(name, tied).read()):
                raise UserError(
                    f"expert {expert.name!r}: {copy_of} and {name} are one tensor in the base model and differ here"
                )
        return made

    def mix(self, rows: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Streams the mixtures: (parameter name, [rows, *shape])."""
        for name, sources in self._sources.items():
            part = self.grouping.part(rows, _module(name))
            part = torch.cat([part, 1.0 - part.sum(dim=1, keepdim=True)], dim=1)
            yield name, _mixed(sources, part, self._shapes[name])

    def write(self, row: torch.Tensor, folder: Path) -> None:
        """Writes the mixture `row` as a float32 model folder; config and tokenizer are the base model's."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor[0].contiguous() for name, tensor in self.mix(row.to(torch.float32)[None])}
        if any(isinstance(sources[-1], _Converted) for sources in self._sources.values()):
            tensors = {name: tensor.contiguous() for name, tensor in self.base.as_saved(tensors).items()}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        for path in (p for kind in ("json", "model", "txt", "jinja", "py") for p in self.base.folder.glob(f"*.{kind}")):
            if not path.name.endswith(".safetensors.index.json"):
                shutil.copy(path, folder / path.name)
        config = folder / "config.json"
        values = read_json(config.read_text(encoding="utf-8"))
        # Otherwise transformers would round the weights on loading.
        values |= {key: "float32" for key in ("dtype", "torch_dtype") if key in values}
        config.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
