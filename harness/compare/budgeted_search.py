"""Searches with a fixed number of evaluations, for methods of a comparison, trials of a sweep and searches of a lab.

`default_search` is the search of the verb `search`: the same optimiser, initial experts, objective and winner
selection. Only the stopping rule differs: a budget of evaluations instead of a number of iterations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from harness.run.winner import Scored, averaged_rows, select_winner
from harness.session.evaluator import Cost, Evaluator
from harness.swarm.drivers import Budgeted, History
from harness.swarm.loop import search
from harness.swarm.optimisers import make_budgeted
from harness.swarm.settings import SwarmSettings
from harness.swarm.update import Row, Rows
from utilities.errors import UserError
from utilities.objective import ObjectiveKind
from utilities.tasks import Task

__all__ = ["SearchResult", "budgeted_search", "default_search"]


@dataclass(frozen=True)
class SearchResult:
    """Result and cost of a search."""

    row: Row
    best_value: float
    """The objective of the best row, which is the winner unless the mean of the top rows is."""
    cost: Cost
    scored: Sequence[Scored]
    """All rows that were evaluated."""
    note: str | None = None
    """The reason why it ended before its budget was used up."""


async def budgeted_search(
    evaluator: Evaluator,
    name: str,
    make: Callable[[History | None], Budgeted],
    *,
    task: Task | None = None,
    objective: ObjectiveKind = "metric",
) -> tuple[Budgeted, Cost]:
    """Runs a search, or resumes an interrupted one.

    Args:
        evaluator: Evaluates rows on dev; its checkpoint stores the state of the running search.
        name: Key of the saved state.
        make: Makes the search from its saved state, None for its initial one.
        task: Another task on the same engine, such as one with other scores.
        objective: What the search maximises: the metric, or the objective of the session's settings.

    Raises:
        UserError: No row has a value.
    """
    saved = evaluator.checkpoint.get("searches", {}).get(name, {})
    optimiser = make(History.from_dict(saved["state"]) if saved else None)
    cost = Cost(**saved["cost"]) if saved else Cost()

    async def evaluate(rows: Rows) -> list[float | None]:
        nonlocal cost
        batch = await evaluator.batch(rows, task=task)
        cost += batch.cost
        by_metric = task is not None or objective == "metric"
        return [one.value if by_metric else one.objective for one in batch.summaries]

    def after() -> None:
        # only one search runs at a time, and a finished one needs no state
        evaluator.checkpoint["searches"] = {name: {"state": optimiser.state.to_dict(), "cost": vars(cost)}}
        evaluator.save()
        evaluator.publish(optimiser.evaluations, {f"search/{name}": optimiser.best[1]})

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
        name: Prefix of the names of its state and records.
        swarm: The settings of the search.
        budget: Number of evaluations, including the initial experts.
        seed: Seed of all random numbers.
        objective: Objective to maximise; by default the objective of the session's settings.
        groups: Number of module groups with separate coefficients; by default the session's.
    """
    session = evaluator.session
    count = len(session.groups) if groups is None else groups
    columns = len(session.columns)
    averaged = swarm.winner == "top-k-mean" and averaged_rows(budget, swarm.top_k) > 1
    rows = budget - averaged
    make = partial(make_budgeted, columns, len(session.pool.names), swarm, seed, rows, groups=count)
    finished, cost = await budgeted_search(evaluator, name, make, objective=objective or evaluator.objective)
    note = finished.finished if finished.evaluations < rows else None
    scored: Sequence[Scored] = [Scored(row, value) for row, value in finished.evaluated]
    prefix = f"{evaluator.record_name(name, 'dev')}-"
    winner = await select_winner(evaluator, swarm, scored, finished.best[0], prefix)
    assert finished.best[1] is not None  # noqa: S101 - else budgeted_search has raised
    return SearchResult(winner.row, finished.best[1], cost + winner.cost, scored, note)
