"""Who wins: the best of many noisy evaluations is a lucky one, so the mean of the best rows is looked at too.

Around a good mixture the value is nearly flat, and the best rows differ from each other mostly by luck. Their mean is a
mixture too, keeps what they share, and costs one evaluation; it takes the place of weights that are averaged along a
training run. Where the landscape is not like that, the best row is certainly better on dev, and wins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from harness.run_folder.store import Store
from harness.swarm.drivers import row_key
from harness.swarm.update import Row
from utilities.core import Evaluation
from utilities.statistics import Combine, paired_difference, selection_optimism

__all__ = ["Finalist", "Found", "averaged_rows", "choose", "confirm", "mean_of_top_k", "optimism"]

Finalist = Literal["top-k-mean", "best", "best_initial"]
Evaluate = Callable[[Finalist, Row], Awaitable[Evaluation]]
"""The objective's evaluation of a finalist."""


class Found(NamedTuple):
    """A row that was evaluated, and what the objective says of it on dev."""

    row: Row
    value: float


def averaged_rows(rows: int, most: int) -> int:
    """How many rows are averaged: at most a quarter of those that were evaluated, or the mean of few would be a mean of
    bad ones too."""
    return max(1, min(most, rows // 4))


def mean_of_top_k(found: Sequence[Found], top_k: int) -> Row:
    """The mean [experts] of the best rows, at most `top_k` of them (`averaged_rows`); of equal ones the first."""
    ranked = sorted(found, key=lambda one: -one.value)[: averaged_rows(len(found), top_k)]
    return np.asarray(np.mean([one.row for one in ranked], axis=0))


async def choose(middle: Row, best: Row, evaluate: Evaluate, combine: Combine) -> Finalist:
    """The centre, unless the best row is better than it by more than chance, on the same items.

    The best row was chosen for its value and the centre was not, so the comparison leans towards the best row; only
    what exceeds the 95 % interval of the paired difference counts.

    Args:
        middle: The centre.
        best: The best row.
        evaluate: On the dev items of the search.
        combine: The task's way to make one number of its parts.
    """
    if row_key(middle) == row_key(best):
        return "best"
    of_middle, of_best = await evaluate("top-k-mean", middle), await evaluate("best", best)
    if of_middle.value is None:
        return "best"
    difference = paired_difference(of_best, of_middle, combine)
    return "best" if difference is not None and difference.low > 0 else "top-k-mean"


async def confirm(finalists: Mapping[Finalist, Row], evaluate: Evaluate) -> Finalist:
    """The finalist with the highest value on items that no search has seen; of equal ones the first.

    Args:
        finalists: Rows by name; the first is taken where none has a value.
        evaluate: On those items.
    """
    values = {name: (await evaluate(name, row)).value for name, row in finalists.items()}
    return max(finalists, key=lambda name: -np.inf if (value := values[name]) is None else value)


def optimism(
    store: Store, objective_of: Callable[[Evaluation], Evaluation], combine: Combine, top_k: int
) -> float | None:
    """By how much choosing among all rows of a run makes the value of what was chosen look too good.

    Args:
        store: Whose records hold every answer of every row.
        objective_of: What the rows were chosen by.
        combine: The task's way to make one number of its parts.
        top_k: Rows that were chosen; 1 for the best one.
    """
    measured: list[Evaluation] = []
    for path in sorted((store.folder / "records").glob("iter_*.parquet")):
        measured += store.evaluations(path.stem, combine).values()
    usable = [evaluation for evaluation in measured if evaluation.value is not None]
    if len(usable) < 2:
        return None
    return selection_optimism([objective_of(one) for one in usable], usable, combine, averaged_rows(len(usable), top_k))
