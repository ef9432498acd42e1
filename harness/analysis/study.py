"""Runs the searches that the paper's analyses need, and what they need on test; an interrupted study is resumed.

For each task and seed the full published search is an ordinary run folder in `OUT/runs`. The variants are searches on
the same engine, which share cached evaluations with it; their test answers are in `OUT/records`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.claims import Answers, diamond, emergence
from harness.analysis.contrasts import BEST_EXPERT, Cell, study_claims
from harness.analysis.emergence import AFTER, RANDOM
from harness.analysis.result import Analysed
from harness.analysis.stored import particles_of
from harness.analysis.stored_analysis import finish
from harness.analysis.variants import FULL, SEARCHES, Found, Reversed, Variant, started, variants
from harness.compare.budgeted_search import budgeted_search
from harness.engines.base import Engine
from harness.run.adapt import adapt_async
from harness.run.interactive import KeptEngine
from harness.run_folder.events import Bus
from harness.run_folder.read import BASE, Run, open_run
from harness.run_folder.store import Store
from harness.session.evaluator import EvaluationSummary, Evaluator, StopRules
from harness.session.provenance import changed_settings, changed_tasks, open_folder, provenance
from harness.session.session import Session, open_session
from harness.session.settings import RunSettings
from harness.swarm.drivers import Budgeted, History
from harness.swarm.particle_swarm import ParticleSwarm
from harness.swarm.update import Rows
from harness.trackers.base import Trackers
from utilities.core import Evaluation, Split
from utilities.errors import UserError
from utilities.sync import run_sync

__all__ = ["ANALYSES", "Study"]

ANALYSES = ("emergence", "diamond", "trajectory", *SEARCHES, "transfer")
"""Everything that `analyse --all` does."""


class Study:
    """Analyses on several tasks and seeds.

    Args:
        settings: Settings of each task, of the published search; the seeds begin with the first one's.
        only: Names of analyses.
        seeds: Searches of each kind.
        folder: A new folder, or that of the study to resume; it may then have other analyses.
        note: Called with each line of progress.
        track: Trackers that receive the events.

    Raises:
        UserError: Invalid settings, or a folder of another study.
    """

    def __init__(
        self,
        settings: Sequence[RunSettings],
        only: Sequence[str],
        seeds: int,
        folder: Path,
        note: Callable[[str], None],
        track: Sequence[str] = (),
    ) -> None:
        self.settings = [one.anywhere() for one in settings]
        self.only, self.folder, self.note, self.track = only, folder, note, track
        self.seeds = [settings[0].seed + k for k in range(seeds)]
        self.cells: dict[tuple[int, int], Cell] = {}
        self.runs: dict[tuple[int, int], Run] = {}
        self.answers: dict[Split, dict[str, Answers]] = {"dev": {}, "test": {}}
        self.store: Store
        self.checkpoint: dict[str, Any] = {}

    def run(self) -> Analysed:
        """Does the remaining work, and writes analyse.json and the figures.

        Raises:
            UserError: A judged task, or a search that cannot be run.
        """
        documents = {}
        for one in self.settings:
            session = open_session(one, ask=False)
            session.close()
            if session.task.judged:
                raise UserError(f"{session.task.name} is rated by a judge; analyse takes tasks scored without one")
            for text in session.notes:
                self.note(f"note: {text}")
            documents[session.task.name] = {"settings": one.model_dump(mode="json"), **provenance(session)}
        document = {"analyse": {"seeds": self.seeds}, "tasks": documents}
        self.store = open_folder(self.folder, "analyse", document, _changes)
        try:
            self.checkpoint = self.store.checkpoint() or {}
            with Trackers(self.track, self.store, self.note):
                for step in (self._searches, self._variants):  # transfer needs the winners of all tasks
                    for number, settings in enumerate(self.settings):
                        session = open_session(settings)
                        try:
                            run_sync(self._on_engine(number, session, step))
                        finally:
                            session.close()
            return self._analysed()
        finally:
            self.store.close()

    async def _on_engine(self, number: int, session: Session, step: Callable[..., Any]) -> None:
        saved = self.checkpoint.setdefault(session.task.name, {})
        engine = session.engine(saved.get("engine"))
        try:
            saved["engine"] = engine.state()
            self.store.save_items(session.task, session.monitor_set, session.validation_set)
            rules = StopRules(session.task.name, session.panel, "retry with the same command")
            evaluator = Evaluator(session, engine, self.store, rules, (), saved, self._save)
            for seed in self.seeds:
                await step(number, seed, evaluator)
        finally:
            engine.close()

    def _save(self) -> None:
        self.store.save_checkpoint(self.checkpoint)

    # -- the full searches ---------------------------------------------------------------------------------------------

    async def _searches(self, number: int, seed: int, evaluator: Evaluator) -> None:
        session = evaluator.session
        folder = self.folder / "runs" / f"{session.task.name}-seed{seed}"
        if not (folder / "result.json").is_file():
            await _full_search(session, evaluator.engine, seed, folder)
            self.note(f"{session.task.name} seed {seed}: full search done")
        run = self.runs[number, seed] = open_run(folder)
        if "emergence" in self.only:
            final = particles_of(run).final
            mixed = np.random.default_rng([seed, 2]).dirichlet(np.ones(len(session.columns)), len(final))
            name = f"{session.task.name}-seed{seed}"
            found: dict[Split, dict[str, Sequence[Evaluation]]] = {"dev": {}, "test": {}}
            found["test"][AFTER] = await _recorded(evaluator, f"{name}-particles-test", final, "test")
            for split in found:
                found[split][RANDOM] = await _recorded(evaluator, f"{name}-random-{split}", mixed, split)
                self.answers[split][str(folder)] = found[split]

    # -- the variants --------------------------------------------------------------------------------------------------

    async def _variants(self, number: int, seed: int, evaluator: Evaluator) -> None:
        run, session = self.runs[number, seed], evaluator.session
        result = run.result
        assert result is not None  # noqa: S101 - its search is finished
        models = run.models("test")
        cell = self.cells[number, seed] = Cell(session.task.name, session.task.combine)
        cell.test = {FULL: models["winner"], BASE: models[BASE], BEST_EXPERT: models[result.best_initial]}
        cell.evaluations[FULL] = result.evaluations

        def publish(name: str) -> None:
            step = cell.evaluations.get(name, 0)
            evaluator.publish(step, {f"test/{session.task.name}-seed{seed}-{name}": cell.test[name].value})

        for name in cell.test:
            publish(name)
        stored = (Store(run.folder).checkpoint() or {})["evaluated"]
        evaluator.cached |= {key: EvaluationSummary.read(one) for key, one in stored.items()}
        dev = {row.name: row.dev for row in result.rows}
        ranked = sorted(range(len(result.experts)), key=lambda k: -(dev[result.experts[k]] or 0.0))
        found: dict[str, Found] = {}
        for variant in variants(self.only, ranked, session.settings.swarm):
            name = f"{session.task.name}-seed{seed}-{variant.analysis}-{variant.name}".replace(" ", "-")
            one = found[variant.name] = await self._find(evaluator, variant, name, seed, found)
            cell.evaluations[variant.name] = one.evaluations
            cell.test[variant.name] = await evaluator.recorded(f"{name}-test", variant.name, one.row, "test")
            publish(variant.name)
        for (other, of), source in self.runs.items() if "transfer" in self.only else ():
            winner = source.winner.coefficients
            if other != number and of == seed and list(winner) == session.pool.names:
                label = f"winner of {source.folder.name}"
                record = f"{session.task.name}-seed{seed}-{label}-test".replace(" ", "-")
                row = np.array(list(winner.values()))
                cell.test[label] = await evaluator.recorded(record, label, row, "test")
                publish(label)

    async def _find(
        self, evaluator: Evaluator, variant: Variant, name: str, seed: int, found: Mapping[str, Found]
    ) -> Found:
        """What a variant finds, or found in an earlier part of the study."""
        done = evaluator.checkpoint.setdefault("found", {})
        if name not in done:
            swarm = evaluator.session.settings.swarm.model_copy(update=dict(variant.changes))
            rng = np.random.default_rng([seed, *name.encode()])
            start = variant.start and variant.start(found, rng)
            inner: ParticleSwarm

            def make(history: History | None) -> Budgeted:
                nonlocal inner
                inner = started(len(evaluator.experts), swarm, seed, start)
                strategy = Reversed(inner) if variant.reverse else inner
                return Budgeted(strategy, swarm.particles * (swarm.iterations + 1), state=history)

            optimiser, _ = await budgeted_search(evaluator, name, make)
            rows = inner.snapshot.rows
            done[name] = [inner.best[0].tolist(), rows.tolist(), optimiser.evaluations]
            self._save()
            self.note(f"{name}: {optimiser.evaluations} evaluations")
        row, rows, evaluations = done[name]
        return Found(np.array(row), np.array(rows), evaluations)

    # -- the result ----------------------------------------------------------------------------------------------------

    def _analysed(self) -> Analysed:
        runs = list(self.runs.values())
        splits: tuple[Split, ...] = ("dev", "test") if "emergence" in self.only else ()
        claims = [emergence(runs, split, self.answers[split]) for split in splits]
        claims += [diamond(runs)] if "diamond" in self.only else []
        claims += study_claims(list(self.cells.values()), self.only)
        return finish(runs, claims, self.folder, self.note, "trajectory" in self.only)


async def _full_search(session: Session, engine: Engine, seed: int, folder: Path) -> None:
    """Runs the published search in a run folder, or what an interrupted one left."""
    settings = session.settings.model_copy(update={"seed": seed})
    own = replace(session, settings=settings, starting=_ready(engine))
    if (folder / "settings.yaml").is_file():
        store = Store.open(folder)
    else:
        store = Store.create(folder, {"settings": settings.model_dump(mode="json"), **provenance(own)})
    bus = Bus()
    bus.subscribe(store.log)
    try:
        await adapt_async(own, store, bus)
    finally:
        store.close()


def _ready(engine: Engine) -> Future[Engine]:
    future: Future[Engine] = Future()
    future.set_result(KeptEngine(engine))
    return future


async def _recorded(evaluator: Evaluator, record: str, rows: Rows, split: Split) -> list[Evaluation]:
    """Evaluations of rows whose answers are kept in one file; read from it if it exists."""
    stored = evaluator.store.evaluations(record, evaluator.task.combine)
    if not stored:
        evaluations = await evaluator.rules.gather(*(evaluator.task(evaluator.model(row), split) for row in rows))
        evaluator.rules.check_judge(evaluations)
        stored = {str(k): one for k, one in enumerate(evaluations)}
        evaluator.store.save_records(record, list(stored.items()))
    return list(stored.values())


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Differences between two documents, as messages."""
    yield from changed_settings(then["analyse"], now["analyse"])
    yield from changed_tasks(then["tasks"], now["tasks"])
