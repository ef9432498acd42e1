"""The expert pool: adapters (or whole models) read, checked against each other and the base, mixed, written.

A pool never copies its experts into memory: tensors are read from memory-mapped safetensors files, one at a time, each
time they are mixed. Pickle files are refused: loading one runs whatever code its author put in.

LoRA pools mix A and B separately, as the paper does, so that the product BA of a mixture has cross terms between
experts: mixing is linear in (A, B), not in BA.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import torch
from peft import LoraConfig
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

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
    "folder_hash",
    "open_pool",
    "resolve",
    "weight_files",
]

ADAPTER = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
CHUNK = 1 << 16
"""Elements of every expert that are mixed at once: few enough that they stay in the processor's cache, and more than
the 32,768 below which torch copies with a single thread."""

SAFETENSORS_TYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
PLAIN_INITIALISATIONS = (True, False, "gaussian", "orthogonal", "eva")
VARIANTS = ("use_qalora", "use_bdlora", "alora_invocation_tokens", "arrow_config", "layer_replication")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Expert:
    """One expert: its name and its folder."""

    name: str
    folder: Path


class Pool(Protocol):
    """Experts that can be mixed by rows of coefficients: [experts], or [groups * experts], see `Grouping`."""

    kind: Literal["lora", "model"]
    experts: tuple[Expert, ...]
    doubt: str | None
    """Why the base model may be another one than the experts were trained on, in a sentence; None without a reason."""

    @property
    def grouping(self) -> Grouping:
        """Which modules share their coefficients; all of them, unless the pool comes from `grouped`."""
        ...

    def grouped(self, granularity: Granularity) -> Pool:
        """The same experts, whose rows may have coefficients for each group of modules."""
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
        """Writes one mixture as an ordinary folder that peft or transformers loads."""
        ...


def resolve(spec: str, *, code: bool = False) -> Path:
    """The local folder of an expert or base model: a folder, or a hub id, downloaded without pickle files.

    Args:
        spec: The folder or hub id.
        code: Whether to download Python files too, which nothing runs unless remote code is trusted.

    Raises:
        UserError: Neither; the message says what was tried.
    """
    path = Path(spec).expanduser()
    if spec.strip() and path.is_dir():
        return path
    if spec.count("/") != 1 or spec.startswith((".", "/", "~")) or spec.endswith("/"):
        raise UserError(f"{spec or 'an empty name'}: there is no such folder, and it is no hub id (owner/name) either")
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", *(["*.py"] if code else [])]
    try:
        return Path(snapshot_download(spec, allow_patterns=patterns))
    except Exception as error:  # offline, not found, gated: the library raises many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{spec}: there is no such folder, and the hub could not be asked for it ({reason})") from error


def base_shapes(folder: Path, *, trust_remote_code: bool = False) -> dict[str, tuple[int, ...]]:
    """Shapes of the base model's parameters by name, from its config alone; no weight is read or allocated.

    Args:
        folder: Folder of the base model.
        trust_remote_code: Whether Python code that the folder brings may run to make the model.

    Raises:
        UserError: The folder holds no causal language model that transformers knows.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        _check_counts(folder, config.to_dict())
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = first_line(error)
        if not trust_remote_code and "custom code" in first:
            first = "it brings Python code of its own; with --trust-remote-code that code is run here"
        raise UserError(f"{folder}: not a causal language model that can be loaded: {first}") from error
    return {name: tuple(p.shape) for name, p in model.named_parameters(remove_duplicate=False)}


MOST_MODULES = 100_000
"""Layers times experts of a base model."""


