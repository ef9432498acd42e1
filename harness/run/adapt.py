"""The main job from settings to result: search on dev, read test once, save the winner, write `result.json`."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NoReturn

from harness.engines.base import Engine
from harness.engines.gpu_sharing import share_gpu
from harness.run.final_test import Ending, judge_was_away, problem
from harness.run.monitor import Guard
from harness.run_folder import result as schema
from harness.run_folder.events import Bus, Evaluated, IterationDone, Judged, Note, Started
from harness.run_folder.store import Store
from harness.session.brief import NOTHING, Brief
from harness.session.judge_cost import estimate
from harness.session.session import BASE, Prepared
from harness.swarm.drivers import row_key
from harness.swarm.loop import search
from harness.swarm.optimisers import make_optimiser
from harness.swarm.update import Row, Rows
from utilities.core import Evaluation
from utilities.errors import UserError
from utilities.judges.budget import Spent
from utilities.judges.client import JudgeStopped
from utilities.objective import as_objective, choose_objective, with_smooth_scores

if TYPE_CHECKING:
    from utilities.judges.panel import Panel

__all__ = ["Adaptation", "adapt"]


def adapt(prepared: Prepared, store: Store, bus: Bus) -> schema.Result:
    """Runs the whole job, or what an interrupted one left to do.

    Args:
        prepared: The checked task, pool and base model.
        store: The run folder; its checkpoint, where there is one, is continued.
        bus: Where events go.

    Raises:
        UserError: No particle could be scored at all.
    """
    began = time.perf_counter()
    checkpoint = store.checkpoint()
    engine = prepared.engine((checkpoint or {}).get("engine"))
    try:
        if prepared.settings.engine_settings.share_gpu:
            share_gpu(engine, prepared.task)
        try:
            adaptation = Adaptation(prepared, store, bus, engine, checkpoint, began)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if checkpoint is None:
                raise
            raise UserError(f"the checkpoint of {store.folder} is damaged: {error!r}") from error
        gc.freeze()  # what is loaded now stays: looking through it again and again would hold up requests in flight
        try:
            return asyncio.run(adaptation.run())
        finally:
            gc.unfreeze()
    finally:
        engine.close()


class Adaptation:
    """One run in progress."""

    def __init__(
        self,
        prepared: Prepared,
        store: Store,
        bus: Bus,
        engine: Engine,
        checkpoint: Mapping[str, Any] | None,
        began: float,
    ) -> None:
        self.prepared, self.store, self.bus, self.engine = prepared, store, bus, engine
        saved = checkpoint or {}
        self.optimiser = make_optimiser(
            len(prepared.columns),
            len(prepared.pool.names),
            prepared.settings.swarm,
            prepared.settings.seed,
            None if checkpoint is None else saved["swarm"],
            len(prepared.groups),
        )
        self.objective = choose_objective(prepared.settings.objective, prepared.task)
        self.task = with_smooth_scores(prepared.task, self.objective)
        """The task of the search, whose scores tell the objective beside the metric."""
        self.evaluated: dict[str, Brief] = {k: Brief.read(brief) for k, brief in saved.get("evaluated", {}).items()}
        """Every row that was evaluated on dev, by its hash: equal rows are evaluated once."""
        self.evaluations: int = saved.get("evaluations", 0)
        self.items: int = saved.get("items", 0)
        """Answers to single dev items, what a search costs."""
        self.seconds: dict[str, float] = {"search": 0.0, "scoring": 0.0, "total": 0.0, **saved.get("seconds", {})}
        self._earlier_forward = float(saved.get("times", {}).get("forward", 0.0))
        self._earlier_mixing = float(saved.get("times", {}).get("mixing", 0.0))
        self._began = began
        self._resumed = checkpoint is not None
        self.guard = Guard(prepared, engine, bus, saved.get("guard")) if prepared.task.judged else None
        if prepared.judges is not None:
            self._count_what_was_spent(prepared.judges.panel)
            prepared.judges.record_in(store.folder)

    def _count_what_was_spent(self, panel: Panel) -> None:
        """The budget is that of the whole run: what an interrupted part has spent stays spent."""
        told = [event for event in self.store.events() if isinstance(event, Judged)]
        if told:
            panel.budget.spent = Spent.from_dict(told[-1].model_dump(include=set(schema.Cost.model_fields)))

    async def run(self) -> schema.Result:
        """The search, the test, the result."""
        task, swarm = self.prepared.task, self.prepared.settings.swarm
        self.bus(
            Started(
                task=task.name,
                edition=task.edition,
                engine=self.engine.name,
                device=self.engine.device,
                experts=self.prepared.pool.names,
                anchor=BASE if self.prepared.settings.include_base else None,
                particles=swarm.particles,
                labels=[] if swarm.optimiser == "pso" else [f"mixture {k + 1}" for k in range(swarm.particles)],
                iterations=swarm.iterations,
                objective=self.objective,
                dev_items=task.size("dev"),
                test_items=task.size("test"),
                resumed_from=self.optimiser.snapshot.iteration if self._resumed else None,
            )
        )
        self._tell_notes()
        for note in self.prepared.notes:
            self.bus(Note(text=note))
        if not self._resumed:
            self._save_checkpoint()
        if not self._resumed and (told := estimate(self.prepared)):
            self.bus(Note(text=told))
        try:
            reason = await search(self.optimiser, self._evaluate, self._iteration_done)
            return await Ending(self).finish(reason)
        except BaseException as error:
            if self.prepared.judges is not None:
                await self.prepared.judges.panel.finish()
            if isinstance(error, JudgeStopped):
                raise UserError(f"{error} {self._resumable()}") from error
            raise
        finally:
            self.tell_cost()  # however it ends: what was spent is counted when the run goes on

    # -- the search ----------------------------------------------------------------------------------------------------

    async def _evaluate(self, rows: Rows) -> list[float | None]:
        """The objective of rows on dev; rows that are equal to each other or to earlier ones are evaluated once."""
        start = time.perf_counter()
        iteration, particles = self.optimiser.snapshot.iteration + 1, self.optimiser.asked
        keys = [_key(row) for row in rows]
        first = {key: k for k, key in reversed(list(enumerate(keys))) if key not in self.evaluated}
        new = sorted(first.values())
        found = await asyncio.gather(*(self._evaluate_one(iteration, int(particles[k]), rows[k]) for k in new))
        self.stop_without_budget()
        if self.prepared.judges and found and all(map(judge_was_away, found)):
            self.stop_without_judge(found[0])
        labelled = [(str(particles[k]), one) for k, one in zip(new, found, strict=True)]
        self.store.save_records(f"iter_{iteration:04d}", labelled)
        if self.guard is not None:
            await self.guard.look(iteration, [rows[k] for k in new], found)
            self.stop_without_budget()
        values: dict[str, float | None] = {}
        for k, one in zip(new, found, strict=True):
            values[keys[k]] = value = self.objective_of(one).value
            if value is not None:  # else it is missing, not low: it is evaluated again when it is asked for again
                self.evaluated[keys[k]] = Brief.of(one, value, rows[k])
        if iteration == 0 and not self.evaluated:
            problems = sorted({problem(one) for one in found})
            raise UserError(f"no particle could be scored on {self.prepared.task.name}: {'; '.join(problems)}")
        self.evaluations += len(new)
        self.items += sum(one.n + one.n_unscored for one in found)
        for k, key in enumerate(keys):
            if k not in new:
                known = self.evaluated.get(key, NOTHING)
                values.setdefault(key, known.objective)
                self.bus(Evaluated(iteration=iteration, particle=int(particles[k]), value=known.value, items=0))
        self.seconds["search"] += time.perf_counter() - start
        return [values[key] for key in keys]

    async def _evaluate_one(self, iteration: int, particle: int, row: Row) -> Evaluation:
        model = self.engine.particle(self.prepared.expert_row(row))
        evaluation = await self.task(model, "dev")
        items = evaluation.n + evaluation.n_unscored
        self._tell_evaluated(iteration, particle, evaluation, items)
        return evaluation

    def _tell_evaluated(self, iteration: int, particle: int, evaluation: Evaluation, items: int) -> None:
        self.seconds["scoring"] += evaluation.usage.seconds
        self.bus(Evaluated(iteration=iteration, particle=particle, value=evaluation.value, items=items))
        self.tell_cost()

    def objective_of(self, evaluation: Evaluation) -> Evaluation:
        """What the objective says of an evaluation."""
        return as_objective(evaluation, self.objective, self.prepared.task.combine)

    def tell_cost(self) -> None:
        """Tells what the judges have cost so far."""
        if self.prepared.judges is not None:
            self.bus(Judged(**self.prepared.judges.cost))

    def stop_without_budget(self) -> None:
        """What the budget has cut a part of is neither told nor kept: with more of it, it is done again."""
        judges = self.prepared.judges
        if judges is not None and judges.panel.budget.exhausted:
            raise UserError(
                f"the judges' budget is spent ({judges.panel.spent.tokens:,} tokens). {self._resumable()} and a larger"
                " --budget-tokens or --budget-usd"
            )

    def stop_without_judge(self, evaluation: Evaluation) -> NoReturn:
        """Nor is what was never judged because no reply came: it is no result, and can still become one."""
        raise UserError(f"the judges do not answer: {problem(evaluation)}. {self._resumable()}, when they do")

    def _resumable(self) -> str:
        return f"Nothing is lost: continue with python run.py resume {self.store.folder}"

    def _tell_notes(self) -> None:
        while self.engine.notes:
            self.bus(Note(text=self.engine.notes.pop(0)))
        for note in self.prepared.judges.panel.take_notes() if self.prepared.judges else ():
            self.bus(Note(text=note))

    def _iteration_done(self) -> None:
        start = time.perf_counter()
        self._tell_notes()
        now, (best, value) = self.optimiser.snapshot, self.optimiser.best
        self.bus(
            IterationDone(
                iteration=now.iteration,
                step_length=now.step_length,
                scores=self._metrics(now.rows),
                best=[] if now.bests is None else self._metrics(now.bests),
                restarted=[] if now.restarted is None else now.restarted.tolist(),
                skipped=[] if now.skipped is None else now.skipped.tolist(),
                global_best=self.known(best).value,
                objective=value,
                coefficients={} if value is None else self.prepared.coefficients(best),
                evaluations=self.evaluations,
            )
        )
        self._save_checkpoint()
        self.seconds["search"] += time.perf_counter() - start

    def known(self, row: Row) -> Brief:
        """What is remembered of a row."""
        return self.evaluated.get(_key(row), NOTHING)

    def _metrics(self, rows: Rows) -> list[float | None]:
        """The metric of rows, as far as they were evaluated."""
        return [self.known(row).value for row in rows]

    def _save_checkpoint(self) -> None:
        now = time.perf_counter()
        self.seconds["total"] += now - self._began
        self._began = now
        self.store.save_checkpoint(
            {
                "swarm": self.optimiser.state.to_dict(),
                "evaluations": self.evaluations,
                "items": self.items,
                "evaluated": {key: list(vars(brief).values()) for key, brief in self.evaluated.items()},
                "engine": self.engine.state(),
                "guard": self.guard.state() if self.guard else None,
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

    @property
    def seconds_so_far(self) -> float:
        """Wall seconds of the whole run, all its parts together."""
        return self.seconds["total"] + time.perf_counter() - self._began

    def time_share(self) -> schema.TimeShare:
        """Where the search's wall time went."""
        whole = max(self.seconds["search"], 1e-9)
        forward, mixing = self._forward / whole, self._mixing / whole
        scoring = self.seconds["scoring"] / whole
        # Scoring overlaps with the forward passes of other particles, so the rest is not simply the difference.
        scoring = min(scoring, max(0.0, 1.0 - forward - mixing))
        return schema.TimeShare(
            forward=forward, mixing=mixing, scoring=scoring, other=max(0.0, 1.0 - forward - mixing - scoring)
        )


def _key(row: Row) -> str:
    return sha256(row_key(row)).hexdigest()[:16]
