"""Winner selection on dev: the mean of the top rows, or the best row.

The best of many noisy evaluations is partly a lucky one. Around a good mixture the value is nearly flat, and the best
rows differ mostly by noise; their mean is a mixture too, keeps what they share, and costs one evaluation, as averaging
checkpoints along a training run does. If the best row is significantly better on dev than the mean, the best row wins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from harness.run_folder.store import Store
from harness.session.evaluator import Cost, Evaluator
from harness.session.session import Session
from harness.swarm.drivers import Budgeted, row_key
from harness.swarm.optimisers import make_budgeted
from harness.swarm.settings import SwarmSettings
from harness.swarm.update import Row, Rows
from utilities.core import Evaluation
from utilities.objective import ObjectiveKind, as_objective, with_smooth_scores
from utilities.selection_bias import Repeated, selection_bias
from utilities.statistics import Combine, paired_difference

__all__ = [
    "Finalist",
    "Scored",
    "Winner",
    "averaged_rows",
    "mean_of_top_k",
    "optimism",
    "repeated",
    "select_winner",
]

Finalist = Literal["top-k-mean", "best", "best_initial"]


class Scored(NamedTuple):
    """A row that was evaluated, and its objective on dev."""

    row: Row
    value: float


@dataclass(frozen=True)
class Winner:
    """The selected row."""

    finalist: Finalist
    row: Row
    validation: Evaluation | None = None
    """Its metric on the items of `--validation-share`."""
    cost: Cost = field(default_factory=Cost)
    """Of the evaluation of the mean; the best row's is part of the search."""


def averaged_rows(rows: int, top_k: int) -> int:
    """How many of so many rows are averaged: at most a quarter, because the mean of few rows would hold bad ones."""
    return max(1, min(top_k, rows // 4))


def mean_of_top_k(scored: Sequence[Scored], top_k: int) -> Row:
    """The mean [columns] of the best rows, at most `top_k` of them (`averaged_rows`); of equal ones the first."""
    ranked = sorted(scored, key=lambda one: -one.value)[: averaged_rows(len(scored), top_k)]
    return np.asarray(np.mean([one.row for one in ranked], axis=0))


async def select_winner(
    evaluator: Evaluator, swarm: SwarmSettings, scored: Sequence[Scored], best: Row, prefix: str = "dev_"
) -> Winner:
    """Selects the winner of a search.

    With `--validation-share`, the finalist with the highest objective on these items wins; of equal ones the first.
    Else the mean of the top rows wins, unless the 95 % interval of its paired difference to the best row lies below 0:
    the best row was chosen for its value and the mean was not, so the comparison favours the best row.

    Args:
        evaluator: Evaluates the finalists.
        swarm: `winner` and `top_k`.
        scored: All evaluated rows, those of the initial experts included.
        best: The best of them.
        prefix: Begins the names of the finalists' records.

    Raises:
        StoppedError: As `Evaluator.recorded`.
    """
    session = evaluator.session
    rows: dict[Finalist, Row] = {"best": best}
    if swarm.winner == "top-k-mean":
        rows = {"top-k-mean": mean_of_top_k(scored, swarm.top_k), **rows}
    if session.validation_set is not None:
        initial = [-np.inf if (v := evaluator.summary(row).objective) is None else v for row in session.unit_rows]
        rows["best_initial"] = session.unit_rows[int(np.argmax(initial))]
        unseen = with_smooth_scores(session.validation_set, evaluator.objective)
        held = {
            name: await evaluator.recorded(f"validation_{name}", name, row, "dev", unseen) for name, row in rows.items()
        }
        values = {name: -np.inf if (v := evaluator.objective_of(e).value) is None else v for name, e in held.items()}
        chosen = max(rows, key=values.__getitem__)
        return Winner(chosen, rows[chosen], held[chosen])
    mean = rows.get("top-k-mean")
    if mean is None or row_key(mean) == row_key(best):
        return Winner("best", best)
    recorded = partial(evaluator.recorded, split="dev")
    record = f"{prefix}top-k-mean"
    of_mean = await recorded(record, "top-k-mean", mean)
    of_best = await recorded(f"{prefix}best", "best", best)
    cost = evaluator.cost_of(record, of_mean)
    if not better(evaluator.objective_of(of_mean), evaluator.objective_of(of_best), evaluator.task.combine):
        return Winner("top-k-mean", mean, cost=cost)
    return Winner("best", best, cost=cost)


def better(of_mean: Evaluation, of_best: Evaluation, combine: Combine) -> bool:
    """Whether the best row is significantly better than the mean, or the mean has no value."""
    if of_mean.value is None:
        return True
    difference = paired_difference(of_best, of_mean, combine)
    return difference is not None and difference.low > 0


def optimism(session: Session, store: Store, objective: ObjectiveKind, scored: Sequence[Scored]) -> float | None:
    """The selection bias of the winner's dev value, from the stored answers of a run (`utilities.selection_bias`).

    Args:
        session: Its settings are those of the search.
        store: Its records have every answer of every row.
        objective: What the search maximised.
        scored: All rows that were evaluated, in the order of the records.

    Returns:
        The estimate; None if it cannot be made, as for rows that were evaluated on different items.
    """
    task, swarm = session.task, session.settings.swarm
    metric: list[Evaluation] = []
    for path in sorted((store.folder / "records").glob("iter_*.parquet")):
        metric += store.evaluations(path.stem, task.combine).values()
    pairs = [(one, as_objective(one, objective, task.combine)) for one in metric]
    pairs = [(one, goal) for one, goal in pairs if goal.value is not None]
    goals = np.array([goal.value for _, goal in pairs], dtype=np.float64)
    if len(pairs) != len(scored) or not np.allclose(goals, [one.value for one in scored]):
        return None
    if len({one.n + one.n_unscored for one, _ in pairs}) > 1:
        return None
    metrics, objectives = zip(*pairs, strict=True)
    rows = np.array([one.row for one in scored])
    search = partial(search_again, session, swarm, len(rows))
    return selection_bias(rows, objectives, metrics, task.combine, search, session.settings.seed)


def search_again(
    session: Session, swarm: SwarmSettings, budget: int, value_of: Callable[[Rows], list[float]], seed: int
) -> Repeated:
    """The winner of the same search with other values of rows; see `selection_bias`."""
    groups, columns, experts = len(session.groups), len(session.columns), len(session.pool.names)
    return repeated(make_budgeted(columns, experts, swarm, seed, budget, groups=groups), swarm, value_of)


def repeated(search: Budgeted, swarm: SwarmSettings, value_of: Callable[[Rows], list[float]]) -> Repeated:
    """Runs a search, and selects the mean of the top rows or the best row, as the settings say."""
    while search.finished is None:
        rows = search.ask()
        search.tell(value_of(rows) if len(rows) else [])
    scored = [Scored(row, value) for row, value in search.evaluated]
    if swarm.winner == "top-k-mean" and averaged_rows(len(scored), swarm.top_k) > 1:
        return Repeated(mean_of_top_k(scored, swarm.top_k), None)
    place = max(range(len(scored)), key=lambda k: scored[k].value)
    return Repeated(scored[place].row, place)
