"""A task whose items are answered by a formula, right where difficulty and the skills that an item asks for allow it.

Right is b + a row > 0 with b and a of the item, so what models get right is correlated as it is with real ones, and
near rows answer nearly alike. With `SCALE` experts have accuracies of 0.6 to 0.75 and mixtures a little more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utilities.core import Evaluation, Item, ItemResult, Reason, Response, Score, Unscored, Usage
from utilities.tasks import ItemSet, Task

EXPERTS = 6


class Formula:
    """A scorer: what it is asked is counted by model."""

    bounds = (0.0, 1.0)

    def __init__(self, seed: int, size: int, shift: float = 0.25):
        rng = np.random.default_rng(seed)
        self.base = rng.normal(shift, 1.0, size)
        self.skill = rng.normal(np.linspace(0.0, 0.45, EXPERTS), 0.5, (size, EXPERTS))
        self.calls: list[tuple[Item, ...]] = []

    def right(self, row):
        """[items]: what a row answers."""
        return (self.base + self.skill @ row > 0).astype(float)

    async def __call__(self, model: "Rowed", items: Sequence[Item]) -> Evaluation:
        self.calls.append(items)
        right = self.right(model.row)
        results = []
        for item in items:
            k = int(item.id)
            failed = k in model.unscored
            outcome = Unscored(Reason.TRANSPORT) if failed else Score(float(right[k]))
            results.append(ItemResult(item.id, item.source or item.id, "", Response("A"), outcome))
        return Evaluation.of(results, Usage(requests=len(items)))


@dataclass(frozen=True)
class Rowed:
    """A model that is nothing but its row."""

    row: np.ndarray
    unscored: frozenset[int] = frozenset()


def synthetic_task(sizes=(200, 200), seed=0, combination="harmonic_mean", group_by=None, clusters=None, weights=None):
    """A task of item sets of these sizes; with `clusters`, so many items share a source."""
    sets = {}
    for k, size in enumerate(sizes):
        items = tuple(
            Item(
                id=str(i),
                question="?",
                answer="A",
                domain="abc"[i % 3],
                source=f"fact {i // clusters}" if clusters else None,
            )
            for i in range(size)
        )
        name = f"set{k}"
        sets[name] = ItemSet(name, Formula(10 * seed + k, size, 0.25 - 0.1 * k), items, items[:5], "", (), group_by)
    return Task("synthetic", "", "only", combination, sets, {}, weights)


def truth(task: Task, row) -> float:
    """The value on all items, without any of the code under test."""
    means = [s.scorer.right(row).mean() for s in task.item_sets.values()]
    return means[0] if len(means) == 1 else len(means) / sum(1 / m for m in means)
