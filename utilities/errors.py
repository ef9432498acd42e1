"""The exception for mistakes that the user can correct, and its messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["UserError", "first_line", "in_words", "unknown_name"]


class UserError(Exception):
    """A mistake in what the user gave: options, files, data, adapters.

    The message is one clear statement of what happened, where, and what would be accepted. The command line prints
    it in red without a traceback and ends with exit code 2.
    """


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
    """What a pydantic error says, in one line: each field, what is wrong with it and what it was."""
    told = []
    for one in error.errors():
        where = ".".join(str(part) for part in one["loc"])
        given = "" if one["type"] in {"missing", "value_error"} else f" (got {str(one['input'])[:60]!r})"
        told.append((f"{where}: " if where else "") + one["msg"].removeprefix("Value error, ") + given)
    return "; ".join(told)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type where it says nothing: libraries write pages."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
