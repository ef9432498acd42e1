"""The end of a run: who wins, the test, which is read once, and the result."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.run import winner as finalists
from harness.run.model_card import model_card
from harness.run_folder import result as schema
from harness.run_folder.events import Finished, Note, Testing, Watched
from harness.session.brief import NOTHING, Brief
from harness.session.session import BASE
from harness.swarm.drivers import row_key
from harness.swarm.update import Row
from utilities.core import UNSCORED_LIMIT, Evaluation, Reason, Split, Unscored
from utilities.objective import with_smooth_scores
from utilities.statistics import paired_difference

if TYPE_CHECKING:
    from harness.run.adapt import Adaptation
    from utilities.tasks import Task

__all__ = ["Ending", "judge_was_away", "overlap_note", "problem"]


class Ending:
    """What is left to do when a search is over, or what an interrupted run left of it."""

    def __init__(self, run: Adaptation) -> None:
        self.run = run
        self.prepared, self.store, self.bus, self.engine = run.prepared, run.store, run.bus, run.engine
        self._tested = 0  # items answered for the final table
        self._on_dev: dict[bytes, Brief] = {}  # finalists that the search had not looked at

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
        self.run.stop_without_budget()
        if self.prepared.judges and judge_was_away(evaluation):
            self.run.stop_without_judge(evaluation)
        self.store.save_records(record, [(name, evaluation)])
        return evaluation

    async def _beside(self, record: str, evaluation: Evaluation) -> dict[str, schema.Measured]:
        """What is measured beside the value, on the test responses of a row of the final table."""
        task, told = self.prepared.task, {}
        for name, one in task.report_only.items():
            kept = self.store.records(f"beside_{name}_{record}")
            if kept is not None:
                found = Evaluation.of(next(iter(kept.values())))
            else:
                found = await one(task.item_sets[one.of].test, evaluation.leaf(one.of))
                self.run.stop_without_budget()
                if self.prepared.judges and judge_was_away(found):
                    self.run.stop_without_judge(found)
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

    async def _winner(self) -> tuple[finalists.Finalist, Row]:
        """Which of the finalists wins, and its row."""
        prepared, swarm, best = self.prepared, self.prepared.settings.swarm, self.run.optimiser.best[0]
        rows: dict[finalists.Finalist, Row] = {"best": best}
        found = [
            finalists.Found(np.array(brief.row), brief.objective)
            for brief in self.run.evaluated.values()
            if brief.objective is not None
        ]
        if swarm.winner == "top-k-mean":
            rows = {"top-k-mean": finalists.mean_of_top_k(found, swarm.top_k), **rows}
        if prepared.validation_set is not None:
            rows["best_initial"] = max(self.prepared.unit_rows, key=self._objective_on_dev)
            unseen = with_smooth_scores(prepared.validation_set, self.run.objective)
            chosen = await finalists.confirm(rows, partial(self._finalist, unseen, "confirm"))
        elif swarm.winner == "top-k-mean":
            evaluate = partial(self._finalist, self.run.task, "dev")
            chosen = await finalists.choose(rows["top-k-mean"], best, evaluate, prepared.task.combine)
        else:
            chosen = "best"
        return chosen, rows[chosen]

    async def _confirmed(self, finalist: finalists.Finalist) -> schema.Measured | None:
        """The winner's metric on dev items that no search has seen."""
        held, kept = (
            self.prepared.validation_set,
            self.store.evaluation(f"confirm_{finalist}", self.prepared.task.combine),
        )
        if held is None or kept is None:
            return None
        return schema.Measured(value=kept.value, se=kept.se, n=kept.n, unscored=kept.n_unscored, problem=kept.problem)

    def _optimism(self) -> float | None:
        if self.prepared.validation_set is not None:  # what was confirmed needs no correction
            return None
        swarm = self.prepared.settings.swarm
        top_k = swarm.top_k if swarm.winner == "top-k-mean" else 1
        return finalists.optimism(self.store, self.run.objective_of, self.prepared.task.combine, top_k)

    async def _finalist(self, task: Task, record: str, name: finalists.Finalist, row: Row) -> Evaluation:
        evaluation = await self._recorded(f"{record}_{name}", name, row, task, "dev")
        if task is self.run.task:
            self._on_dev[row_key(row)] = Brief.of(evaluation)
        return self.run.objective_of(evaluation)

    def _known(self, row: Row) -> Brief | None:
        found = self.run.known(row)
        return self._on_dev.get(row_key(row)) if found is NOTHING else found

    def _objective_on_dev(self, row: Row) -> float:
        value = self.run.known(row).objective
        return -np.inf if value is None else value

    async def finish(self, reason: str) -> schema.Result:
        """Writes the winner and the result.

        Args:
            reason: Why the search ended.
        """
        task, pool, settings = self.prepared.task, self.prepared.pool, self.prepared.settings
        time_share = self.run.time_share()  # before finalists and test add their own forward passes
        finalist, winner = await self._winner()
        if self.run.guard is not None and finalist != "best":
            after = self.run.optimiser.snapshot.iteration + 1
            await self.run.guard.look_at_winner(after, winner, await self._once("winner", winner, "dev"))
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
            known = None if row is None else self._known(row)
            dev[record] = known or Brief.of(await self._once(record, row, "dev"))
            test[record] = await self._once(record, row, "test")
        initial = {name: dev[f"expert_{name}"].value for name in pool.names}
        best_initial = max(initial, key=lambda name: -np.inf if (value := initial[name]) is None else value)
        beside = {r: await self._beside(r, test[r]) for r in ("base", f"expert_{best_initial}", "winner")}
        self.run.tell_cost()
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
            iterations=self.run.optimiser.snapshot.iteration,
            stopped=reason,
            optimiser=settings.swarm.optimiser,
            objective=self.run.objective,
            evaluations=self.run.evaluations,
            item_evaluations=self.run.items,
            seconds=self.run.seconds_so_far,
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


def judge_was_away(evaluation: Evaluation) -> bool:
    """Whether so many replies never came that this alone leaves the evaluation without a value."""
    outcomes = [result.outcome for leaf in evaluation.leaves.values() for result in leaf.results]
    lost = sum(isinstance(outcome, Unscored) and outcome.reason is Reason.TRANSPORT for outcome in outcomes)
    return evaluation.value is None and lost > UNSCORED_LIMIT * len(outcomes)


def _null_reason(dev: Brief, test: Evaluation) -> str | None:
    """Why a number of a row of the final table is null; None where none is."""
    if test.problem or dev.value is None:
        return test.problem or "not comparable on dev"
    return "too few items for a standard error" if test.se is None or dev.se is None else None
