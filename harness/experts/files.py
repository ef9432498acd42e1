"""Folders of models and adapters: location, weight files and content hash."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from utilities.bounded_input import read_json
from utilities.errors import UserError, first_line

__all__ = [
    "ADAPTER",
    "CONFIG",
    "FLOATS",
    "content_hash",
    "folder_hash",
    "folder_name",
    "not_finite",
    "open_file",
    "resolve",
    "weight_files",
]

ADAPTER = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
INDEX = "model.safetensors.index.json"
FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}
"""Number types that can be mixed, by their names in safetensors headers."""

DOWNLOADED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")
READ_WHOLE = 1 << 32
"""Maximum bytes of a model whose values are all checked; of larger ones, the first and last row of each tensor."""

HASHED_WHOLE = 1 << 30
"""Maximum bytes of a file that is hashed completely."""

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def resolve(spec: str, *, code: bool = False) -> Path:
    """The local folder of an expert or base model: a folder, or a hub id, downloaded without pickle files.

    Args:
        spec: The folder or hub id; `owner/name@revision` names a branch, a tag or a commit.
        code: Whether to download Python files too; they run only if remote code is trusted.

    Raises:
        UserError: Neither exists.
    """
    path = Path(spec).expanduser()
    if spec.strip() and path.is_dir():
        return path
    if not HUB_ID.fullmatch(spec) or spec.startswith((".", "/", "~")):
        raise UserError(f"{spec or 'an empty name'}: there is no such folder, and it is no hub id (owner/name) either")
    from huggingface_hub import snapshot_download

    repository, _, revision = spec.partition("@")
    patterns = [*DOWNLOADED, *(["*.py"] if code else [])]
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=patterns))
    except Exception as error:  # many types: offline, not found, gated
        reason = first_line(error) or type(error).__name__
        raise UserError(f"{spec}: there is no such folder, and the hub could not be asked for it ({reason})") from error


def folder_name(folder: Path) -> str:
    """The folder's name; for a snapshot in the hub's cache (models--owner--name/snapshots/hash), the repository's."""
    folder = folder.absolute()
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.rsplit("--", 1)[-1]
    return folder.name


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of an adapter or a model, single or sharded.

    Raises:
        UserError: There are none; names a file of another format if there is one.
    """
    if (folder / CONFIG).exists():
        files = [folder / ADAPTER]
    elif (index := folder / INDEX).exists():
        try:
            files = [
                folder / str(name)
                for name in sorted(set(read_json(index.read_text(encoding="utf-8"))["weight_map"].values()))
            ]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{index}: not an index of safetensors files ({first_line(error)})") from error
    else:
        files = [folder / "model.safetensors"]
    for path in files:
        if not path.is_file():
            raise UserError(f"{folder}: there is no {path.name}{_other_format(folder)}")
    return files


def _other_format(folder: Path) -> str:
    """A clause that names the folder's weight file in another format; empty if there is none."""
    if (folder / "adapters.safetensors").is_file():
        return "; adapters.safetensors is MLX's format: convert the adapter to PEFT's format"
    if pickles := sorted(p.name for kind in ("bin", "pt", "pth", "ckpt") for p in folder.glob(f"*.{kind}")):
        return f"; {pickles[0]} is a pickle file and is refused: save it again as safetensors"
    if others := sorted(p.name for kind in ("gguf", "npz", "h5", "msgpack", "onnx") for p in folder.glob(f"*.{kind}")):
        return f"; {others[0]} is of another format: save it again as safetensors"
    if tensors := sorted(p.name for p in folder.glob("*.safetensors")):
        return f", only {tensors[0]}"
    return ""


def open_file(path: Path) -> Any:
    """A memory-mapped safetensors file.

    Raises:
        UserError: It is corrupt.
    """
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from error


def not_finite(files: list[Path]) -> tuple[Path, str] | None:
    """The first file and tensor with NaN or infinite values; None if there is none."""
    everything = sum(path.stat().st_size for path in files) <= READ_WHOLE
    for path in files:
        with open_file(path) as file:
            for key in file.keys():  # noqa: SIM118 - not a dict
                tensor = file.get_slice(key)
                shape = tensor.get_shape()
                if tensor.get_dtype() not in FLOATS:
                    continue
                ends = not everything and shape and shape[0] > 1
                parts = [tensor[:1], tensor[-1:]] if ends else [file.get_tensor(key)]
                if not all(bool(torch.isfinite(_plain(part)).all()) for part in parts):
                    return path, key
    return None


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype.itemsize == 1 else tensor


def folder_hash(folder: Path) -> str:
    """Hash of a model's or adapter's weights, configs and tokenizer.

    Of weight and JSON files above 1 GiB, only the size and the first and last 4 MiB are hashed.
    """
    digest = sha256()
    for path in (*weight_files(folder), *sorted(folder.glob("*.json"))):
        _hash_file(digest, path)
    return digest.hexdigest()[:16]


def content_hash(folder: Path) -> str:
    """Hash of all files of a folder; of those above 1 GiB the time of the last change replaces most of the content."""
    digest = sha256()
    for path in sorted(one for one in folder.iterdir() if one.is_file()):
        stat = path.stat()
        digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns if stat.st_size > HASHED_WHOLE else 0}\n".encode())
        _hash_file(digest, path)
    return digest.hexdigest()


def _hash_file(digest: Any, path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= HASHED_WHOLE:
            while block := file.read(1 << 22):
                digest.update(block)
        else:
            digest.update(str(size).encode() + file.read(1 << 22))
            file.seek(-(1 << 22), 2)
            digest.update(file.read())
