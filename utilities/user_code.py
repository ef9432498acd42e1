"""Objects of a user's own Python file, named `FILE.py:NAME`."""

from __future__ import annotations

import sys
import traceback
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from utilities.errors import UserError, describe, unknown_name

__all__ = ["absolute_spec", "existing_file", "file_of", "object_in_file"]


def file_of(spec: str) -> Path | None:
    """The file of `path.py:name`; None if `spec` is a registered name."""
    path, separator, _ = spec.rpartition(":")
    return Path(path).expanduser() if separator and path.endswith(".py") else None


def absolute_spec(spec: str, folder: Path) -> str:
    """`path.py:name` with an absolute path, a relative one resolved against `folder`; a registered name unchanged."""
    path = file_of(spec)
    return spec if path is None else f"{(folder / path).resolve()}:{spec.rpartition(':')[2]}"


def existing_file(spec: str, what: str) -> Path:
    """The file of `FILE.py:NAME`.

    Args:
        spec: `FILE.py:NAME`.
        what: What it should name, for messages.

    Raises:
        UserError: No such file, or another form.
    """
    path = file_of(spec)
    if path is None or spec.endswith(":"):
        raise UserError(f"{what} {spec!r}: expected FILE.py:NAME")
    if not path.is_file():
        raise UserError(f"{what} {spec!r}: {path} does not exist")
    return path


def object_in_file(spec: str, what: str) -> Any:
    """The object `NAME` of `FILE.py`.

    Args:
        spec: `FILE.py:NAME`.
        what: What it should be, for messages.

    Raises:
        UserError: The file or the name does not exist, or the file raises when it is run.
    """
    path, name = existing_file(spec, what), spec.rpartition(":")[2]
    module = _run(path, f"{what} {spec!r}")
    found = getattr(module, name, None)
    if found is None:
        own = [n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__]
        decorated = [n for n, v in vars(module).items() if hasattr(v, "scorer")]
        raise unknown_name(f"{what} of {path}", name, [*own, *decorated])
    return found


def _run(path: Path, label: str) -> ModuleType:
    # One module for each content: several item sets may name the same file, and it may change between two runs.
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f"{label}: {path} cannot be read: {error.strerror}") from error
    name = f"user_utility_{sha256(path.resolve().as_posix().encode() + source).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        # No import loader: its byte code cache takes a file of the same second and size for the same file.
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))  # noqa: S102 - the user asked to run this
    except (Exception, SystemExit) as error:  # a user's file may raise anything
        del sys.modules[name]
        line = _line_in(path, error)
        where = f", line {line}" if line else ""
        raise UserError(f"{label}: {path}{where} could not be run: {describe(error)}") from error
    return module


def _line_in(path: Path, error: BaseException) -> int | None:
    """The line of the file that is no Python, or that raised, or that called what raised."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None
