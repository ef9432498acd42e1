"""Names to things, filled by decorators; a wrong name is answered with the nearest right one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Generic, TypeVar

from utilities.errors import UserError

T = TypeVar("T")

__all__ = ["Registry", "unknown_name"]


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that nothing is registered under, with a suggestion where one is near.

    Args:
        kind: What was looked for, as the user knows it ("task", "engine").
        name: What the user wrote.
        known: The names that would have been accepted.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}.")


class Registry(Generic[T]):
    """A dictionary whose entries are made by a decorator.

    Args:
        kind: What the entries are, as the user knows them ("engine").
        modules: Names that are registered by a module which is imported only when the name is asked for, so that
            listing what there is loads nothing heavy.

    Example:
        >>> shapes: Registry[type] = Registry("shape")
        >>> @shapes.register("square")
        ... class Square: ...
        >>> shapes.get("square") is Square
        True
    """

    def __init__(self, kind: str, modules: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self._modules = dict(modules or {})
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files the decorated object under `name`.

        Raises:
            ValueError: The name is taken; silently replacing an entry would change what a stored run means.
        """

        def file_under(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return file_under

    def get(self, name: str) -> T:
        """The entry called `name`.

        Raises:
            UserError: No such name; the message suggests the nearest one.
        """
        if name not in self._entries and name in self._modules:
            import_module(self._modules[name])
        try:
            return self._entries[name]
        except KeyError:
            raise unknown_name(self.kind, name, self) from None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._entries, *self._modules}))
