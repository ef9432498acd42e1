"""The end of a run: winner selection on dev, the test split, which is read once, and the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.run.model_card import LIBRARIES, model_card
from harness.run.monitor import OveroptimisationMonitor
from harness.run.winner import Scored, Winner, optimism, select_winner
from harness.run_folder import result as schema
from harness.run_folder.events import Bus, Finished, Judged, Testing, Watched
from harness.session.evaluator import NOT_EVALUATED, EvaluationSummary, Evaluator, difference, measured
from harness.session.session import BASE
from harness.swarm.update import Row
from utilities.core import Evaluation

__all__ = ["FinalTest", "SearchOutcome"]


@dataclass(frozen=True)
class SearchOutcome:
    """What a search ended with."""

    reason: str
    """Why it ended."""
    iterations: int
    best: Row
    """The row with the highest objective."""
    scored: Sequence[Scored]
    """All evaluated rows."""
    evaluations: int
    items: int
    time_share: schema.TimeShare
    seconds: Callable[[], float]
    """Wall seconds of the whole run, all its parts together."""


class FinalTest:
    """The remaining work after a search, or what an interrupted run left of it.

    Args:
        evaluator: Of the search; evaluations that are in its store are not made again.
        bus: Where events go.
        monitor: Of a judged search.
        outcome: Of the search.
    """

    def __init__(
        self, evaluator: Evaluator, bus: Bus, monitor: OveroptimisationMonitor | None, outcome: SearchOutcome
    ) -> None:
        self.evaluator, self.bus, self.monitor, self.outcome = evaluator, bus, monitor, outcome
        self.session, self.store = evaluator.session, evaluator.store

    async def _dev(self, record: str, row: Row | None) -> EvaluationSummary:
        """A row of the final table on dev."""
        cached = NOT_EVALUATED if row is None else self.evaluator.summary(row)
        if cached is not NOT_EVALUATED:
            return cached
        e = await self.evaluator.recorded(f"dev_{record}", record, row, "dev")
        return EvaluationSummary(e.value, e.se, e.n, e.n_unscored)

    def _judging(self) -> schema.Judging | None:
        judges = self.session.judges
        if judges is None:
            return None
        return schema.Judging(judges=[judge.name for judge in judges.panel.judges], **judges.cost)

    def _watched(self) -> list[schema.Watch]:
        """The monitor's observations; those of an iteration that was repeated after an interruption once."""
        last = {event.iteration: event for event in self.store.events() if isinstance(event, Watched)}
        return [last[iteration] for iteration in sorted(last)]

    def _optimism(self, winner: Winner) -> float | None:
        if winner.validation is not None:  # its value there has no selection bias
            return None
        return optimism(self.session, self.store, self.evaluator.objective, self.outcome.scored)

    async def finish(self) -> schema.Result:
        """Selects the winner, reads test, and writes the winner and the result."""
        session, evaluator, outcome = self.session, self.evaluator, self.outcome
        task, pool, settings = session.task, session.pool, session.settings
        selected = await select_winner(evaluator, settings.swarm, outcome.scored, outcome.best)
        winner = selected.row
        if self.monitor is not None and selected.finalist != "best":
            evaluation = await evaluator.recorded("dev_winner", "winner", winner, "dev", task)
            await self.monitor.observe_winner(outcome.iterations + 1, winner, evaluation)
        experts = session.unit_rows
        table: list[tuple[str, Literal["base", "expert", "winner"], Row | None]] = [
            (BASE, "base", None),
            *((name, "expert", experts[j]) for j, name in enumerate(pool.names)),
            ("winner", "winner", winner),
        ]
        records = [f"expert_{name}" if kind == "expert" else kind for name, kind, _ in table]
        dev: dict[str, EvaluationSummary] = {}
        test: dict[str, Evaluation] = {}
        for done, (record, (name, _, row)) in enumerate(zip(records, table, strict=True)):
            self.bus(Testing(name=name, done=done, total=len(table), answered=evaluator.answered))
            dev[record] = await self._dev(record, row)
            test[record] = await evaluator.recorded(f"test_{record}", record, row, "test")
        initial = {name: dev[f"expert_{name}"].value for name in pool.names}
        best_initial = max(initial, key=lambda name: float("-inf") if (v := initial[name]) is None else v)
        tested = ("base", f"expert_{best_initial}", "winner")
        report_only = {record: await evaluator.report_only(record, test[record]) for record in tested}
        if session.judges is not None:
            self.bus(Judged(**session.judges.cost))
        rows = [
            schema.Row(
                name=name,
                kind=kind,
                dev=dev[record].value,
                dev_se=dev[record].se,
                test=test[record].value,
                test_se=test[record].se,
                n=test[record].n,
                unscored=test[record].n_unscored,
                problem=_null_reason(dev[record], test[record]),
                report_only=report_only.get(record, {}),
            )
            for record, (name, kind, _) in zip(records, table, strict=True)
        ]
        result = schema.Result(
            task=task.name,
            task_given=settings.task,
            edition=task.edition,
            seed=settings.seed,
            engine=evaluator.engine.name,
            model=settings.base_model,
            iterations=outcome.iterations,
            stopped=outcome.reason,
            optimiser=settings.swarm.optimiser,
            objective=evaluator.objective,
            evaluations=outcome.evaluations,
            item_evaluations=outcome.items,
            cached_answers=evaluator.reused,
            seconds=outcome.seconds(),
            time_share=outcome.time_share,
            experts=pool.names,
            best_initial=best_initial,
            winner=schema.Winner(
                finalist=selected.finalist,
                coefficients=session.coefficients(winner),
                groups=session.group_coefficients(winner),
                dev=dev["winner"].value,
                optimism=self._optimism(selected),
                confirmed=None if selected.validation is None else measured(selected.validation),
                test=test["winner"].value,
                test_se=test["winner"].se,
                adapter=str(self.store.folder / "best"),
                problem=_null_reason(dev["winner"], test["winner"]),
            ),
            rows=rows,
            difference={
                "winner_minus_best_initial": difference(test["winner"], test[f"expert_{best_initial}"], task.combine),
                "winner_minus_base": difference(test["winner"], test["base"], task.combine),
            },
            noise=await evaluator.noise(winner, experts[pool.names.index(best_initial)]),
            overlap={name: len(s.overlap) for name, s in task.item_sets.items()},
            judging=self._judging(),
            watched=self._watched(),
            run=str(self.store.folder),
        )
        import torch

        with self.store.replacing("best") as folder:
            pool.write(torch.from_numpy(session.expert_row(winner)), folder)
            card = model_card(result, str(session.base), LIBRARIES[pool.kind], result.winner.adapter)
            (folder / "README.md").write_text(card, encoding="utf-8")
        self.store.save_hash("best")
        self.store.save_result(result.model_dump_json(indent=2) + "\n")
        self.bus(Finished(reason=outcome.reason, seconds=result.seconds))
        return result


def _null_reason(dev: EvaluationSummary, test: Evaluation) -> str | None:
    """Why a number of a row of the final table is null; None if none is."""
    if test.problem or dev.value is None:
        return test.problem or "not comparable on dev"
    return "too few items for a standard error" if test.se is None or dev.se is None else None