def _check_counts(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuses a config whose modules alone would take minutes to make.

    Raises:
        UserError: A count of layers or experts that no model has.
    """
    counts = {name: n for name, n in config.items() if isinstance(n, int) and name.startswith("n")}
    layers = max((n for name, n in counts.items() if name.endswith(("layer", "layers"))), default=1)
    experts = max((n for name, n in counts.items() if name.endswith("experts")), default=1)
    if layers * max(1, experts) > MOST_MODULES:
        raise UserError(f"{folder}: the config says {layers:,} layers of {experts:,} experts; that is no model")
    for inner in config.values():
        if isinstance(inner, Mapping):
            _check_counts(folder, inner)


def expert_folders(specs: Sequence[str]) -> list[Path]:
    """Each spec as a folder; a folder of adapter folders counts as all of them, by name."""
    folders: list[Path] = []
    for spec in specs:
        folder = resolve(spec)
        inside = sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
        if inside and not (folder / CONFIG).exists():
            folders += inside
        else:
            folders.append(folder)
    return folders


def _name(folder: Path) -> str:
    """The folder's name; of a snapshot in the hub's cache (models--owner--name/snapshots/hash), the repository's."""
    folder = folder.absolute()
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.rsplit("--", 1)[-1]
    return folder.name


def open_pool(specs: Sequence[str], base: Path, *, check_values: bool = True, trust_remote_code: bool = False) -> Pool:
    """The pool of the experts `specs`, checked: they fit each other and the base, and all their numbers are finite.

    Args:
        specs: Folders, folders of adapter folders, or hub ids; LoRA adapters, or full models of one architecture.
        base: Folder of the base model.
        check_values: Whether to read every weight and look for numbers that are not finite.
        trust_remote_code: Whether Python code that the base model's folder brings may run.

    Raises:
        UserError: The first expert that does not fit is named, and why.
    """
    folders = expert_folders(specs)
    if not folders:
        raise UserError("no experts given: name at least one adapter folder with --experts")
    names: list[str] = []
    for folder in folders:
        name = _name(folder)
        names.append(name if name not in names else f"{folder.parent.name}-{name}")
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two experts are called {doubled!r}; give folders with different names")
    experts = tuple(Expert(name, folder) for name, folder in zip(names, folders, strict=True))
    shapes = base_shapes(base, trust_remote_code=trust_remote_code)
    adapters = [(expert.folder / CONFIG).exists() for expert in experts]
    if not any(adapters) and all((expert.folder / "config.json").exists() for expert in experts):
        pool: Pool = ModelPool(experts, base, shapes)
    else:
        pool = LoraPool(experts, base, shapes)
    if check_values:
        check_finite(pool)
    return pool


def check_finite(pool: Pool) -> None:
    """Reads every weight and looks for numbers that are not finite.

    Raises:
        UserError: There is one.
    """
    for expert in pool.experts:
        for path in weight_files(expert.folder):
            with safe_open(path, "pt") as file:
                for key in file.keys():  # noqa: SIM118 - not a dict
                    if not torch.isfinite(file.get_tensor(key)).all():
                        raise UserError(f"expert {expert.name!r}: {path}: tensor {key} holds NaN or infinite values")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of an adapter or a model, whole or sharded.

    Raises:
        UserError: There are none; a pickle file in their place is named.
    """
    if (folder / CONFIG).exists():
        files = [folder / ADAPTER]
    elif (index := folder / "model.safetensors.index.json").exists():
        files = [folder / name for name in sorted(set(read_json(index.read_text())["weight_map"].values()))]
    else:
        files = [folder / "model.safetensors"]
    for path in files:
        if not path.is_file():
            pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in folder.glob(pattern))
            hint = f"; {pickles[0]} is a pickle file and is refused, save it again as safetensors" if pickles else ""
            raise UserError(f"{folder}: there is no {path.name}{hint}")
    return files


def _open(path: Path) -> Any:
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from error


@dataclass(frozen=True)
class _Where:
    """Where one tensor of one expert stands, and the factor that brings it to the common scaling."""

    file: Any
    key: str
    factor: float


def _mixed(sources: Sequence[_Where], rows: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """sum_j rows[:, j] * expert_j for one tensor, [rows, *shape]; chunk by chunk, so no copy of the experts is made."""
    experts = [source.file.get_tensor(source.key).reshape(-1) for source in sources]
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
    """A new safetensors file, all zeros, as tensors that are mapped into memory: writing to them writes the file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        end = at + torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": SAFETENSORS_TYPES[dtype], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format asks for tensors that are aligned to 8 bytes
    start = 8 + len(text)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.flush()
        os.posix_fallocate(file.fileno(), start, at)  # or a full disk would be a signal in the middle of a copy
    data = torch.from_file(str(path), shared=True, size=start + at, dtype=torch.uint8)
    places = {name: [start + offset for offset in header[name]["data_offsets"]] for name in shapes}
    return {name: data[a:b].view(dtype).reshape(shapes[name]) for name, (a, b) in places.items()}


class _Tensors:
    """What every pool is: for each tensor, where it stands in every expert's file."""

    def __init__(self, experts: tuple[Expert, ...]) -> None:
        self.experts = experts
        self._sources: dict[str, list[_Where]] = {}
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
        """Which modules share their coefficients; all of them, unless the pool comes from `grouped`."""
        return Grouping.of(self.modules, "model", len(self.experts))

    def grouped(self, granularity: Granularity) -> Self:
        """The same experts, on the same open files, whose rows may have coefficients for each group of modules."""
        pool = copy(self)
        pool.grouping = Grouping.of(self.modules, granularity, len(self.experts))
        return pool


def _module(name: str) -> str:
    """The path of the module that a tensor belongs to."""
    return name.rpartition(".")[0] or name


class LoraPool(_Tensors):
    """LoRA adapters in the format of peft that share base, target modules and ranks.

    Adapters that differ in alpha (or in rsLoRA's scaling) are brought to the first one's scaling through B, which
    leaves every adapter's own BA unchanged. Different ranks cannot be mixed in the paper's space and are refused.
    """

    kind: Literal["lora", "model"] = "lora"

    def __init__(self, experts: tuple[Expert, ...], base: Path, shapes: Shapes) -> None:
        super().__init__(experts)
        self._configs = [_read_lora_config(expert) for expert in experts]
        self.doubt = self._check_base(base)
        files = [_open(weight_files(expert.folder)[0]) for expert in experts]
        keys = [_lora_keys(file, expert) for file, expert in zip(files, experts, strict=True)]
        self._shapes = self._check_keys(keys, files, shapes)
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

        The files are mapped into memory and each tensor is mixed for all rows at once, straight to its places in them.

        Raises:
            OSError: There is no room; it is reserved before anything is written.
        """
        names = [f"base_model.model.{name.rsplit('.', 1)[0]}.lora_{name[-1]}.weight" for name in self._shapes]
        shapes = dict(zip(names, self._shapes.values(), strict=True))
        files = []
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            files.append(_mapped_safetensors(folder / ADAPTER, shapes, dtype))
            config = copy(self._configs[0])
            if isinstance(config.target_modules, set):  # whose order would be another one in every process
                config.target_modules = sorted(config.target_modules)
            config.save_pretrained(folder)
        for name, (_, mixed) in zip(names, self.mix(rows.to(torch.float32)), strict=True):
            for file, tensor in zip(files, mixed, strict=True):
                file[name].copy_(tensor)

    def _check_base(self, base: Path) -> str | None:
        """All adapters were trained on one base: the same last part of its name, as folders move.

        A base of another name is doubted, not refused: folders are renamed, and whether shapes fit is seen elsewhere.
        """
        told = [_name(Path(config.base_model_name_or_path or "unknown")) for config in self._configs]
        for name, expert in zip(told, self.experts, strict=True):
            if name != told[0]:
                raise UserError(
                    f"expert {expert.name!r} was trained on the base model {name!r}, expert"
                    f" {self.experts[0].name!r} on {told[0]!r}; all experts must share one base model"
                )
        config = base / "config.json"  # what is known of shapes alone has none
        also = read_json(config.read_text(encoding="utf-8")).get("_name_or_path") if config.is_file() else None
        known = [_name(base), _name(Path(also or base))]
        if self._configs[0].base_model_name_or_path is None or told[0].casefold() in map(str.casefold, known):
            return None
        return (
            f"the experts say that they were trained on {told[0]!r}; the base model is {known[0]!r}, and their shapes"
            " fit it: make sure that it is the same model under another name"
        )

    def _check_keys(
        self, keys: Sequence[dict[str, str]], files: Sequence[Any], base: Shapes
    ) -> dict[str, tuple[int, ...]]:
        first = self.experts[0]
        shapes: dict[str, tuple[int, ...]] = {}
        for expert, own, file in zip(self.experts, keys, files, strict=True):
            if missing := sorted(set(keys[0]) ^ set(own)):
                raise UserError(
                    f"expert {expert.name!r} does not adapt the same modules as {first.name!r};"
                    f" the first difference is {missing[0].rsplit('.', 1)[0]}"
                )
            for name in sorted(own):
                shape = tuple(file.get_slice(own[name]).get_shape())
                if shapes.setdefault(name, shape) != shape:
                    raise UserError(
                        f"expert {expert.name!r} has shape {list(shape)} for {name}, {first.name!r} has"
                        f" {list(shapes[name])}: adapters are mixed as A and B, so their ranks must be equal"
                    )
        for name, shape in shapes.items():
            module, letter = name.rsplit(".", 1)
            weight = base.get(f"{module}.weight")
            if weight is None:
                raise UserError(f"expert {first.name!r} adapts {module}, which the base model does not have")
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
    """The adapter's config, refused in words where it asks for more than W + s BA."""
    path = expert.folder / CONFIG
    if not path.exists():
        raise UserError(f"expert {expert.name!r}: {expert.folder} holds no {CONFIG}; it is no PEFT adapter")
    try:
        data = read_json(path.read_text(encoding="utf-8"))
        if data.get("peft_type") != "LORA":
            raise UserError(f"expert {expert.name!r} is a {data.get('peft_type')} adapter; only LORA can be mixed")
        config = LoraConfig.from_pretrained(expert.folder)
        numbers = [config.r, *dict(config.rank_pattern or {}).values()]
        numbers += [config.lora_alpha, *dict(config.alpha_pattern or {}).values()]
        if not all(isinstance(number, int | float) for number in numbers):
            raise TypeError("ranks and alphas must be numbers")
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise UserError(f"expert {expert.name!r}: {path}: not a PEFT adapter config ({error})") from error
    asked = {
        "DoRA": config.use_dora,
        "fully trained modules (modules_to_save)": bool(config.modules_to_save),
        "trained biases": config.bias != "none" or getattr(config, "lora_bias", False),
        "a fan-in fan-out layout": config.fan_in_fan_out,
        "trained token embeddings": bool(getattr(config, "trainable_token_indices", None)),
        # These start from a changed base (peft changes it again when it loads them), or compute something else than BA.
        f"the initialisation {config.init_lora_weights!r}": config.init_lora_weights not in PLAIN_INITIALISATIONS,
        **{f"{name} of peft": bool(getattr(config, name, None)) for name in VARIANTS},
    }
    if unsupported := [what for what, present in asked.items() if present]:
        raise UserError(
            f"expert {expert.name!r} uses {unsupported[0]}, which is not a linear mixture of LoRA matrices;"
            " only plain LoRA adapters can be particles"
        )
    return config


def _lora_keys(file: Any, expert: Expert) -> dict[str, str]:
    """ "path.to.module.A" | "...B" to the key in the file."""
    found = {}
    for key in file.keys():  # noqa: SIM118 - not a dict
        for letter in "AB":
            if key.endswith(end := f".lora_{letter}.weight"):
                found[key.removeprefix("base_model.model.").removesuffix(end) + f".{letter}"] = key
                break
        else:
            raise UserError(f"expert {expert.name!r}: tensor {key} is no lora_A or lora_B of a linear module")
    if not found:
        raise UserError(f"expert {expert.name!r}: its file holds no tensors")
    for name in found:
        other = name[:-1] + ("B" if name[-1] == "A" else "A")
        if other not in found:
            raise UserError(f"expert {expert.name!r}: {name[:-2]} has lora_{name[-1]} but no lora_{other[-1]}")
    return found


def _looked_up(pattern: Mapping[str, int] | None, module: str, default: int) -> int:
    """A module's entry in a rank or alpha pattern, with peft's own matching."""
    from peft.utils.other import get_pattern_key

    return (pattern or {}).get(get_pattern_key((pattern or {}).keys(), module), default)


def _rank(config: LoraConfig, module: str) -> int:
    return _looked_up(config.rank_pattern, module, config.r)


def _scaling(config: LoraConfig, module: str) -> float:
    """s of W + s BA for one module."""
    rank, alpha = _rank(config, module), _looked_up(config.alpha_pattern, module, config.lora_alpha)
    return float(alpha / (rank**0.5 if config.use_rslora else rank))


def _model_keys(folder: Path) -> dict[str, Any]:
    """Tensor name to the open file it stands in."""
    return {key: file for path in weight_files(folder) for file in [_open(path)] for key in file.keys()}  # noqa: SIM118


class ModelPool(_Tensors):
    """Fully fine-tuned models of one architecture as particles: their weights are mixed directly.

    A row stands for base + sum_j c_j (expert_j - base): with coefficients that sum to 1 the base cancels, and a row of
    zeros is the base model, as with LoRA.
    """

    kind: Literal["lora", "model"] = "model"
    doubt: str | None = None

    def __init__(self, experts: tuple[Expert, ...], base: Path, shapes: Shapes) -> None:
        super().__init__(experts)
        base_keys = set(_model_keys(base))
        for expert in (*experts, Expert("the base model", base)):
            own = _model_keys(expert.folder)
            if missing := sorted(base_keys - set(own)):
                raise UserError(
                    f"expert {expert.name!r}: tensor {missing[0]} of the base model is missing;"
                    " full models must share one architecture"
                )
            for key, file in own.items():
                shape = tuple(file.get_slice(key).get_shape())
                if key in shapes and shapes[key] != shape:
                    raise UserError(
                        f"expert {expert.name!r}: {key} has shape {list(shape)}, the base model's is"
                        f" {list(shapes[key])}; full models must share one architecture"
                    )
                if key not in shapes or key not in base_keys:
                    raise UserError(f"expert {expert.name!r}: tensor {key} is unknown to the base model")
                self._shapes[key] = shape
                self._sources.setdefault(key, []).append(_Where(file, key, 1.0))

    def mix(self, rows: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Streams the mixtures: (parameter name, [rows, *shape])."""
        for name, sources in self._sources.items():
            part = self.grouping.part(rows, _module(name))
            part = torch.cat([part, 1.0 - part.sum(dim=1, keepdim=True)], dim=1)
            yield name, _mixed(sources, part, self._shapes[name])

    def write(self, row: torch.Tensor, folder: Path) -> None:
        """Writes the mixture `row` as a float32 model folder; config and tokenizer are the first expert's."""
        import shutil

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor[0].contiguous() for name, tensor in self.mix(row.to(torch.float32)[None])}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        files = [p for kind in ("json", "model", "txt", "jinja") for p in self.experts[0].folder.glob(f"*.{kind}")]
        for path in files:
            if not path.name.endswith(".safetensors.index.json"):
                shutil.copy(path, folder / path.name)
        config = folder / "config.json"
        told = read_json(config.read_text(encoding="utf-8"))
        told |= {key: "float32" for key in ("dtype", "torch_dtype") if key in told}  # or it is loaded rounded
        config.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def folder_hash(folder: Path) -> str:
    """Hash of a model's or adapter's weights, configs and tokenizer: whole files up to 1 GB; of larger ones their
    size, begin and end."""
    digest = sha256()
    for path in (*weight_files(folder), *sorted(folder.glob("*.json"))):
        size = path.stat().st_size
        with path.open("rb") as file:
            if size <= 1 << 30:
                while block := file.read(1 << 22):
                    digest.update(block)
            else:
                digest.update(str(size).encode() + file.read(1 << 22))
                file.seek(-(1 << 22), 2)
                digest.update(file.read())
    return digest.hexdigest()[:16]
