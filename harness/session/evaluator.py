"""One task on one engine: whatever is evaluated here is evaluated once, and what it cost is remembered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.compare.result import Measured, measured
from harness.engines.base import Engine
from harness.run import winner as finalists
from harness.run_folder.store import Store
from harness.session.session import Prepared
from harness.swarm.drivers import Budgeted, History, SearchStrategy, row_key
from harness.swarm.loop import search
from harness.swarm.update import Row, Rows
from utilities.core import Evaluation, Model, Split
from utilities.errors import UserError
from utilities.objective import ObjectiveKind, as_objective, choose_objective, with_smooth_scores
from utilities.tasks import Task

if TYPE_CHECKING:
    from utilities.judges.panel import Panel

__all__ = ["Bench", "BudgetSpentError", "Cost", "stop_without_budget"]


class BudgetSpentError(UserError):
    """The judges' budget is spent: no method failed, and none can go on."""


def stop_without_budget(panel: Panel) -> None:
    """What the budget has cut a part of is neither told nor kept: with more of it, it is done again.

    Raises:
        BudgetSpentError: A judgement was refused for lack of budget.
    """
    if panel.budget.exhausted:
        raise BudgetSpentError(
            f"the judges' budget is spent ({panel.spent.tokens:,} tokens); nothing that was finished is lost: give the"
            " same command with a larger --budget-tokens or --budget-usd"
        )


@dataclass(frozen=True)
class Cost:
    """What choosing took."""

    evaluations: int = 0
    """Full evaluations of dev."""
    items: int = 0
    """Answers to single items."""
    tokens: int = 0
    """Tokens generated for them."""
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    @classmethod
    def of(cls, evaluation: Evaluation, seconds: float) -> Cost:
        """The cost of one evaluation."""
        tokens = sum(result.response.tokens for leaf in evaluation.leaves.values() for result in leaf.results)
        return cls(1, evaluation.n + evaluation.n_unscored, tokens, seconds)


class Known(NamedTuple):
    """What is known of a row on dev."""

    measured: Measured
    cost: Cost
    objectives: Mapping[ObjectiveKind, float | None]
    """What a search is told of it: the metric, and the objective of the run's settings."""


