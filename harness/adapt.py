"""The main job from settings to result: search on dev, read test once, save the winner, write `result.json`."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from harness import finalists
from harness import result as schema
from harness.card import model_card
from harness.engines.base import Engine
from harness.events import Bus, Evaluated, Finished, IterationDone, Judged, Note, Started, Testing, Watched
from harness.gpu_sharing import share_gpu
from harness.guard import Guard
from harness.judging import estimate
from harness.preparation import BASE, Prepared
from harness.store import Store
from harness.swarm.budgeted import row_key
from harness.swarm.optimisers import make_optimiser
from harness.swarm.particle_swarm import ParticleSwarm
from harness.swarm.search import search
from harness.swarm.update import Rows
from harness.thrift.cost import Spending
from harness.thrift.evaluator import Evaluator, Found
from harness.thrift.pruning import strictest, swarm_needs
from utilities.core import UNSCORED_LIMIT, Evaluation, Reason, Split, Unscored
from utilities.errors import UserError
from utilities.judges.budget import Spent
from utilities.judges.client import JudgeStopped
from utilities.objective import as_objective, choose_objective, with_companions
from utilities.statistics import paired_difference

if TYPE_CHECKING:
    from utilities.judges.panel import Panel
    from utilities.tasks import Task

__all__ = ["Adaptation", "adapt", "overlap_note", "problem"]

Row = NDArray[np.float64]


@dataclass(frozen=True)
class Brief:
    """What is remembered of an evaluation: enough for a table, a few bytes in the checkpoint."""

    value: float | None
    """The metric."""
    se: float | None
    n: int
    unscored: int
    objective: float | None = None
    """What the search was told."""
    row: tuple[float, ...] = ()
    """Which row it is of, where that is needed later."""

    @classmethod
    def read(cls, values: Sequence[Any]) -> Brief:
        """From the values in a checkpoint."""
        value, se, n, unscored, objective, row = values
        return cls(value, se, n, unscored, objective, tuple(row))

    @classmethod
    def of(cls, evaluation: Evaluation, objective: float | None = None, row: Row | None = None) -> Brief:
        """The brief form of an evaluation."""
        at = () if row is None else tuple(row.tolist())
        return cls(evaluation.value, evaluation.se, evaluation.n, evaluation.n_unscored, objective, at)


NOTHING = Brief(None, None, 0, 0)
"""Of a row that was not evaluated."""


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
        return asyncio.run(adaptation.run())
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
        self.task = with_companions(prepared.task, self.objective)
        """The task of the search, whose scores tell the objective beside the metric."""
        self.thrift = self._thrift(saved.get("spending"))
        """Evaluates with `--saving`; None where every particle is asked all items."""
        self.evaluated: dict[str, Brief] = {k: Brief.read(brief) for k, brief in saved.get("evaluated", {}).items()}
        """Every row that was evaluated on dev, by its hash: equal rows are evaluated once."""
        self.evaluations: int = saved.get("evaluations", 0)
        self.items: int = saved.get("items", 0)
        """Answers to single dev items, what a search costs."""
        self._tested = 0  # items answered for the final table
        self.seconds: dict[str, float] = {"search": 0.0, "scoring": 0.0, "total": 0.0, **saved.get("seconds", {})}
        self._earlier_forward = float(saved.get("times", {}).get("forward", 0.0))
        self._earlier_mixing = float(saved.get("times", {}).get("mixing", 0.0))
        self._began = began
        self._resumed = checkpoint is not None
        self.guard = Guard(prepared, engine, bus, saved.get("guard")) if prepared.task.judged else None
        if prepared.judges is not None:
            self._count_what_was_spent(prepared.judges.panel)

    def _thrift(self, spending: Mapping[str, Any] | None) -> Evaluator | None:
        settings, swarm = self.prepared.settings, self.prepared.settings.swarm
        if swarm.saving == "none":
            return None
        keep = swarm.elite if swarm.winner == "centre" else 1
        thrift = Evaluator(self.task, swarm.saving, settings.seed, objective=self.objective, keep=keep)
        if spending is not None:
            thrift.spending = Spending.from_dict(spending)
        if self.optimiser.snapshot.iteration >= 0:
            thrift.learn(list(self.store.evaluations("iter_0000", self.prepared.task.combine).values()))
        return thrift

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
                anchor=BASE if self.prepared.settings.anchor == "base" else None,
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
        if (told := self.prepared.grouping_told) is not None:
            self.bus(Note(text=told))
        if not self._resumed:
            self._save_checkpoint()
        if not self._resumed and (told := estimate(self.prepared)):
            self.bus(Note(text=told))
        try:
            reason = await search(self.optimiser, self._evaluate, self._iteration_done)
            return await self._finish(reason)
        except BaseException as error:
            if self.prepared.judges is not None:
                await self.prepared.judges.panel.finish()
            if isinstance(error, JudgeStopped):
                raise UserError(f"{error} {self._resumable()}") from error
            raise
        finally:
            self._tell_cost()  # however it ends: what was spent is counted when the run goes on

    # -- the search ----------------------------------------------------------------------------------------------------

    async def _evaluate(self, rows: Rows) -> list[float | None]:
        """The objective of rows on dev; rows that are equal to each other or to earlier ones are evaluated once."""
        start = time.perf_counter()
        iteration, particles = self.optimiser.snapshot.iteration + 1, self.optimiser.asked
        keys = [_key(row) for row in rows]
        first = {key: k for k, key in reversed(list(enumerate(keys))) if key not in self.evaluated}
        new = sorted(first.values())
        if self.thrift is None:
            found = await asyncio.gather(*(self._evaluate_one(iteration, int(particles[k]), rows[k]) for k in new))
        else:
            found = await self._evaluate_some(self.thrift, iteration, rows, keys, new)
        self._stop_without_budget()
        if found and all(_judge_was_away(one.evaluation) for one in found):
            self._stop_without_judge(found[0].evaluation)
        for record, complete in (("iter", True), ("stopped", False)):
            told = [
                (str(particles[k]), one.evaluation)
                for k, one in zip(new, found, strict=True)
                if one.complete == complete
            ]
            if told or complete:
                self.store.save_records(f"{record}_{iteration:04d}", told)
        if self.guard is not None:
            await self.guard.look(iteration, [rows[k] for k in new], [one.evaluation for one in found])
            self._stop_without_budget()
        values: dict[str, float | None] = {}
        for k, one in zip(new, found, strict=True):
            values[keys[k]] = one.value
            if one.complete and one.value is not None:  # else it is missing, not low: asked again when it comes again
                self.evaluated[keys[k]] = Brief.of(one.evaluation, one.value, rows[k])
        if iteration == 0 and not self.evaluated:
            problems = sorted({problem(one.evaluation) for one in found})
            raise UserError(f"no particle could be scored on {self.prepared.task.name}: {'; '.join(problems)}")
        self.evaluations += len(new)
        self.items += sum(one.items for one in found)
        for k, key in enumerate(keys):
            if k not in new:
                known = self.evaluated.get(key, NOTHING)
                values.setdefault(key, known.objective)
                self.bus(Evaluated(iteration=iteration, particle=int(particles[k]), value=known.value, items=0))
        self.seconds["search"] += time.perf_counter() - start
        return [values[key] for key in keys]

    async def _evaluate_one(self, iteration: int, particle: int, row: Row) -> Found:
        model = self.engine.particle(self.prepared.expert_row(row))
        evaluation = await self.task(model, "dev")
        items = evaluation.n + evaluation.n_unscored
        self._tell_evaluated(iteration, particle, evaluation, items)
        return Found(self._objective_of(evaluation).value, evaluation, items, complete=True)

    async def _evaluate_some(
        self, thrift: Evaluator, iteration: int, rows: Rows, keys: Sequence[str], new: Sequence[int]
    ) -> list[Found]:
        """The rows `new`, of which no more items are asked than `--saving` finds necessary."""
        particles, needs = self.optimiser.asked, None
        if isinstance(self.optimiser, ParticleSwarm):
            of_each = list(zip(keys, swarm_needs(self.optimiser.state, particles), strict=True))
            needs = [strictest([need for key, need in of_each if key == keys[k]]) for k in new]
        models = [self.engine.particle(self.prepared.expert_row(rows[k])) for k in new]
        found = await thrift(models, [int(particles[k]) for k in new], needs)
        for k, one in zip(new, found, strict=True):
            self._tell_evaluated(iteration, int(particles[k]), one.evaluation, one.items)
        return found

    def _tell_evaluated(self, iteration: int, particle: int, evaluation: Evaluation, items: int) -> None:
        self.seconds["scoring"] += evaluation.usage.seconds
        self.bus(Evaluated(iteration=iteration, particle=particle, value=evaluation.value, items=items))
        self._tell_cost()

    def _objective_of(self, evaluation: Evaluation) -> Evaluation:
        return as_objective(evaluation, self.objective, self.prepared.task.combine)

    def _tell_cost(self) -> None:
        if self.prepared.judges is not None:
            self.bus(Judged(**self.prepared.judges.cost))

    def _stop_without_budget(self) -> None:
        """What the budget has cut a part of is neither told nor kept: with more of it, it is done again."""
        judges = self.prepared.judges
        if judges is not None and judges.panel.budget.exhausted:
            raise UserError(
                f"the judges' budget is spent ({judges.panel.spent.tokens:,} tokens). {self._resumable()} and a larger"
                " --budget-tokens or --budget-usd"
            )

    def _stop_without_judge(self, evaluation: Evaluation) -> NoReturn:
        """Nor is what was never judged because no reply came: it is no result, and can still become one."""
        raise UserError(f"the judges do not answer: {problem(evaluation)}. {self._resumable()}, when they do")

    def _resumable(self) -> str:
        return f"Nothing is lost: continue with python run.py resume {self.store.folder}"

    def _tell_notes(self) -> None:
        while self.engine.notes:
            self.bus(Note(text=self.engine.notes.pop(0)))

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
                global_best=self._known(best).value,
                objective=value,
                coefficients={} if value is None else self.prepared.coefficients(best),
                evaluations=self.evaluations,
            )
        )
        self._save_checkpoint()
        self.seconds["search"] += time.perf_counter() - start

    def _known(self, row: Row) -> Brief:
        return self.evaluated.get(_key(row), NOTHING)

    def _metrics(self, rows: Rows) -> list[float | None]:
        """The metric of rows, as far as they were evaluated."""
        return [self._known(row).value for row in rows]

    def _save_checkpoint(self) -> None:
        now = time.perf_counter()
        self.seconds["total"] += now - self._began
        self._began = now
        self.store.save_checkpoint(
            {
                "swarm": self.optimiser.state.to_dict(),
                "evaluations": self.evaluations,
                "items": self.items,
                "spending": None if self.thrift is None else self.thrift.spending.to_dict(),
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

    # -- the test and the result ---------------------------------------------------------------------------------------

    async def _once(self, name: str, row: Row | None, split: Split) -> Evaluation:
        """The evaluation of a row of the final table."""
        return await self._recorded(f"{split}_{name}", name, row, self.prepared.task, split)

    async def _recorded(self, record: str, name: str, row: Row | None, task: Task, split: Split) -> Evaluation:
        """An evaluation of the end of a run; read from the records where an interrupted run left it."""
        kept = self.store.evaluation(record, task.combine)
        if kept is not None:
            return kept
        evaluation = await task(self.engine.particle(None if row is None else self.prepared.expert_row(row)), split)
        self._tested += evaluation.n + evaluation.n_unscored
        self._stop_without_budget()
        if _judge_was_away(evaluation):
            self._stop_without_judge(evaluation)
        self.store.save_records(record, [(name, evaluation)])
        return evaluation

    async def _beside(self, record: str, evaluation: Evaluation) -> dict[str, schema.Measured]:
        """What is measured beside the value, on the test responses of a row of the final table."""
        task, told = self.prepared.task, {}
        for name, one in task.beside.items():
            kept = self.store.records(f"beside_{name}_{record}")
            if kept is not None:
                found = Evaluation.of(next(iter(kept.values())))
            else:
                found = await one(task.item_sets[one.of].test, evaluation.leaf(one.of))
                self._stop_without_budget()
                if _judge_was_away(found):
                    self._stop_without_judge(found)
                self.store.save_records(f"beside_{name}_{record}", [(record, found)])
            told[name] = schema.Measured(
                value=found.value, se=found.se, n=found.n, unscored=found.n_unscored, problem=found.problem
            )
        return told

    async def _noise(self, winner: Row, other: Row) -> schema.Noise | None:
        """Asks the winner twice on dev, the second time in another order and beside another particle."""
        task = self.prepared.task
        if task.judged:  # a judge is paid for every look, and noisy for reasons of its own
            return None
        again = replace(task, item_sets={name: replace(s, dev=s.dev[::-1]) for name, s in task.item_sets.items()})
        model, beside = (self.engine.particle(self.prepared.expert_row(row)) for row in (winner, other))
        first = await task(model, "dev")
        second, _ = await asyncio.gather(again(model, "dev"), again(beside, "dev"))
        said = [
            {(n, r.item_id): r.response.text for n, e in one.leaves.items() for r in e.results}
            for one in (first, second)
        ]
        changed = sum(said[1][key] != text for key, text in said[0].items())
        apart = None if first.value is None or second.value is None else abs(first.value - second.value)
        return schema.Noise(value=apart, items=len(said[0]), changed=changed)

    def _judging(self) -> schema.Judging | None:
        judges = self.prepared.judges
        if judges is None:
            return None
        return schema.Judging(judges=[judge.name for judge in judges.panel.judges], **judges.cost)

    def _watched(self) -> list[schema.Watch]:
        """What the guard saw, the looks of a part that was repeated after an interruption once."""
        last = {event.iteration: event for event in self.store.events() if isinstance(event, Watched)}
        return [last[iteration] for iteration in sorted(last)]

    def _time_share(self) -> schema.TimeShare:
        whole = max(self.seconds["search"], 1e-9)
        forward, mixing = self._forward / whole, self._mixing / whole
        scoring = self.seconds["scoring"] / whole
        # Scoring overlaps with the forward passes of other particles, so the rest is not simply the difference.
        scoring = min(scoring, max(0.0, 1.0 - forward - mixing))
        return schema.TimeShare(
            forward=forward, mixing=mixing, scoring=scoring, other=max(0.0, 1.0 - forward - mixing - scoring)
        )

    async def _winner(self) -> tuple[finalists.Finalist, Row]:
        """Which of the finalists wins, and its row."""
        prepared, swarm, best = self.prepared, self.prepared.settings.swarm, self.optimiser.best[0]
        rows: dict[finalists.Finalist, Row] = {"best": best}
        found = [
            finalists.Found(np.array(brief.row), brief.objective)
            for brief in self.evaluated.values()
            if brief.objective is not None
        ]
        if swarm.winner == "centre":
            rows = {"centre": finalists.centre(found, swarm.elite), **rows}
        if prepared.confirm is not None:
            rows["best_initial"] = max(self.prepared.unit_rows, key=self._objective_on_dev)
            unseen = with_companions(prepared.confirm, self.objective)
            chosen = await finalists.confirm(rows, partial(self._finalist, unseen, "confirm"))
        elif swarm.winner == "centre":
            evaluate = partial(self._finalist, self.task, "dev")
            chosen = await finalists.choose(rows["centre"], best, evaluate, prepared.task.combine)
        else:
            chosen = "best"
        return chosen, rows[chosen]

    async def _confirmed(self, finalist: finalists.Finalist) -> schema.Measured | None:
        """The winner's metric on dev items that no search has seen."""
        held, kept = self.prepared.confirm, self.store.evaluation(f"confirm_{finalist}", self.prepared.task.combine)
        if held is None or kept is None:
            return None
        return schema.Measured(value=kept.value, se=kept.se, n=kept.n, unscored=kept.n_unscored, problem=kept.problem)

    def _optimism(self) -> float | None:
        if self.prepared.confirm is not None:  # what was confirmed needs no correction
            return None
        swarm = self.prepared.settings.swarm
        elite = swarm.elite if swarm.winner == "centre" else 1
        return finalists.optimism(self.store, self._objective_of, self.prepared.task.combine, elite)

    async def _finalist(self, task: Task, record: str, name: finalists.Finalist, row: Row) -> Evaluation:
        return self._objective_of(await self._recorded(f"{record}_{name}", name, row, task, "dev"))

    def _objective_on_dev(self, row: Row) -> float:
        value = self._known(row).objective
        return -np.inf if value is None else value

    async def _finish(self, reason: str) -> schema.Result:
        task, pool, settings = self.prepared.task, self.prepared.pool, self.prepared.settings
        finalist, winner = await self._winner()
        time_share = self._time_share()  # before the test adds its own forward passes
        experts = self.prepared.unit_rows
        wanted: list[tuple[str, Literal["base", "expert", "winner"], Row | None]] = [
            (BASE, "base", None),
            *((name, "expert", experts[j]) for j, name in enumerate(pool.names)),
            ("winner", "winner", winner),
        ]
        records = [f"expert_{name}" if kind == "expert" else kind for name, kind, _ in wanted]
        dev: dict[str, Brief] = {}
        test: dict[str, Evaluation] = {}
        for done, (record, (name, _, row)) in enumerate(zip(records, wanted, strict=True)):
            self.bus(Testing(name=name, done=done, total=len(wanted), answered=self._tested))
            known = NOTHING if row is None else self._known(row)
            dev[record] = known if known is not NOTHING else Brief.of(await self._once(record, row, "dev"))
            test[record] = await self._once(record, row, "test")
        initial = {name: dev[f"expert_{name}"].value for name in pool.names}
        best_initial = max(initial, key=lambda name: -np.inf if (value := initial[name]) is None else value)
        beside = {r: await self._beside(r, test[r]) for r in ("base", f"expert_{best_initial}", "winner")}
        self._tell_cost()
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
                beside=beside.get(record, {}),
            )
            for record, (name, kind, _) in zip(records, wanted, strict=True)
        ]
        whole = test["winner"]
        result = schema.Result(
            task=task.name,
            task_given=settings.task,
            edition=task.edition,
            seed=settings.seed,
            engine=self.engine.name,
            model=settings.base_model,
            iterations=self.optimiser.snapshot.iteration,
            stopped=reason,
            optimiser=settings.swarm.optimiser,
            objective=self.objective,
            evaluations=self.evaluations,
            item_evaluations=self.items,
            items_saved=0.0 if self.thrift is None else self.thrift.spending.saved,
            seconds=self.seconds["total"] + time.perf_counter() - self._began,
            time_share=time_share,
            experts=pool.names,
            best_initial=best_initial,
            winner=schema.Winner(
                finalist=finalist,
                coefficients=self.prepared.coefficients(winner),
                groups=self.prepared.group_coefficients(winner),
                dev=dev["winner"].value,
                optimism=self._optimism(),
                confirmed=await self._confirmed(finalist),
                test=whole.value,
                test_se=whole.se,
                adapter=str(self.store.folder / "best"),
                problem=_null_reason(dev["winner"], whole),
            ),
            rows=rows,
            difference={
                "winner_minus_best_initial": self._difference(whole, test[f"expert_{best_initial}"]),
                "winner_minus_base": self._difference(whole, test["base"]),
            },
            noise=await self._noise(winner, experts[pool.names.index(best_initial)]),
            overlap={name: len(s.overlap) for name, s in task.item_sets.items()},
            judging=self._judging(),
            watched=self._watched(),
            run=str(self.store.folder),
        )
        import torch

        with self.store.replacing("best") as folder:
            pool.write(torch.from_numpy(self.prepared.expert_row(winner)), folder)
            (folder / "README.md").write_text(model_card(result, self.prepared), encoding="utf-8")
        self.store.save_result(result.model_dump_json(indent=2) + "\n")
        for name, s in task.item_sets.items():
            if s.overlap:
                self.bus(Note(text=overlap_note(name, len(s.overlap), len(s.test))))
        self.bus(Finished(reason=reason, seconds=result.seconds))
        return result

    def _difference(self, a: Evaluation, b: Evaluation) -> schema.Difference:
        if a.problem or b.problem:
            return schema.Difference(value=None, low=None, high=None, problem=a.problem or b.problem)
        found = paired_difference(a, b, self.prepared.task.combine)
        if found is None:
            return schema.Difference(value=None, low=None, high=None, problem="too few items were scored by both")
        return schema.Difference(value=found.value, low=found.low, high=found.high)


