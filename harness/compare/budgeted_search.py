"""A search within a number of evaluations: a method of a comparison, a trial of a sweep, a search of a lab.

`default_search` is the search of the verb `search`: the same optimiser, the same initial experts in front of it, the
same objective, the same winner selection. Only what ends it differs: a budget in place of a number of iterations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.run.winner import Scored, averaged_rows, select_winner
from harness.session.evaluator import Cost, Evaluator
from harness.swarm.drivers import Budgeted, History, Penalty, SearchStrategy
from harness.swarm.loop import search
from harness.swarm.optimisers import make_strategy
from harness.swarm.settings import SwarmSettings
from harness.swarm.update import Row, Rows
from utilities.errors import UserError
from utilities.objective import ObjectiveKind
from utilities.tasks import Task

__all__ = ["SearchResult", "budgeted_search", "default_search"]


@dataclass(frozen=True)
class SearchResult:
    """What a search found, and what that took."""

    row: Row
    cost: Cost
    note: str | None = None
    """Why it ended before its budget."""


async def budgeted_search(
    evaluator: Evaluator,
    name: str,
    inner: SearchStrategy,
    budget: int,
    *,
    first: Rows | None = None,
    patience: int | None = None,
    task: Task | None = None,
    penalty: Penalty | None = None,
    objective: ObjectiveKind = "metric",
) -> tuple[Budgeted, Cost]:
    """Runs a search to its end, or from where an interrupted one stood.

    Args:
        evaluator: Evaluates rows on dev; its checkpoint keeps the state of the running search.
        name: What the state is saved under.
        inner: The search, at its beginning.
        budget: Evaluations of different rows.
        first: Initial rows that are evaluated before the search begins.
        patience: As in `Budgeted`.
        task: Another task on the same engine, such as a few examples.
        penalty: As in `Budgeted`.
        objective: What the search maximises: the metric, or the objective of the session's settings.

    Raises:
        UserError: No row has a value.
    """
    saved = evaluator.checkpoint.get("searches", {}).get(name, {})
    state = History.from_dict(saved["state"]) if saved else None
    optimiser = Budgeted(inner, budget, penalty, state, first=first, patience=patience)
    cost = Cost(**saved["cost"]) if saved else Cost()

    async def evaluate(rows: Rows) -> list[float | None]:
        nonlocal cost
        batch = await evaluator.batch(rows, task=task)
        cost += batch.cost
        by_metric = task is not None or objective == "metric"
        return [one.value if by_metric else one.objective for one in batch.summaries]

    def after() -> None:
        # one search at a time; a finished one needs no state
        evaluator.checkpoint["searches"] = {name: {"state": optimiser.state.to_dict(), "cost": vars(cost)}}
        evaluator.save()

    await search(optimiser, evaluate, after)
    if optimiser.best[1] is None:
        raise UserError(f"none of the {optimiser.evaluations} evaluated mixtures has a value on dev")
    return optimiser, cost


async def default_search(
    evaluator: Evaluator,
    name: str,
    swarm: SwarmSettings,
    budget: int,
    seed: int,
    *,
    objective: ObjectiveKind | None = None,
    groups: int | None = None,
) -> SearchResult:
    """The search of the settings within a budget; the evaluation of the mean of the top rows is part of the budget.

    Args:
        evaluator: Evaluates rows.
        name: Begins the names of its state and records.
        swarm: The settings of the search.
        budget: Evaluations, those of the initial experts included.
        seed: Of every random number.
        objective: What it maximises; by default the objective of the session's settings.
        groups: Groups of modules with coefficients of their own; by default the session's.
    """
    session = evaluator.session
    count = len(session.groups) if groups is None else groups
    columns = len(session.columns)
    unbounded = swarm.model_copy(update={"iterations": budget})  # the budget ends it
    inner = make_strategy(columns, unbounded, seed, count)
    averaged = swarm.winner == "top-k-mean" and averaged_rows(budget, swarm.top_k) > 1
    experts = np.tile(np.eye(columns)[: len(session.pool.names)], (1, count))
    found, cost = await budgeted_search(
        evaluator,
        name,
        inner,
        budget - averaged,
        first=None if swarm.optimiser == "pso" else experts,  # the published swarm begins at the experts
        patience=None if swarm.optimiser == "pso" else swarm.patience,
        objective=objective or evaluator.objective,
    )
    note = found.finished if found.evaluations < budget - averaged else None
    scored: Sequence[Scored] = [Scored(row, value) for row, value in found.evaluated]
    prefix = f"{evaluator.record_name(name, 'dev')}-"
    winner = await select_winner(evaluator, swarm, scored, found.best[0], prefix)
    return SearchResult(winner.row, cost + winner.cost, note)
