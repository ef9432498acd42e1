"""Open registries: a name to a scorer, an engine, an optimiser, a baseline or a combination.

An entry comes from one of four places, and none of them needs an edit elsewhere:
- a module in a package of this project, found by its decorator and imported when its name is requested;
- a decorator in code that has already run: `@optimisers.register("mine")`;
- a user's file, by the name `FILE.py:NAME`;
- an installed package that declares an entry point in the registry's group, such as

      [project.entry-points."model_swarms.optimisers"]
      mine = "my_package.my_module:MySearch"
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Generic, TypeVar

from utilities.errors import UserError, first_line, unknown_name
from utilities.user_code import file_of, object_in_file

T = TypeVar("T")

__all__ = ["Registry", "unknown_name"]


class Registry(Generic[T]):
    """Names and their entries. Listing and describing names imports none of the modules that define them.

    Args:
        kind: What the entries are, as the user knows them ("engine").
        packages: Packages whose files register entries.
        decorators: The decorators by which they do, as written there ("engines.register").
        modules: Names and the module that registers each, in place of packages.
        group: Entry point group through which installed packages add entries. A name of this project cannot be
            replaced.

    Example:
        >>> shapes: Registry[type] = Registry("shape")
        >>> @shapes.register("square")
        ... class Square: ...
        >>> shapes.get("square") is Square
        True
    """

    def __init__(
        self,
        kind: str,
        packages: Sequence[str] = (),
        decorators: Sequence[str] = (),
        *,
        modules: Mapping[str, str] | None = None,
        group: str | None = None,
    ) -> None:
        self.kind = kind
        self.group = group
        self._packages, self._decorators, self._declared = packages, decorators, modules or {}
        self._entries: dict[str, T] = {}

    @cached_property
    def _modules(self) -> dict[str, str]:
        """Names of this project's entries and the module that registers each, read without importing the modules."""
        found = dict(self._declared)
        pattern = re.compile(rf'^@(?:{"|".join(map(re.escape, self._decorators))})\(\s*"([^"]+)"', re.MULTILINE)
        for package in self._packages:
            spec = find_spec(package)
            folders = (spec and spec.submodule_search_locations) or ()
            for path in (path for folder in folders for path in Path(folder).glob("*.py")):
                for name in pattern.findall(path.read_text(encoding="utf-8")):
                    if found.setdefault(name, module := f"{package}.{path.stem}") != module:
                        raise ValueError(f"{self.kind} {name!r} is registered by {found[name]} and by {module}")
        return found if self._declared else dict(sorted(found.items()))

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds the decorated object under `name`.

        Defining the same object of the same module again replaces it, as a notebook does when a cell is run twice.

        Raises:
            ValueError: The name is taken; silently replacing an entry would change what a stored run means.
        """

        def add(entry: T) -> T:
            if name in self._entries and _origin(self._entries[name]) != (_origin(entry) or object()):
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def get(self, name: str) -> T:
        """The entry called `name`, or the object that `FILE.py:NAME` names.

        Raises:
            UserError: No such name (the message suggests the nearest one), or an entry that cannot be loaded.
        """
        if file_of(name) is not None:
            entry: T = object_in_file(name, self.kind)
            return entry
        if name not in self._entries:
            if name in self._modules:
                import_module(self._modules[name])
            elif (point := self._points().get(name)) is not None:
                self._load(point)
        self.check(name)
        return self._entries[name]

    def check(self, name: str, more: Iterable[str] = ()) -> None:
        """Accepts a registered name or `FILE.py:NAME`, without loading it.

        Args:
            name: What the user wrote.
            more: Other accepted names, for the message.

        Raises:
            UserError: No such name; the message suggests the nearest one.
        """
        if name not in self and file_of(name) is None:
            raise unknown_name(self.kind, name, [*more, *self])

    def describe(self, name: str) -> str:
        """The first line of the entry's docstring; read from the source file if the entry is not loaded."""
        if name in self._entries:
            text = inspect.getdoc(self._entries[name])
        else:
            point = self._points().get(name)
            module, _, attribute = point.value.partition(":") if point else (self._modules[name], "", "")
            text = _docstring(module, name, attribute)
            if text is None and point and point.dist:
                text = f"of the package {point.dist.name}"
        return next(iter((text or "").strip().splitlines()), "")

    def _points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)} if self.group else {}

    def _load(self, point: EntryPoint) -> None:
        try:
            entry = point.load()
        except Exception as error:  # a package of somebody else may raise anything
            package = f"the package {point.dist.name}" if point.dist else "an installed package"
            raise UserError(
                f"{self.kind} {point.name!r}: {point.value} of {package} cannot be loaded:"
                f" {type(error).__name__}: {first_line(error)}"
            ) from error
        self._entries.setdefault(point.name, entry)  # its module may have registered the name itself

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._modules or name in self._points()

    def __iter__(self) -> Iterator[str]:
        """The names of this project, then the others, both sorted; declared ones in their order."""
        return iter([*self._modules, *sorted({*self._entries, *self._points()} - set(self._modules))])


def _origin(entry: object) -> tuple[str, str] | None:
    """Module and qualified name of a function or class; None for other objects."""
    module, name = getattr(entry, "__module__", None), getattr(entry, "__qualname__", None)
    return (module, name) if module and name else None


def _docstring(module: str, name: str, attribute: str) -> str | None:
    """The docstring of what a module registers as `name` or calls `attribute`, read without running the module."""
    try:
        spec = find_spec(module)
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8")) if spec and spec.origin else ast.Module([], [])
    except (ImportError, OSError, ValueError, SyntaxError):
        return None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            decorators = [one for one in node.decorator_list if isinstance(one, ast.Call)]
            names = [arg.value for one in decorators for arg in one.args if isinstance(arg, ast.Constant)]
            if name in names or node.name == attribute:
                return ast.get_docstring(node)
    return ast.get_docstring(tree)
