"""A split of a task cut into stages: disjoint sets of items that are asked one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from utilities.core import Item, Split
from utilities.objective import ObjectiveKind
from utilities.tasks import Task

__all__ = ["Order", "Stage", "Stages", "shuffled"]

Stage = Mapping[str, tuple[Item, ...]]
"""Items by item set. The tuples are the same objects for every particle: scorers and engines remember them by that."""


@dataclass(frozen=True)
class Order:
    """In which order the items of one item set are asked."""

    positions: Sequence[int]
    """Positions of the items in the split, those that are asked first at the front."""
    strata: Sequence[int]
    """[items]: the stratum of each item, in the order of the split. Within a stratum the order is random."""


def shuffled(task: Task, split: Split, seed: int) -> dict[str, Order]:
    """A random order of each item set, all of it one stratum: what is known before any particle was evaluated."""
    rng = np.random.default_rng(seed)
    sizes = {name: len(s.split(split)) for name, s in task.item_sets.items()}
    return {name: Order(rng.permutation(n).tolist(), [0] * n) for name, n in sizes.items()}


@dataclass(frozen=True)
class Stages:
    """A split of a task in stages of about the same size, each with its share of every item set.

    An item set with fewer items than there are stages has no items in the last ones.
    """

    task: Task
    split: Split
    stages: tuple[Stage, ...]
    orders: Mapping[str, Order]
    objective: ObjectiveKind = "metric"
    """What particles are compared by."""

    @classmethod
    def cut(
        cls, task: Task, split: Split, count: int, orders: Mapping[str, Order], objective: ObjectiveKind = "metric"
    ) -> Stages:
        """Cuts each item set, in its order, into `count` stages; those without any item are left out.

        Args:
            task: With the measures that the objective needs (`with_companions`).
            split: Which of its splits.
            count: Stages.
            orders: Of the items, an item set.
            objective: What particles are compared by.

        Raises:
            ValueError: Not at least one stage, or an order of other items than the item set's.
        """
        if count < 1:
            raise ValueError(f"{count} stages")
        stages: list[dict[str, tuple[Item, ...]]] = [{} for _ in range(count)]
        for name, s in task.item_sets.items():
            items = s.split(split)
            if sorted(orders[name].positions) != list(range(len(items))) or len(orders[name].strata) != len(items):
                raise ValueError(f"the order of item set {name!r} is not one of its {len(items)} items")
            for stage, positions in zip(stages, np.array_split(orders[name].positions, count), strict=True):
                if len(positions):
                    stage[name] = tuple(items[k] for k in sorted(positions))
        return cls(task, split, tuple(stage for stage in stages if stage), orders, objective)

    @property
    def items(self) -> int:
        """Items in all."""
        return self.task.size(self.split)

    @cached_property
    def strata(self) -> dict[str, dict[str, list[str]]]:
        """Part of the task to the ids of its items, stratum by stratum: "set", or "set:group", then "set/stratum"."""
        found: dict[str, dict[str, list[str]]] = {}
        for name, s in self.task.item_sets.items():
            for item, stratum in zip(s.split(self.split), self.orders[name].strata, strict=True):
                found.setdefault(s.part(item), {}).setdefault(f"{name}/{stratum}", []).append(item.id)
        return found
