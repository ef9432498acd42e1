"""One search: rows are evaluated on dev, their values go to the optimiser; checkpoints and events are written."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.engines.base import Engine
from harness.run.final_test import FinalTest, SearchOutcome
from harness.run.monitor import OveroptimisationMonitor
from harness.run.winner import Scored
from harness.run_folder import result as schema
from harness.run_folder.events import Bus, Evaluated, IterationDone, Judged, Note, Started
from harness.run_folder.store import Store
from harness.session.evaluator import EvaluationSummary, Evaluator, StopRules
from harness.session.judge_cost import estimate
from harness.session.session import BASE, Session
from harness.swarm.loop import search
from harness.swarm.optimisers import make_optimiser
from harness.swarm.update import Rows
from utilities.errors import UserError
from utilities.judges.budget import Spent
from utilities.sync import run_sync

if TYPE_CHECKING:
    from utilities.judges.panel import Panel

__all__ = ["SearchRun", "adapt"]


def adapt(session: Session, store: Store, bus: Bus) -> schema.Result:
    """Runs a search and its final test, or the remaining work of an interrupted run.

    Args:
        session: The checked task, pool and base model.
        store: The run folder; its checkpoint, if there is one, is continued.
        bus: Where events go.

    Raises:
        UserError: No model could be scored, the budget is spent, or the judge is unreachable.
    """
    return run_sync(adapt_async(session, store, bus))


async def adapt_async(session: Session, store: Store, bus: Bus) -> schema.Result:
    """`adapt` in the running event loop."""
    began = time.perf_counter()
    checkpoint = store.checkpoint()
    engine = session.engine((checkpoint or {}).get("engine"))
    try:
        try:
            run = SearchRun(session, store, bus, engine, checkpoint, began)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if checkpoint is None:
                raise
            raise UserError(f"the checkpoint of {store.folder} is corrupt: {error!r}") from error
        gc.freeze()  # loaded objects stay: scanning them again and again would delay requests in flight
        try:
            return await run.run()
        finally:
            gc.unfreeze()
    finally:
        engine.close()


class SearchRun:
    """One search in progress."""

    def __init__(
        self,
        session: Session,
        store: Store,
        bus: Bus,
        engine: Engine,
        checkpoint: Mapping[str, Any] | None,
        began: float,
    ) -> None:
        self.session, self.store, self.bus, self.engine = session, store, bus, engine
        saved = checkpoint or {}
        settings = session.settings
        self.optimiser = make_optimiser(
            len(session.columns),
            len(session.pool.names),
            settings.swarm,
            settings.seed,
            None if checkpoint is None else saved["swarm"],
            len(session.groups),
        )
        panel = session.panel
        rules = StopRules(session.task.name, panel, f"retry with `python run.py resume {store.folder}`")
        evaluated = {key: EvaluationSummary.read(one) for key, one in saved.get("evaluated", {}).items()}
        reused: int = saved.get("cached_answers", 0)
        answers = session.answer_cache(engine)
        self.evaluator = Evaluator(session, engine, store, rules, cached=evaluated, answers=answers, reused=reused)
        self.evaluations: int = saved.get("evaluations", 0)
        self.items: int = saved.get("items", 0)
        """Answers to single dev items, the cost of a search."""
        self.seconds: dict[str, float] = {"search": 0.0, "scoring": 0.0, "total": 0.0, **saved.get("seconds", {})}
        self._earlier_forward = float(saved.get("times", {}).get("forward", 0.0))
        self._earlier_mixing = float(saved.get("times", {}).get("mixing", 0.0))
        self._began = began
        self._resumed = checkpoint is not None
        store.save_items(session.task, session.monitor_set, session.validation_set)
        self._best_metric: float | None = saved.get("best_metric")
        self.monitor = OveroptimisationMonitor(self.evaluator, bus, saved.get("guard")) if session.task.judged else None
        if panel is not None and session.judges is not None:
            self._restore_spending(panel)
            session.judges.record_in(store.folder)

    def _restore_spending(self, panel: Panel) -> None:
        """The budget is that of the whole run: what an interrupted part has spent stays spent."""
        costs = [event for event in self.store.events() if isinstance(event, Judged)]
        if costs:
            panel.budget.spent = Spent.from_dict(costs[-1].model_dump(include=set(schema.Cost.model_fields)))

    async def run(self) -> schema.Result:
        """The search, the final test, the result."""
        task, swarm = self.session.task, self.session.settings.swarm
        self.bus(
            Started(
                task=task.name,
                edition=task.edition,
                engine=self.engine.name,
                device=self.engine.device,
                experts=self.session.pool.names,
                anchor=BASE if self.session.settings.include_base else None,
                particles=swarm.particles,
                labels=[] if swarm.optimiser == "pso" else [f"mixture {k + 1}" for k in range(swarm.particles)],
                iterations=swarm.iterations,
                objective=self.evaluator.objective,
                dev_items=task.size("dev"),
                test_items=task.size("test"),
                resumed_from=self.optimiser.snapshot.iteration if self._resumed else None,
            )
        )
        self._report_engine_notes()
        for note in self.session.notes:
            self.bus(Note(text=note))
        if not self._resumed:
            self._save_checkpoint()
            if cost := estimate(self.session):
                self.bus(Note(text=cost))
        try:
            reason = await search(self.optimiser, self._evaluate, self._iteration_done)
            scored = [
                Scored(np.array(one.row), one.objective)
                for one in self.evaluator.cached.values()
                if one.objective is not None
            ]
            outcome = SearchOutcome(
                reason=reason,
                iterations=self.optimiser.snapshot.iteration,
                best=self.optimiser.best[0],
                scored=scored,
                evaluations=self.evaluations,
                items=self.items,
                time_share=self.time_share(),
                seconds=lambda: self.seconds["total"] + time.perf_counter() - self._began,
            )
            return await FinalTest(self.evaluator, self.bus, self.monitor, outcome).finish()
        finally:
            self._report_cost()  # however it ends: a resumed run continues from what was spent

    async def _evaluate(self, rows: Rows) -> list[float | None]:
        """The objective of rows on dev."""
        start = time.perf_counter()
        iteration, particles = self.optimiser.snapshot.iteration + 1, self.optimiser.asked

        def report(k: int, summary: EvaluationSummary, items: int) -> None:
            self.bus(Evaluated(iteration=iteration, particle=int(particles[k]), value=summary.value, items=items))
            if items:
                self._report_cost()

        record, labels = f"iter_{iteration:04d}", [str(particle) for particle in particles]
        batch = await self.evaluator.batch(rows, record=record, labels=labels, report=report)
        if self.monitor is not None:
            await self.monitor.observe(iteration, [rows[k] for k in batch.new], batch.evaluations)
        self.evaluations += len(batch.new)
        self.items += sum(one.n + one.n_unscored for one in batch.evaluations)
        self.seconds["scoring"] += sum(one.usage.seconds for one in batch.evaluations)
        self.seconds["search"] += time.perf_counter() - start
        return [one.objective for one in batch.summaries]

    def _report_cost(self) -> None:
        if self.session.judges is not None:
            self.bus(Judged(**self.session.judges.cost))

    def _report_engine_notes(self) -> None:
        while self.engine.notes:
            self.bus(Note(text=self.engine.notes.pop(0)))
        for note in self.session.take_notes():
            self.bus(Note(text=note))

    def _iteration_done(self) -> None:
        start = time.perf_counter()
        self._report_engine_notes()
        now, (best, value) = self.optimiser.snapshot, self.optimiser.best
        scores = self._metrics(now.rows)
        self._best_metric = max((v for v in (self._best_metric, *scores) if v is not None), default=None)
        self.bus(
            IterationDone(
                iteration=now.iteration,
                step_length=now.step_length,
                scores=scores,
                best=[] if now.bests is None else self._metrics(now.bests),
                restarted=[] if now.restarted is None else now.restarted.tolist(),
                skipped=[] if now.skipped is None else now.skipped.tolist(),
                global_best=self.evaluator.summary(best).value,
                best_metric=self._best_metric,
                objective=value,
                coefficients={} if value is None else self.session.coefficients(best),
                evaluations=self.evaluations,
            )
        )
        self._save_checkpoint()
        self.seconds["search"] += time.perf_counter() - start

    def _metrics(self, rows: Rows) -> list[float | None]:
        """The metric of rows; None if a row was not evaluated."""
        return [self.evaluator.summary(row).value for row in rows]

    def _save_checkpoint(self) -> None:
        now = time.perf_counter()
        self.seconds["total"] += now - self._began
        self._began = now
        self.store.save_checkpoint(
            {
                "swarm": self.optimiser.state.to_dict(),
                "evaluations": self.evaluations,
                "items": self.items,
                "cached_answers": self.evaluator.reused,
                "evaluated": {key: one.stored for key, one in self.evaluator.cached.items()},
                "best_metric": self._best_metric,
                "engine": self.engine.state(),
                "guard": self.monitor.state() if self.monitor else None,
                "seconds": self.seconds,
                "times": {"forward": self._forward, "mixing": self._mixing},
            }
        )

    @property
    def _forward(self) -> float:
        return self._earlier_forward + self.engine.times.forward

    @property
    def _mixing(self) -> float:
        return self._earlier_mixing + self.engine.times.mixing

    def time_share(self) -> schema.TimeShare:
        """Shares of the search's wall time."""
        seconds = max(self.seconds["search"], 1e-9)
        forward, mixing = self._forward / seconds, self._mixing / seconds
        # Scoring overlaps with the forward passes of other particles, so the rest is not simply the difference.
        scoring = min(self.seconds["scoring"] / seconds, max(0.0, 1.0 - forward - mixing))
        return schema.TimeShare(
            forward=forward, mixing=mixing, scoring=scoring, other=max(0.0, 1.0 - forward - mixing - scoring)
        )
