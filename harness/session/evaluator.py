"""Evaluates rows, records and counts evaluations, and decides when evaluation stops.

All verbs evaluate through an `Evaluator`, so the same rules apply to all of them:

- equal rows are evaluated once, and recorded evaluations are not repeated;
- a missing value is never cached: the row is evaluated again when it is requested again;
- a spent budget or an unreachable judge stops the verb with a `StoppedError`; finished results are stored;
- if no model at all has a value, the verb stops with the most frequent reasons.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from harness.engines.base import Engine
from harness.run_folder.events import Judged, Numbers
from harness.run_folder.result import Difference, Measured, Noise
from harness.run_folder.store import Store
from harness.session.answer_cache import AnswerCache, CachedModel
from harness.session.session import BASE, Session
from harness.swarm.drivers import row_key
from harness.swarm.update import Row, Rows
from utilities.core import UNSCORED_LIMIT, Evaluation, Model, Reason, Split, Unscored
from utilities.errors import UserError
from utilities.judges.client import JudgeStopped
from utilities.objective import ObjectiveKind, as_objective, choose_objective, with_smooth_scores
from utilities.statistics import Combine, paired_difference
from utilities.tasks import Task

if TYPE_CHECKING:
    from utilities.judges.panel import Panel

__all__ = [
    "NOT_EVALUATED",
    "Batch",
    "Cost",
    "EvaluationSummary",
    "Evaluator",
    "ModelRow",
    "ScaledAdapter",
    "StopRules",
    "StoppedError",
    "difference",
    "evaluate_models",
    "measured",
    "problem",
    "reversed_dev",
]

T = TypeVar("T")


class ScaledAdapter(NamedTuple):
    """A merged adapter whose change BA is multiplied by a factor."""

    name: str
    factor: float = 1.0


ModelRow = Row | ScaledAdapter
"""A row of the search, coefficients of the experts, or a merged adapter."""


class StoppedError(UserError):
    """Evaluation cannot continue now. Finished results are stored; the run can be resumed once the cause is fixed."""


def measured(evaluation: Evaluation) -> Measured:
    """An evaluation without its items."""
    e = evaluation
    return Measured(value=e.value, se=e.se, n=e.n, unscored=e.n_unscored, problem=e.problem)


def problem(evaluation: Evaluation) -> str:
    """The reason why an evaluation has no value, with the most frequent reason of its unscored items."""
    outcomes = [result.outcome for leaf in evaluation.leaves.values() for result in leaf.results]
    reasons = Counter(f"{o.reason.value}: {o.detail}" for o in outcomes if isinstance(o, Unscored)).most_common(1)
    return f"{evaluation.problem}" + (f" ({reasons[0][0]})" if reasons else "")


def _judge_unreachable(evaluation: Evaluation) -> bool:
    """Whether the evaluation has no value because too many requests failed."""
    outcomes = [result.outcome for leaf in evaluation.leaves.values() for result in leaf.results]
    lost = sum(isinstance(outcome, Unscored) and outcome.reason is Reason.TRANSPORT for outcome in outcomes)
    return evaluation.value is None and lost > UNSCORED_LIMIT * len(outcomes)


class StopRules:
    """Decides when evaluation stops, for all code that sends requests to models or judges.

    Args:
        task: Name of the task, for messages.
        panel: The judges; None if nothing is judged.
        resume: How the user can resume, as the end of a message ("retry with `...`").
    """

    def __init__(self, task: str, panel: Panel | None, resume: str) -> None:
        self.task, self.panel, self.resume = task, panel, resume

    async def gather(self, *work: Awaitable[T]) -> list[T]:
        """Awaits all awaitables concurrently.

        Raises:
            StoppedError: The judge rejects requests, or the budget is spent.
        """
        try:
            results = list(await asyncio.gather(*work))
        except BaseException as error:
            if self.panel is not None:
                await self.panel.finish()  # requests in flight are paid: their replies are cached
            if isinstance(error, JudgeStopped):
                raise StoppedError(f"{error} Progress is saved; {self.resume}") from error
            raise
        self.check_budget()
        return results

    def check_budget(self) -> None:
        """Raises if the budget is spent: results of an incomplete batch are neither used nor stored.

        Raises:
            StoppedError: A judge request was rejected because the budget is spent.
        """
        if self.panel is not None and self.panel.budget.exhausted:
            raise StoppedError(
                f"the judges' budget is spent ({self.panel.spent.tokens:,} tokens). Progress is saved; {self.resume}"
                " and a larger --budget-tokens or --budget-usd"
            )

    def check_judge(self, evaluations: Sequence[Evaluation]) -> None:
        """Raises if no evaluation got a reply from the judges.

        Raises:
            StoppedError: Judges answered none of the evaluations.
        """
        if self.panel is not None and evaluations and all(map(_judge_unreachable, evaluations)):
            raise StoppedError(f"judge unreachable: {problem(evaluations[0])}. Progress is saved; {self.resume}")

    def check_scored(self, evaluations: Sequence[Evaluation]) -> None:
        """Checks on the first evaluations of a run that its models can be scored.

        Raises:
            UserError: None of them has a value.
        """
        if all(evaluation.value is None for evaluation in evaluations):
            reasons = sorted({problem(evaluation) for evaluation in evaluations})
            raise UserError(f"no model could be scored on {self.task}: {'; '.join(reasons)}")


@dataclass(frozen=True)
class Cost:
    """The cost of evaluations."""

    evaluations: int = 0
    """Full evaluations of dev."""
    items: int = 0
    """Answered items."""
    tokens: int = 0
    """Generated tokens."""
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @classmethod
    def of(cls, evaluation: Evaluation, seconds: float) -> Cost:
        """The cost of one evaluation."""
        tokens = sum(result.response.tokens for leaf in evaluation.leaves.values() for result in leaf.results)
        return cls(1, evaluation.n + evaluation.n_unscored, tokens, seconds)


@dataclass(frozen=True)
class EvaluationSummary:
    """An evaluation without its items: enough for a table, a few bytes in a checkpoint."""

    value: float | None
    """The metric."""
    se: float | None
    n: int
    unscored: int
    objective: float | None = None
    """Value of the objective, which the search maximises."""
    row: tuple[float, ...] = ()
    """The row of the search that was evaluated."""
    cost: Cost = field(default=Cost(), compare=False)

    @classmethod
    def read(cls, values: Sequence[Any]) -> EvaluationSummary:
        """The inverse of `stored`."""
        value, se, n, unscored, objective, row = values
        return cls(value, se, n, unscored, objective, tuple(row))

    @property
    def stored(self) -> list[Any]:
        """The values that a checkpoint stores."""
        return [self.value, self.se, self.n, self.unscored, self.objective, self.row]


NOT_EVALUATED = EvaluationSummary(None, None, 0, 0)


@dataclass(frozen=True)
class Batch:
    """Rows that were evaluated on dev together."""

    new: list[int]
    """Indices of the rows that were evaluated now; the other rows equal these or earlier rows."""
    evaluations: list[Evaluation]
    """Evaluations of the new rows."""
    summaries: list[EvaluationSummary]
    """Summaries of all rows."""

    @property
    def cost(self) -> Cost:
        """Cost of all rows: a method is charged for every row it requests, cached or not."""
        return sum((one.cost for one in self.summaries), Cost())


Report = Callable[[int, EvaluationSummary, int], None]
"""Receives a row's index, its summary, and the number of items answered for it: 0 for equal rows and cached answers."""


