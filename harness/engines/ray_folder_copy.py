"""Copies a model or adapter folder to other machines through Ray's object store, in pieces.

The pieces are put into the store once and every machine fetches them from there, so no shared file system is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Files", "receive", "send", "size"]

PIECE = 32 << 20
"""Bytes of one object: small compared with the object store, and large enough to keep the number of objects low."""

PATTERNS = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")

Files = list[tuple[str, int, list[Any]]]
"""Of each file: name, size in bytes, and references to its pieces in order."""


def send(folder: Path, put: Callable[[NDArray[np.uint8]], Any], *, code: bool = False) -> Files:
    """Puts a folder's files into the object store, piece by piece.

    Args:
        folder: The folder; pickle files and files that match none of `PATTERNS` are skipped.
        put: Stores a piece and returns a reference to it (`ray.put`).
        code: Whether to include Python files.
    """
    files: Files = []
    for path in sorted({p for pattern in (*PATTERNS, *(["*.py"] if code else [])) for p in folder.glob(pattern)}):
        total = path.stat().st_size
        pieces = [put(np.fromfile(path, np.uint8, count=PIECE, offset=at)) for at in range(0, total, PIECE)]
        files.append((path.name, total, pieces))
    return files


def receive(files: Files, folder: Path, get: Callable[[Any], NDArray[np.uint8]]) -> None:
    """Writes the files that `send` put; `get` fetches a piece by its reference (`ray.get`)."""
    folder.mkdir(parents=True)
    for name, _, pieces in files:
        with (folder / name).open("wb") as file:
            for piece in pieces:
                file.write(get(piece).data)


def size(folders: Sequence[Files]) -> int:
    """Total bytes of all files of the folders."""
    return sum(total for files in folders for _, total, _ in files)