@dataclass
class Bench:
    """One task, one engine, one pool of the experts and of every adapter that was made of them.

    A mixture of experts is a row with zeros for the adapters, an adapter a row with a single one.
    """

    prepared: Prepared
    """Its pool is that of the experts alone."""
    engine: Engine
    made: Sequence[str]
    """Names of the adapters, whose columns follow those of the experts."""
    store: Store
    checkpoint: dict[str, Any]
    """What is saved of this task; `save` writes it."""
    save: Callable[[], None]
    _known: dict[bytes, Known] = field(default_factory=dict)
    """What is known of engine's rows on dev."""
    _tested: dict[bytes, Evaluation] = field(default_factory=dict)
    """Their evaluations on test."""

    @property
    def experts(self) -> list[str]:
        """The experts' names."""
        return self.prepared.pool.names

    @cached_property
    def objective(self) -> ObjectiveKind:
        """What the swarm of the run's settings maximises."""
        return choose_objective(self.prepared.settings.objective, self.prepared.task)

    @property
    def task(self) -> Task:
        """What is evaluated."""
        return self.prepared.task

    @cached_property
    def _with_objective(self) -> Task:
        """The task, whose scores tell the objective beside the metric."""
        return with_smooth_scores(self.prepared.task, self.objective)

    # -- rows --------------------------------------------------------------------------------------------------------

    def whole_row(self, row: Row) -> Row:
        """The engine's row for coefficients of the experts, or for a row of the search."""
        parts = self.prepared.expert_row(row).reshape(-1, len(self.experts))
        whole = np.zeros((len(parts), len(self.experts) + len(self.made)))
        whole[:, : len(self.experts)] = parts
        return whole.reshape(-1)

    def expert_row(self, name: str) -> Row:
        """The row [experts] of one expert."""
        return _unit(len(self.experts), self.experts.index(name))

    def made_row(self, name: str) -> Row:
        """The engine's row of one adapter."""
        return _unit(len(self.experts) + len(self.made), len(self.experts) + self.made.index(name))

    def model(self, whole: Row | None) -> Model:
        """The model of an engine's row; None is the base model."""
        return self.engine.particle(whole)

    # -- evaluations -------------------------------------------------------------------------------------------------

    async def _evaluate(self, whole: Row | None, split: Split, task: Task) -> Evaluation:
        evaluation = await (self._with_objective if task is self.task else task)(self.model(whole), split)
        if self.prepared.judges is not None:
            stop_without_budget(self.prepared.judges.panel)
        return evaluation

    async def measure(self, wholes: Rows, task: Task | None = None) -> list[Known]:
        """Engine's rows on dev, all at the same time; rows that are equal to earlier ones are looked up.

        What an earlier row cost is told again: every method pays for what it asks, whoever asked first.

        Args:
            wholes: Rows [rows, experts + adapters].
            task: Another task on the same engine, such as a few examples; the bench's own by default.
        """
        keys = [row_key(row) for row in wholes]
        known = self._known if task is None else {}
        first = {key: k for k, key in reversed(list(enumerate(keys))) if key not in known}
        new = sorted(first.values())
        start = time.perf_counter()
        found = await asyncio.gather(*(self._evaluate(wholes[k], "dev", task or self.task) for k in new))
        each = (time.perf_counter() - start) / max(1, len(new))  # they wait for each other, so their own times overlap
        fresh = {keys[k]: self._told(e, Cost.of(e, each)) for k, e in zip(new, found, strict=True)}
        known |= {key: one for key, one in fresh.items() if one.measured.value is not None}  # missing: asked again
        return [fresh[key] if key in fresh else known[key] for key in keys]

    def _told(self, evaluation: Evaluation, cost: Cost) -> Known:
        objective = self.objective_of(evaluation).value
        return Known(measured(evaluation), cost, {self.objective: objective, "metric": evaluation.value})

    def objective_of(self, evaluation: Evaluation) -> Evaluation:
        """What the objective of the run's settings says of an evaluation."""
        return as_objective(evaluation, self.objective, self.task.combine)

    async def recorded(self, name: str, split: Split, whole: Row | None) -> tuple[Evaluation, Cost]:
        """An evaluation whose answers are needed later: read from its records where it was made before.

        A row that is equal to an earlier one has the same answers, which are recorded again under its own name.

        Args:
            name: What its records are called.
            split: Which split.
            whole: The engine's row; None is the base model.
        """
        record = f"{self.task.name}-{name}-{split}"
        evaluation = self.store.evaluation(record, self.task.combine)
        if evaluation is None:
            start = time.perf_counter()
            same = self._tested.get(row_key(whole)) if split == "test" and whole is not None else None
            evaluation = same or await self._evaluate(whole, split, self.task)
            self.store.save_records(record, [(name, evaluation)])
            self.checkpoint.setdefault("seconds", {})[record] = time.perf_counter() - start
            self.save()
        cost = Cost.of(evaluation, self.checkpoint.get("seconds", {}).get(record, 0.0))
        if whole is None:
            return evaluation, cost
        if split == "test":
            self._tested.setdefault(row_key(whole), evaluation)
        elif evaluation.value is not None:
            self._known.setdefault(row_key(whole), self._told(evaluation, cost))
        return evaluation, cost

    async def expert_evaluations(self, split: Split) -> tuple[list[Evaluation], Cost]:
        """All experts on a split, in the order of the pool, and what that cost together."""
        found = []
        for name in self.experts:
            whole = self.whole_row(self.expert_row(name))
            found.append(await self.recorded(f"expert-{name}", split, whole))
        return [evaluation for evaluation, _ in found], sum((cost for _, cost in found), Cost())

    async def ranked_experts(self) -> tuple[list[int], Cost]:
        """Numbers of the experts, the best on dev first, of equal ones the first; those without a value last."""
        evaluations, cost = await self.expert_evaluations("dev")
        values = [-np.inf if e.value is None else e.value for e in evaluations]
        return sorted(range(len(values)), key=lambda k: -values[k]), cost

    # -- searches ----------------------------------------------------------------------------------------------------

    async def search(
        self,
        name: str,
        inner: SearchStrategy,
        budget: int,
        *,
        task: Task | None = None,
        penalty: Callable[[Row], float] | None = None,
        objective: ObjectiveKind = "metric",
    ) -> tuple[Budgeted, Cost]:
        """Runs a search to its end, or from where an interrupted one stood; it chooses on dev alone.

        Args:
            name: What its state is saved under.
            inner: The search.
            budget: Evaluations.
            task: As in `measure`.
            penalty: As in `Budgeted`.
            objective: What the search is told: the metric, or the objective of the run's settings.

        Raises:
            UserError: No row had a value.
        """
        kept = self.checkpoint.get("searches", {}).get(name, {})
        optimiser = Budgeted(inner, budget, penalty, History.from_dict(kept["state"]) if kept else None)
        cost = Cost(**kept["cost"]) if kept else Cost()

        async def evaluate(rows: Rows) -> list[float | None]:
            nonlocal cost
            found = await self.measure(np.array([self.whole_row(row) for row in rows]), task)
            cost = sum((one.cost for one in found), cost)
            return [one.objectives["metric" if task is not None else objective] for one in found]

        def after() -> None:
            self.checkpoint["searches"] = {name: {"state": optimiser.state.to_dict(), "cost": asdict(cost)}}
            self.save()  # one search at a time; a finished one needs no state

        await search(optimiser, evaluate, after)
        if optimiser.best[1] is None:
            raise UserError(f"none of the {optimiser.evaluations} mixtures that were tried has a value on dev")
        return optimiser, cost

    async def finalist(self, name: str, found: Budgeted, top_k: int) -> tuple[Row, Cost]:
        """The mean of the best rows of a search, unless the best one is certainly better on dev; what that costs.

        Args:
            name: What its evaluations are recorded under.
            found: The search.
            top_k: How many rows are averaged.
        """
        rows = [finalists.Found(row, value) for row, value in found.evaluated]
        middle, best = finalists.mean_of_top_k(rows, top_k), found.best[0]
        cost = Cost()

        async def evaluate(which: finalists.Finalist, row: Row) -> Evaluation:
            nonlocal cost
            evaluation, own = await self.recorded(f"{name}-{which}", "dev", self.whole_row(row))
            cost = own if which == "top-k-mean" else cost  # what the best row costs was paid when it was found
            return self.objective_of(evaluation)

        chosen = await finalists.choose(middle, best, evaluate, self.task.combine)
        return middle if chosen == "top-k-mean" else best, cost

    # -- results -----------------------------------------------------------------------------------------------------

    def coefficients(self, row: Row) -> dict[str, float]:
        """A row of experts, or of the search, by name: all its numbers, in their order."""
        names = self.experts if row.size == len(self.experts) else self.prepared.columns
        if row.size > len(names):
            names = [f"{group}: {name}" for group in self.prepared.groups for name in names]
        return {name: float(value) for name, value in zip(names, row, strict=True)}

    async def noise_floor(self) -> float:
        """How far two measurements of the same expert lie apart: of the best one on dev, with the items turned round.

        Other batches round differently, and two options that are equally likely may change places.
        """
        ranked, _ = await self.ranked_experts()
        whole = self.whole_row(self.expert_row(self.experts[ranked[0]]))
        turned = {name: replace(s, dev=tuple(reversed(s.dev))) for name, s in self.task.item_sets.items()}
        (first,) = await self.measure(whole[None])
        (again,) = await self.measure(whole[None], replace(self.task, item_sets=turned))
        a, b = first.measured.value, again.measured.value
        return 0.0 if a is None or b is None else abs(a - b)


def _unit(size: int, at: int) -> Row:
    row = np.zeros(size)
    row[at] = 1.0
    return row
