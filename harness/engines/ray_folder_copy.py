"""A folder of a model or an adapter, carried to a machine that does not have it: through Ray's object store, in pieces.

The pieces of a folder are put into the store once; every machine fetches them from there, so that the file system of
the machine that started the run need not be seen by the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Files", "receive", "send", "size"]

PIECE = 32 << 20
"""Bytes of one object: a large share of no object store, and large enough that their number does not matter."""

PATTERNS = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")

Files = list[tuple[str, int, list[Any]]]
"""Of each file its name, its bytes, and references to its pieces in order."""


def send(folder: Path, put: Callable[[NDArray[np.uint8]], Any], *, code: bool = False) -> Files:
    """Puts a folder's files, piece by piece, where others can fetch them.

    Args:
        folder: The folder; what is not of a model, and pickle files, stay behind.
        put: Stores a piece and returns a reference to it (`ray.put`).
        code: Whether Python files go along.
    """
    found: Files = []
    for path in sorted({p for pattern in (*PATTERNS, *(["*.py"] if code else [])) for p in folder.glob(pattern)}):
        whole = path.stat().st_size
        pieces = [put(np.fromfile(path, np.uint8, count=PIECE, offset=at)) for at in range(0, whole, PIECE)]
        found.append((path.name, whole, pieces))
    return found


def receive(files: Files, folder: Path, get: Callable[[Any], NDArray[np.uint8]]) -> None:
    """Writes the files that `send` put; `get` fetches a piece by its reference (`ray.get`)."""
    folder.mkdir(parents=True)
    for name, _, pieces in files:
        with (folder / name).open("wb") as file:
            for piece in pieces:
                file.write(get(piece).data)


def size(folders: Sequence[Files]) -> int:
    """Bytes of all files of some folders."""
    return sum(whole for files in folders for _, whole, _ in files)
