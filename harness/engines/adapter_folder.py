"""A private folder in shared memory for the particles' adapters, for engines that load adapters from files.

Engines and servers cache adapters by name and path, so neither is ever reused. A killed process leaves its folder in
shared memory: each folder is locked while its process lives, and creating a folder first removes the unlocked ones.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import secrets
import shutil
import stat
import tempfile
import weakref
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from harness.experts.lora_pool import LoraPool
from harness.experts.pool import Pool
from utilities.errors import UserError

__all__ = ["AdapterFolder", "adapter_bytes"]

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - contains only private folders with random names
PREFIX, LOCK = "model-swarms-", "lock"
CONFIG_BYTES = 1 << 16
"""Upper bound for an adapter's config and the header of its tensors."""


def adapter_bytes(pool: Pool, count: int, dtype: torch.dtype = torch.float32) -> int:
    """Upper bound for the size of `count` adapter folders."""
    return count * (pool.parameters * dtype.itemsize + CONFIG_BYTES)


class AdapterFolder:
    """A private folder of adapters, `model-swarms-<pid>-<random>`, removed when its process ends.

    Args:
        root: Parent folder that the server can read; None is shared memory, or the temporary directory without it.
        room: Bytes needed at the same time. If shared memory has less (containers have 64 MB by default), the
            temporary directory is used.

    Raises:
        UserError: The folder cannot be created.
    """

    path: Path

    def __init__(self, root: Path | None, room: int = 0) -> None:
        self._shared = root is None
        self.root = (root or _memory(room)).expanduser().absolute()
        self._numbers = itertools.count()
        try:
            if not self._shared:
                self.root.mkdir(parents=True, exist_ok=True)
            _remove_dead(self.root)
            self.path, lock = _make(self.root, 0o700 if self._shared else 0o777)
        except OSError as error:
            raise UserError(f"{self.root}: no folder for adapters can be made there: {error.strerror}") from error
        self._finalizer = weakref.finalize(self, _end, os.getpid(), self.path, lock)

    def write(self, pool: LoraPool, rows: NDArray[np.float64], dtype: torch.dtype = torch.float32) -> list[Path]:
        """Writes the mixtures `rows` [adapters, experts] as adapter folders with globally unique names.

        Raises:
            UserError: Not enough space, or a write error.
        """
        needed = adapter_bytes(pool, len(rows), dtype)
        stem = self.path.name.removeprefix(PREFIX)
        folders = [self.path / f"{stem}-{next(self._numbers)}" for _ in rows]
        if shutil.disk_usage(self.path).free < needed:
            raise self._full(needed)
        try:
            pool.write_all(torch.from_numpy(rows), folders, dtype)
        except OSError as error:
            for folder in folders:
                self.remove(folder)
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise self._full(needed) from error
            raise UserError(f"{self.path}: the adapters cannot be written: {error}") from error
        return folders

    def remove(self, path: Path) -> None:
        """Removes an adapter written by `write`; a missing one is not an error."""
        shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Removes the folder and its content; idempotent."""
        self._finalizer()

    def _full(self, needed: int) -> UserError:
        what = "shared memory is full" if self.root == SHARED_MEMORY else "the disk is full"
        free = shutil.disk_usage(self.path).free
        more = " (a container: --shm-size)" if self.root == SHARED_MEMORY else ""
        return UserError(
            f"{self.root}: {what}: the particles' adapters need {needed / 1e6:.1f} MB and {free / 1e6:.1f} MB are free;"
            f" free some, give it more{more}, lower --adapter-slots or name another place with --adapter-folder"
        )


def _memory(room: int) -> Path:
    """Shared memory if it exists and has `room` bytes free, else the temporary directory."""
    usable = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK | os.X_OK)
    if usable and shutil.disk_usage(SHARED_MEMORY).free >= room:
        return SHARED_MEMORY
    return Path(tempfile.gettempdir())


def _make(root: Path, mode: int) -> tuple[Path, int]:
    """Creates a folder; returns it and the descriptor of its acquired lock."""
    while True:
        folder = root / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        folder.mkdir(mode)
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # another process removed it before it was locked
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return folder, lock
        os.close(lock)


def _remove_dead(root: Path) -> None:
    """Removes this user's folders that no living process locks."""
    for folder in root.glob(f"{PREFIX}*"):
        try:
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                continue
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # its process is alive
            pass
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _end(owner: int, folder: Path, lock: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
