"""Creates scorers by name, with their options and judges."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from utilities.core import Scorer, scorer_registry
from utilities.errors import UserError
from utilities.scorers.function import DecoratedFunction, scorer_from_file
from utilities.task_file import Edition, ItemSetFile
from utilities.user_code import absolute_spec, file_of

if TYPE_CHECKING:
    from utilities.judges.panel import Panel

__all__ = ["asks_judge", "make_scorer", "needs_judge", "scorer_of"]


def make_scorer(name: str, options: Mapping[str, Any], judge: Panel | None = None) -> Scorer:
    """Creates a scorer with its options.

    Args:
        name: A registered scorer, or FILE.py:NAME.
        options: Arguments of its constructor.
        judge: Passed to a scorer with a parameter `judge`.

    Raises:
        UserError: The scorer is unknown, an option is invalid, or it needs a judge.
    """
    maker = _maker(name)
    try:
        return maker(**options, **({"judge": judge} if _takes_judge(maker) else {}))
    except TypeError as error:
        raise UserError(f"scorer {name!r} does not take its options: {error}") from error


def _maker(name: str) -> Callable[..., Scorer]:
    """The constructor of the scorer `name`."""
    if name.endswith(".py"):
        raise UserError(f"utility {name!r}: expected FILE.py:NAME, the name of a function or class in that file")
    entry = scorer_from_file(name) if file_of(name) else scorer_registry.get(name)
    if inspect.isclass(entry) and Scorer not in entry.__mro__:  # adds the defaults of the optional members
        return cast(Callable[..., Scorer], type(entry.__name__, (entry, Scorer), {"__module__": entry.__module__}))
    return entry.scorer if isinstance(entry, DecoratedFunction) else entry


def _takes_judge(maker: Callable[..., Scorer]) -> bool:
    return "judge" in inspect.signature(maker).parameters


def asks_judge(edition: Edition, folder: Path, utility: str | None = None) -> bool:
    """Whether a scorer of an edition (or the utility that replaces them) has a parameter `judge`.

    Args:
        edition: An edition of a task file.
        folder: The task file's folder, base of its relative paths.
        utility: A scorer's name, or FILE.py:NAME.

    Raises:
        UserError: The scorer is unknown.
    """
    scored = [utility] if utility else [absolute_spec(s.scorer, folder) for s in edition.item_sets.values()]
    names = [*scored, *(absolute_spec(one.scorer, folder) for one in edition.report_only.values())]
    return any(map(needs_judge, names))


def scorer_of(
    described: ItemSetFile, folder: Path, utility: str | None, options: Mapping[str, Any], judge: Panel | None = None
) -> Scorer:
    """The scorer of an item set with all its options, or the utility that replaces it.

    Raises:
        UserError: As `make_scorer`.
    """
    if utility is not None:
        return make_scorer(utility, options, judge)
    own = {**_from_folder(described.options, folder), **options}
    return make_scorer(absolute_spec(described.scorer, folder), own, judge)


def _from_folder(options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The options with paths of prompt files resolved relative to the task file's folder."""
    return {
        name: str(folder / value)
        if name.endswith("prompt") and isinstance(value, str) and value.endswith(".jinja") and "{{" not in value
        else value
        for name, value in options.items()
    }


def needs_judge(name: str) -> bool:
    """Whether the scorer `name` has a parameter `judge`."""
    return _takes_judge(_maker(name))
