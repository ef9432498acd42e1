"""Where particles' adapters are written for an engine that reads files: a private folder in shared memory.

Engines and servers keep what they know of an adapter by its name and its path, so neither is ever used twice. Memory
that is shared is nobody's when a process is killed: each folder is locked as long as its process lives, and whoever
makes one first removes those that nobody locks any more.
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

from harness.experts.pool import LoraPool
from utilities.errors import UserError

__all__ = ["AdapterFolder"]

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - inside it, a folder of a random name that is this user's alone
PREFIX, LOCK = "model-swarms-", "lock"
CONFIG_BYTES = 1 << 16
"""More than an adapter's config and the header of its tensors take."""


class AdapterFolder:
    """A private folder of adapters, `model-swarms-<pid>-<random>`, that is gone when its process is.

    Args:
        root: The folder to make it in, for a server that sees that one; None is shared memory, or the temporary
            directory where there is none.
        room: Bytes that will be needed at the same time; shared memory with less (a container has 64 MB of it if
            nobody asks for more) gives way to the temporary directory.

    Raises:
        UserError: No folder can be made there.
    """

    path: Path
    """The folder itself."""

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
        """Writes the mixtures `rows` [adapters, experts] as adapter folders, whose names no process has used before.

        Raises:
            UserError: There is no room.
        """
        needed = len(rows) * (pool.parameters * dtype.itemsize + CONFIG_BYTES)
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
        """Removes an adapter that `write` wrote; one that is gone is no error."""
        shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Removes the folder with all that is in it; may be called again."""
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
    """Shared memory where it is and has room, else the temporary directory."""
    usable = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK | os.X_OK)
    if usable and shutil.disk_usage(SHARED_MEMORY).free >= room:
        return SHARED_MEMORY
    return Path(tempfile.gettempdir())


def _make(root: Path, mode: int) -> tuple[Path, int]:
    """A new folder and the descriptor of its lock, which is held."""
    while True:
        folder = root / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        folder.mkdir(mode)
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # another process took it, unlocked as it was, for a dead one
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return folder, lock
        os.close(lock)


def _remove_dead(root: Path) -> None:
    """Removes this user's folders that no living process locks."""
    for folder in root.glob(f"{PREFIX}*"):
        try:
            about = folder.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
                continue
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # its process lives
            pass
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _end(owner: int, folder: Path, lock: int) -> None:
    if os.getpid() == owner:  # not in a forked child that ends
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
