"""The exception for mistakes that the user can correct, and readable messages of other exceptions."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from utilities.foreign_text import printable, short

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["UserError", "describe", "first_line", "in_words", "unknown_name"]


class UserError(Exception):
    """A mistake in what the user provided: options, files, data, adapters.

    The message is one clear statement of what happened, where, and what would be accepted. The command line prints
    it in red without a traceback and ends with exit code 2. Control characters in it are made visible.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, lines=True))


def unknown_name(kind: str, name: str, accepted: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest existing one as a suggestion.

    Args:
        kind: What the name should be of, as the user knows it ("task", "engine").
        name: What the user wrote.
        accepted: The names that exist.
    """
    names = sorted(accepted)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}.")


def in_words(error: ValidationError) -> str:
    """The message of a pydantic error in one line: each field, what is wrong with it, and its value."""
    messages = []
    for one in error.errors():
        where = ".".join(str(part) for part in one["loc"])
        value = "" if one["type"] in {"missing", "value_error"} else f" (got {short(one['input'])})"
        messages.append((f"{where}: " if where else "") + one["msg"].removeprefix("Value error, ") + value)
    return "; ".join(messages[:MOST_MESSAGES]) + ("; ..." if len(messages) > MOST_MESSAGES else "")


MOST_MESSAGES = 20


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; its type if it has none, or if reading it fails."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # foreign exceptions may fail to describe themselves
        lines = []
    return printable(lines[0]) if lines else type(error).__name__


def describe(error: BaseException) -> str:
    """Type and first line of an exception: `ValueError: not a number`."""
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line}"
