"""Things that a user wrote in a file of their own: `my_file.py:my_score`."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from utilities.core import Scorer
from utilities.errors import UserError
from utilities.registry import unknown_name

__all__ = ["absolute_spec", "file_of", "scorer_from_file", "thing_in_file"]


def file_of(spec: str) -> Path | None:
    """The file of `path.py:name`; None where `spec` is a name in the registry."""
    path, separator, _ = spec.rpartition(":")
    return Path(path).expanduser() if separator and path.endswith(".py") else None


def absolute_spec(spec: str, folder: Path) -> str:
    """`path.py:name` with an absolute path, a relative one as seen from `folder`; a registry's name as it is."""
    path = file_of(spec)
    return spec if path is None else f"{(folder / path).resolve()}:{spec.rpartition(':')[2]}"


def scorer_from_file(spec: str) -> Callable[..., Scorer]:
    """What stands in a user's file under a name: a function, one that `@utility` decorated, or a scorer class.

    Raises:
        UserError: No such file or name, a file that raises when it is run, or a thing that is no utility.
    """
    from utilities.scorers.function import DecoratedFunction, check_function

    thing = thing_in_file(spec, "utility")
    if inspect.isclass(thing):
        has = {part for kind in thing.__mro__ for part in vars(kind)}  # getattr would find the metaclass's __call__
        if missing := [part for part in ("__call__", "score", "check") if part not in has]:
            raise UserError(f"utility {spec!r}: the class has no {', '.join(missing)}; see utilities.core.Scorer")
        return cast(Callable[..., Scorer], thing)
    try:
        check_function(thing)
    except UserError as error:
        raise UserError(f"utility {spec!r}: {error}") from error
    return thing.scorer if isinstance(thing, DecoratedFunction) else DecoratedFunction(thing, {}).scorer


def thing_in_file(spec: str, what: str) -> Any:
    """What stands in a user's file under a name.

    Args:
        spec: `FILE.py:NAME`.
        what: What it should be, for messages.

    Raises:
        UserError: No such file or name, or a file that raises when it is run.
    """
    path, name = file_of(spec), spec.rpartition(":")[2]
    if path is None or not name:
        raise UserError(f"{what} {spec!r}: expected FILE.py:NAME")
    if not path.is_file():
        raise UserError(f"{what} {spec!r}: there is no file {path}")
    module = _run(path, f"{what} {spec!r}")
    thing = getattr(module, name, None)
    if thing is None:
        own = [n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__]
        decorated = [n for n, v in vars(module).items() if hasattr(v, "scorer")]
        raise unknown_name(f"{what} of {path}", name, [*own, *decorated])
    return thing


def _run(path: Path, told: str) -> ModuleType:
    # One module a file content: the same file may be named by several item sets, and change between two runs.
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f"{told}: {path} cannot be read: {error.strerror}") from error
    name = f"user_utility_{sha256(path.resolve().as_posix().encode() + source).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        # Not by an import loader: its byte code cache takes a file of the same second and size for the same file.
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))  # noqa: S102 - what the user asked to be run
    except (Exception, SystemExit) as error:  # a user's file may raise anything
        del sys.modules[name]
        line = _line_in(path, error)
        where = f", line {line}" if line else ""
        raise UserError(f"{told}: {path}{where} could not be run: {type(error).__name__}: {error}") from error
    return module


def _line_in(path: Path, error: BaseException) -> int | None:
    """The line of the file at which it could not be read, or that raised or called what raised."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None