@dataclass
class Evaluator:
    """Evaluates rows on one task with one engine and one store.

    A row of the search has a coefficient for each of the session's columns. In a comparison the engine's pool also
    holds adapters merged from the experts; the engine's rows then have extra columns, which are zero for mixtures.
    """

    session: Session
    engine: Engine
    store: Store
    rules: StopRules
    made: Sequence[str] = ()
    """Names of the adapters whose columns follow those of the experts."""
    checkpoint: dict[str, Any] = field(default_factory=dict)
    """State saved for this task; `save` writes it."""
    save: Callable[[], None] = lambda: None
    cached: dict[str, EvaluationSummary] = field(default_factory=dict)
    """Summaries of all engine rows with a value on dev, by hash of the row."""
    answered: int = 0
    """Number of items answered for `recorded` evaluations, without those in `reused`."""
    answers: AnswerCache | None = None
    """Stored answers of the base model and the experts; None evaluates them."""
    reused: int = 0
    """Number of items whose answers were read from `answers`."""
    _recorded: dict[tuple[Split, str], Evaluation] = field(default_factory=dict)
    """Recorded evaluations of engine rows."""

    @property
    def task(self) -> Task:
        """The evaluated task."""
        return self.session.task

    @property
    def experts(self) -> list[str]:
        """Names of the experts."""
        return self.session.pool.names

    @cached_property
    def objective(self) -> ObjectiveKind:
        """The objective of a search with the session's settings."""
        return choose_objective(self.session.settings.objective, self.task)

    @cached_property
    def search_task(self) -> Task:
        """The task with scores that hold the objective as well as the metric."""
        return with_smooth_scores(self.task, self.objective)

    def objective_of(self, evaluation: Evaluation) -> Evaluation:
        """The evaluation with the objective as its value."""
        return as_objective(evaluation, self.objective, self.task.combine)

    # -- rows --------------------------------------------------------------------------------------------------------

    def engine_row(self, row: ModelRow) -> Row:
        """The engine's row [groups * (experts + made)]; a coefficient multiplies both A and B."""
        if isinstance(row, ScaledAdapter):
            unit = _unit(len(self.experts) + len(self.made), len(self.experts) + list(self.made).index(row.name))
            return np.asarray(unit * row.factor**0.5)
        parts = self.session.expert_row(row).reshape(-1, len(self.experts))
        padded = np.zeros((len(parts), len(self.experts) + len(self.made)))
        padded[:, : len(self.experts)] = parts
        return padded.reshape(-1)

    def expert_row(self, name: str) -> Row:
        """The row [experts] of one expert."""
        return _unit(len(self.experts), self.experts.index(name))

    def model(self, row: ModelRow | None) -> Model:
        """The model of a row; None is the base model."""
        engine_row = None if row is None else self.engine_row(row)
        return self.engine.particle(engine_row) if self.answers is None else self.answers.model(engine_row)

    async def _evaluate(self, task: Task, row: ModelRow | None, split: Split) -> tuple[Evaluation, int]:
        """An evaluation, and the number of its items that were answered now rather than read from the cache."""
        model = self.model(row)
        evaluation = await task(model, split)
        items = evaluation.n + evaluation.n_unscored
        answered = min(items, model.sent) if isinstance(model, CachedModel) else items
        self.reused += items - answered
        return evaluation, answered

    def coefficients(self, row: Row) -> dict[str, float]:
        """All coefficients of a row by name, in order."""
        names = self.experts if row.size == len(self.experts) else self.session.columns
        if row.size > len(names):
            names = [f"{group}: {name}" for group in self.session.groups for name in names]
        return {name: float(value) for name, value in zip(names, row, strict=True)}

    # -- dev ---------------------------------------------------------------------------------------------------------

    async def batch(
        self,
        rows: Rows | Sequence[ModelRow],
        *,
        task: Task | None = None,
        record: str | None = None,
        labels: Sequence[str] = (),
        report: Report | None = None,
    ) -> Batch:
        """Evaluates rows on dev concurrently; duplicates and previously evaluated rows are not evaluated again.

        Args:
            rows: [rows, columns] of the search, or merged adapters.
            task: Another task on the same engine, such as a few examples; its evaluations are not cached.
            record: Name under which records of the new evaluations are written.
            labels: Labels of the rows in the records.
            report: Called for each row.

        Raises:
            StoppedError: The budget is spent or the judge is unreachable.
            UserError: No row of the first batch has a value.
        """
        keys = [_key(self.engine_row(row)) for row in rows]
        cached = self.cached if task is None else {}
        first = {key: k for k, key in reversed(list(enumerate(keys))) if key not in cached}
        new = sorted(first.values())
        start = time.perf_counter()

        async def evaluate(k: int) -> Evaluation:
            evaluation, answered = await self._evaluate(task or self.search_task, rows[k], "dev")
            if report is not None:
                report(k, self._summary(evaluation, rows[k]), answered)
            return evaluation

        evaluations = await self.rules.gather(*(evaluate(k) for k in new))
        self.rules.check_judge(evaluations)
        if record is not None:
            self.store.save_records(record, [(labels[k], e) for k, e in zip(new, evaluations, strict=True)])
        if task is None and not cached and evaluations:
            self.rules.check_scored(evaluations)
        each = (time.perf_counter() - start) / max(1, len(new))  # evaluations run concurrently, so their times overlap
        fresh = {
            keys[k]: replace(self._summary(e, rows[k]), cost=Cost.of(e, each))
            for k, e in zip(new, evaluations, strict=True)
        }
        if task is None:  # rows without a value are not cached, so they are evaluated again
            cached |= {key: one for key, one in fresh.items() if one.objective is not None}
        summaries = [fresh[key] if key in fresh else cached[key] for key in keys]
        if report is not None:
            for k in sorted({*range(len(keys))} - {*new}):
                report(k, summaries[k], 0)
        return Batch(new, evaluations, summaries)

    def _summary(self, evaluation: Evaluation, row: ModelRow) -> EvaluationSummary:
        e, objective = evaluation, self.objective_of(evaluation).value
        coefficients = () if isinstance(row, ScaledAdapter) else tuple(row.tolist())
        return EvaluationSummary(e.value, e.se, e.n, e.n_unscored, objective, coefficients)

    def summary(self, row: Row) -> EvaluationSummary:
        """The cached summary of a row on dev; `NOT_EVALUATED` if there is none."""
        return self.cached.get(_key(self.engine_row(row)), NOT_EVALUATED)

    # -- evaluations whose answers are needed later --------------------------------------------------------------------

    async def recorded(
        self, record: str, label: str, row: ModelRow | None, split: Split, task: Task | None = None
    ) -> Evaluation:
        """An evaluation with its answers: read from `records/<record>.parquet` if it exists, else computed and written.

        Args:
            record: Name of the records.
            label: Label of the model in the records.
            row: Row of the search, or merged adapter; None is the base model.
            split: The split to evaluate on.
            task: Another task on the same engine, such as held-out items; by default the session's.

        Raises:
            StoppedError: The budget is spent or the judge is unreachable.
        """
        evaluation = self.store.evaluation(record, self.task.combine)
        key = None if row is None else _key(self.engine_row(row))
        if evaluation is None:
            start = time.perf_counter()
            evaluation = None if task is not None or key is None else self._recorded.get((split, key))
            if evaluation is None:
                chosen = task or (self.search_task if split == "dev" else self.task)
                ((evaluation, answered),) = await self.rules.gather(self._evaluate(chosen, row, split))
                self.rules.check_judge([evaluation])
                self.answered += answered
            self.store.save_records(record, [(label, evaluation)])
            self.checkpoint.setdefault("seconds", {})[record] = time.perf_counter() - start
            self.save()
        if key is not None and row is not None and task is None:
            self._recorded.setdefault((split, key), evaluation)
            if split == "dev" and evaluation.value is not None:
                summary = replace(self._summary(evaluation, row), cost=self.cost_of(record, evaluation))
                self.cached.setdefault(key, summary)
        return evaluation

    def publish(self, step: int, values: Mapping[str, float | None]) -> None:
        """Sends values, and what the judges have cost so far, to the subscribers of the folder."""
        self.store.bus(Numbers(step=step, values=dict(values)))
        if self.session.judges is not None:
            self.store.bus(Judged(**self.session.judges.cost))

    def cost_of(self, record: str, evaluation: Evaluation) -> Cost:
        """The cost of a recorded evaluation when it was computed."""
        return Cost.of(evaluation, self.checkpoint.get("seconds", {}).get(record, 0.0))

    def record_name(self, name: str, split: Split) -> str:
        """The name of records in a folder shared by several tasks."""
        return f"{self.task.name}-{name}-{split}"

    async def expert_evaluations(self, split: Split) -> tuple[list[Evaluation], Cost]:
        """Evaluations of all experts on a split, in the order of the pool, and their total cost.

        Raises:
            UserError: No expert has a value.
        """
        evaluations, cost = [], Cost()
        for name in self.experts:
            record = self.record_name(f"expert-{name}", split)
            evaluations.append(await self.recorded(record, f"expert-{name}", self.expert_row(name), split))
            cost += self.cost_of(record, evaluations[-1])
        self.rules.check_scored(evaluations)
        return evaluations, cost

    async def ranked_experts(self) -> tuple[list[int], Cost]:
        """Indices of the experts by dev value, best first (stable for ties, missing values last), and the cost."""
        evaluations, cost = await self.expert_evaluations("dev")
        values = [-np.inf if e.value is None else e.value for e in evaluations]
        return sorted(range(len(values)), key=lambda k: -values[k]), cost

    async def report_only(self, record: str, evaluation: Evaluation) -> dict[str, Measured]:
        """Values of the task's report-only scorers on the test answers of a recorded evaluation."""
        values = {}
        for name, one in self.task.report_only.items():
            stored = self.store.records(f"beside_{name}_{record}")
            if stored is not None:
                scored = Evaluation.of(next(iter(stored.values())))
            else:
                items, answers = self.task.item_sets[one.of].test, evaluation.leaf(one.of)
                (scored,) = await self.rules.gather(one(items, answers))
                self.rules.check_judge([scored])
                self.store.save_records(f"beside_{name}_{record}", [(record, scored)])
            values[name] = measured(scored)
        return values

    async def noise(self, row: Row, other: Row | None = None) -> Noise | None:
        """Evaluates a row on dev twice, the second time in reversed order and together with another row.

        Different batches round differently, so the order of two equally likely options may change.

        Returns:
            The difference; None for a judged task, since answers cost judge tokens and judges are noisy themselves.
        """
        if self.task.judged:
            return None
        again = reversed_dev(self.task)
        first = self._recorded.get(("dev", _key(self.engine_row(row))))
        if first is None:
            (first,) = await self.rules.gather(self.task(self.model(row), "dev"))
        rows = [row] if other is None else [row, other]
        second, *_ = await self.rules.gather(*(again(self.model(one), "dev") for one in rows))
        one, two = (
            {(name, r.item_id): r.response.text for name, leaf in e.leaves.items() for r in leaf.results}
            for e in (first, second)
        )
        change = None if first.value is None or second.value is None else abs(first.value - second.value)
        return Noise(value=change, items=len(one), changed=sum(two[key] != text for key, text in one.items()))