def overlap_note(item_set: str, overlapping: int, test: int) -> str:
    """What a person should know of an item set whose test split repeats its dev split."""
    return (
        f"{item_set}: {overlapping} of {test} test items stand in dev too, so its test value is partly a dev value;"
        " --drop-overlap removes them"
    )


def problem(evaluation: Evaluation) -> str:
    """Why an evaluation has no value, with the reason that most of its unscored items give."""
    outcomes = [result.outcome for leaf in evaluation.leaves.values() for result in leaf.results]
    told = Counter(f"{o.reason.value}: {o.detail}" for o in outcomes if isinstance(o, Unscored)).most_common(1)
    return f"{evaluation.problem}" + (f" ({told[0][0]})" if told else "")


def _judge_was_away(evaluation: Evaluation) -> bool:
    """Whether so many replies never came that this alone leaves the evaluation without a value."""
    outcomes = [result.outcome for leaf in evaluation.leaves.values() for result in leaf.results]
    lost = sum(isinstance(outcome, Unscored) and outcome.reason is Reason.TRANSPORT for outcome in outcomes)
    return evaluation.value is None and lost > UNSCORED_LIMIT * len(outcomes)


def _null_reason(dev: Brief, test: Evaluation) -> str | None:
    """Why a number of a row of the final table is null; None where none is."""
    if test.problem or dev.value is None:
        return test.problem or "not comparable on dev"
    return "too few items for a standard error" if test.se is None or dev.se is None else None


def _key(row: Row) -> str:
    return sha256(row_key(row)).hexdigest()[:16]


def _or_none(values: Sequence[float] | NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
