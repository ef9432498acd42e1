"""Packages whose public names are imported when they are first used: naming one must not load what another needs."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

__all__ = ["lazy"]


def lazy(package: str) -> Callable[[str], Any]:
    """The `__getattr__` of a package: its names are those that it imports under `if TYPE_CHECKING:`.

    Args:
        package: Its name.
    """

    @cache
    def homes() -> dict[str, str]:
        tree = ast.parse(inspect.getsource(sys.modules[package]))
        typed = next(node for node in tree.body if isinstance(node, ast.If))
        imports = [node for node in typed.body if isinstance(node, ast.ImportFrom)]
        return {name.name: node.module or "" for node in imports for name in node.names}

    def getattribute(name: str) -> Any:
        if not name.startswith("__") and name in homes():
            return getattr(import_module(homes()[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return getattribute
