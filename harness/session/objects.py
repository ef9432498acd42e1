"""Accepts Python objects instead of names in settings: a utility function, items, a task, paths of adapters.

Settings hold names only, so that a run folder describes its run. An object is registered (a utility) or written to a
task file (items, a task), and replaced by its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import yaml

from utilities.cache_folder import cache_folder
from utilities.core import Item, Scorer, scorer_registry
from utilities.errors import UserError
from utilities.registry import Registry
from utilities.scorers.function import DecoratedFunction, check_function
from utilities.tasks import Task

__all__ = ["with_names"]

Splits = Mapping[str, Sequence[Item]]


def with_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by flat name, with every object replaced by a name.

    Args:
        settings: `task` may be a `Task`, a list of `Item`s (its first half is dev, the rest test) or a mapping with the
            lists "dev" and "test"; `utility` a function, a decorated one, a scorer or its class; `optimiser`, `engine`
            and `combine` entries of their registries; paths may be `Path` objects, and `experts` a single path.

    Raises:
        UserError: An object that is none of these.
    """
    from harness.engines.base import engines
    from harness.swarm.optimisers import optimisers
    from utilities.combine import combinations

    named = dict(settings)
    if callable(utility := named.get("utility")):
        named["utility"] = _utility_name(utility)
    registries: dict[str, Registry[Any]] = {"optimiser": optimisers, "engine": engines, "combine": combinations}
    for name, registry in registries.items():
        if callable(entry := named.get(name)):
            named[name] = _registered(registry, getattr(entry, "__name__", name), entry)
    if "task" in named:
        named["task"] = _task_name(named["task"], named.get("utility"))
    if isinstance(experts := named.get("experts"), str | Path):
        experts = [experts]
    if experts is not None:
        named["experts"] = tuple(str(expert) for expert in experts)
    if isinstance(option := named.get("option"), Mapping):
        named["option"] = tuple(f"{name}={json.dumps(value)}" for name, value in option.items())
    return {name: str(value) if isinstance(value, Path) else value for name, value in named.items()}


def _registered(registry: Registry[Any], name: str, entry: Any) -> str:
    """The name of an entry, which is registered if necessary; a number is appended if the name is taken."""
    number, free = 1, name
    while free in registry and registry.get(free) != entry:
        number += 1
        free = f"{name}-{number}"
    if free not in registry:
        registry.register(free)(entry)
    return free


def _utility_name(utility: Callable[..., Any]) -> str:
    if isinstance(utility, type):
        return _registered(scorer_registry, utility.__name__, utility)
    if hasattr(utility, "score") and hasattr(utility, "check"):  # a scorer with its options
        return _registered(scorer_registry, type(utility).__name__, _Fixed(cast(Scorer, utility)))
    if not isinstance(utility, DecoratedFunction):
        check_function(utility)
        utility = DecoratedFunction(utility, {})
    return _registered(scorer_registry, getattr(utility.function, "__name__", "utility"), utility)


def _task_name(task: Any, utility: str | None) -> str:
    """The name of a task, or the path of a task file for it."""
    if isinstance(task, str | Path):
        return str(task)
    if isinstance(task, Task):
        scorers = {
            name: _registered(scorer_registry, f"{task.name}-{name}", _Fixed(s.scorer))
            for name, s in task.item_sets.items()
        }
        sets = {name: ({"dev": s.dev, "test": s.test}, scorers[name]) for name, s in task.item_sets.items()}
        more = {"combine": task.combination, **({"weights": dict(task.weights)} if task.weights else {})}
        grouped = {name: s.group_by for name, s in task.item_sets.items()}
        return _task_file(task.name, task.title, task.edition, sets, grouped, more)
    splits = task if isinstance(task, Mapping) else None
    if isinstance(task, Sequence) and len(task) >= 2:
        splits = {"dev": task[: len(task) // 2], "test": task[len(task) // 2 :]}
    items = [item for split in (splits or {}).values() for item in split]
    if splits is None or set(splits) != {"dev", "test"} or not all(isinstance(item, Item) for item in items):
        raise UserError(
            f"task: expected a name, a task file, a Task, at least two Items, or {{'dev': Items, 'test': Items}}; got"
            f" {type(task).__name__}"
        )
    scorer = utility or ("multiple_choice" if all(item.choices for item in items) else "exact_match")
    return _task_file("items", "Items given in Python", "full", {"items": (splits, scorer)}, {}, {})


class _Fixed:
    """A factory without options that returns one fixed scorer."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def __call__(self) -> Scorer:
        return self.scorer

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Fixed) and other.scorer is self.scorer

    __hash__ = None  # type: ignore[assignment]


def _task_file(
    name: str,
    title: str,
    edition: str,
    sets: Mapping[str, tuple[Splits, str]],
    grouped: Mapping[str, str | None],
    more: Mapping[str, Any],
) -> str:
    """Writes a task file and its data to the user's cache; returns its path."""
    data = {
        set_name: json.dumps({split: [item.model_dump() for item in items] for split, items in splits.items()})
        for set_name, (splits, _) in sets.items()
    }
    item_sets = {
        set_name: {
            "scorer": scorer,
            "file": f"{k}.json",
            **({"group_by": grouped[set_name]} if grouped.get(set_name) else {}),
        }
        for k, (set_name, (_, scorer)) in enumerate(sets.items())
    }
    document = {"name": name, "title": title, **more, "editions": {edition: {"item_sets": item_sets}}}
    digest = sha256(json.dumps([document, data]).encode()).hexdigest()[:16]
    folder = cache_folder() / "tasks" / digest
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for k, text in enumerate(data.values()):
        (folder / "data" / f"{k}.json").write_text(text, encoding="utf-8")
    path = folder / (re.sub(r"[^\w-]+", "-", name) + ".yaml")
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return str(path)