async def evaluate_models(
    session: Session, engine: Engine, split: Split, answers: AnswerCache | None = None
) -> dict[str, Evaluation]:
    """Evaluates the base model and all experts on a split concurrently; nothing is recorded.

    Args:
        session: The task and the experts.
        engine: Answers the prompts.
        split: The split.
        answers: Stored answers; None evaluates all.

    Raises:
        StoppedError: The budget is spent or the judge is unreachable.
    """
    names, rows = [BASE, *session.pool.names], [None, *np.eye(len(session.pool.names))]
    rules = StopRules(session.task.name, session.panel, "repeat the command")
    model = engine.particle if answers is None else answers.model
    evaluations = await rules.gather(*(session.task(model(row), split) for row in rows))
    rules.check_judge(evaluations)
    return dict(zip(names, evaluations, strict=True))


def difference(a: Evaluation, b: Evaluation, combine: Combine) -> Difference:
    """The paired difference a - b with its 95 % interval, or the reason why it is missing."""
    reason = a.problem or b.problem
    paired = None if reason else paired_difference(a, b, combine)
    if paired is None:
        return Difference(value=None, low=None, high=None, problem=reason or "too few items were scored by both")
    return Difference(value=paired.value, low=paired.low, high=paired.high)


def reversed_dev(task: Task) -> Task:
    """The task with its dev items in reversed order."""
    return replace(task, item_sets={name: replace(s, dev=s.dev[::-1]) for name, s in task.item_sets.items()})


def _unit(size: int, index: int) -> Row:
    row = np.zeros(size)
    row[index] = 1.0
    return row


def _key(row: Row) -> str:
    return sha256(row_key(row)).hexdigest()[:16]
