"""Runs methods x tasks x seeds, with the same engine, items and budget for every method.

A comparison is a folder. Existing adapters and outcomes are reused and an interrupted search is resumed, so the same
command resumes an interrupted comparison.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from harness.baselines.merging.registry import Space
from harness.baselines.training_texts import Pair, embedded_training_texts, read_training_texts
from harness.compare.adapters import MergedAdapter, made_before, make, merged_data_adapter
from harness.compare.line_search import SCALES, best_of
from harness.compare.method import MergeRequest, MethodContext, MethodResult, methods, reason_not_applicable
from harness.compare.requirements import TaskInputs
from harness.compare.result import Absent, Compared, Measured, Outcome
from harness.compare.statistics import planned, ranking, versus
from harness.experts.adapter import Adapter, read_adapter
from harness.experts.files import CONFIG
from harness.experts.pool import Pool, expert_folders, open_pool
from harness.run_folder.store import Store, write_atomically
from harness.session.evaluator import Cost, Evaluator, ModelRow, ScaledAdapter, StoppedError, StopRules, measured
from harness.session.provenance import changed_settings, changed_tasks, open_folder, provenance
from harness.session.session import Session, open_session
from harness.session.settings import EMBEDDED, RunSettings
from harness.trackers.base import Trackers
from utilities.core import Evaluation
from utilities.errors import UserError
from utilities.sync import run_sync

__all__ = ["Comparison", "CompareOptions", "compare"]

Watch = Callable[[Compared], None]
"""Receives the results so far after each change."""
Note = Callable[[str], None]
"""Shows a sentence that the user should read before the start."""


@dataclass(frozen=True)
class CompareOptions:
    """Options of a comparison, besides the settings of each task."""

    methods: tuple[str, ...]
    seeds: int
    """Number of seeds, starting from the settings' seed."""
    budget: int
    """Number of full dev evaluations of a search."""
    space: Space = "factors"
    """The space in which adapters are merged."""
    training_data: Path | None = None
    contrasts: tuple[tuple[str, str], ...] = ()
    """Planned comparisons: method and reference."""

    def __post_init__(self) -> None:
        if missing := [name for pair in self.contrasts for name in pair if name not in self.methods]:
            raise UserError(f"--contrasts: {missing[0]!r} is not among --methods {', '.join(self.methods)}")


def compare(
    settings: Sequence[RunSettings],
    options: CompareOptions,
    folder: Path,
    watch: Watch = lambda compared: None,
    note: Note = lambda text: None,
    track: Sequence[str] = (),
) -> Compared:
    """Runs or resumes a comparison, and writes compare.json, .csv and .png.

    Args:
        settings: Settings of each task; they differ only in the task and its recommended settings.
        options: Methods, seeds, budget.
        folder: A new folder, or the folder of the comparison to resume.
        watch: Called after every outcome.
        note: Called with each note of the sessions before the start.
        track: Trackers that receive the events.

    Raises:
        UserError: Invalid settings, or a folder of another comparison.
    """
    settings = [one.anywhere() for one in settings]
    if options.space == "delta":
        settings = [_at_one_rank(one, folder.with_name(f"{folder.name}-experts")) for one in settings]
    sessions: list[Session] = []
    try:
        sessions += (open_session(one) for one in settings)
        names = [one.task.name for one in sessions]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"task {doubled!r} is named twice")
        training = _training(sessions[0], options)
        store = open_folder(folder, "compare", _document(sessions, options), _differences)
        try:
            for number, one in enumerate(sessions, 1):
                store.save_items(one.task, one.monitor_set, one.validation_set)
                if one.judges is not None:
                    one.judges.record_in(store.folder, f"judge_spending_{number:02d}")
            for text in dict.fromkeys(text for one in sessions for text in one.notes):
                note(text)
            with Trackers(track, store, note):
                return Comparison(sessions, training, options, store, watch).run()
        finally:
            for text in dict.fromkeys(text for one in sessions for text in one.take_notes()):
                note(text)
            store.close()
    finally:
        for one in sessions:
            one.close()


def _at_one_rank(settings: RunSettings, folder: Path) -> RunSettings:
    """The settings with experts of equal rank: if ranks differ, experts are copied and padded to the largest rank.

    Padding with zeros does not change an expert. Searches mix these A and B matrices; merges use the products BA.

    Args:
        settings: Settings of one task.
        folder: Folder for the copies, next to the comparison's folder.
    """
    sources = expert_folders(settings.expert_specs)
    if any(not (source / CONFIG).exists() for source in sources):
        return settings
    adapters = [read_adapter(source) for source in sources]
    rank = max(adapter.rank for adapter in adapters)
    if all(len(A) == rank for adapter in adapters for A, _ in adapter.factors.values()):
        return settings
    folder.mkdir(parents=True, exist_ok=True)
    copies = Store(folder)
    for adapter in adapters:
        if not (folder / adapter.name).exists():
            with copies.replacing(adapter.name) as new:
                adapter.padded(rank).write(new)
    return settings.model_copy(update={"experts": tuple(str((folder / a.name).resolve()) for a in adapters)})


def _training(session: Session, options: CompareOptions) -> Mapping[str, Sequence[Pair]] | None:
    """Training texts of the experts; the bundled ones are only generated if a method uses them."""
    if options.training_data is not None:
        return read_training_texts(options.training_data, session.pool.names)
    settings = session.settings
    embedded = settings.base_model == EMBEDDED and not settings.experts
    if embedded and {"cbtm", "data_merge"} & set(options.methods):
        return embedded_training_texts(session.pool.names)
    return None


# -- the folder --------------------------------------------------------------------------------------------------------


def _document(sessions: Sequence[Session], options: CompareOptions) -> dict[str, Any]:
    """Content of settings.yaml, which must not change when a comparison is resumed."""
    compare_options = {**asdict(options), "methods": list(options.methods)}
    compare_options["contrasts"] = [":".join(pair) for pair in options.contrasts]
    compare_options["training_data"] = options.training_data and str(options.training_data.resolve())
    tasks = {one.task.name: {"settings": one.settings.model_dump(mode="json"), **provenance(one)} for one in sessions}
    return {"compare": compare_options, "tasks": tasks}


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Differences between two documents, as messages."""
    yield from changed_settings(then["compare"], now["compare"])
    yield from changed_tasks(then["tasks"], now["tasks"])


# -- the comparison ----------------------------------------------------------------------------------------------------


class Comparison:
    """One comparison in progress."""

    def __init__(
        self,
        sessions: Sequence[Session],
        training: Mapping[str, Sequence[Pair]] | None,
        options: CompareOptions,
        store: Store,
        watch: Watch,
    ) -> None:
        first = sessions[0].settings
        there = (
            not first.experts and merged_data_adapter(first.base_model) is not None and options.training_data is None
        )
        self.cases = [TaskInputs(one, training, there) for one in sessions]
        self.options, self.store, self.watch = options, store, watch
        self.seeds = [first.seed + k for k in range(options.seeds)]
        self.folder = store.folder
        for name in ("adapters", "outcomes"):
            (self.folder / name).mkdir(exist_ok=True)
        self.adapters = Store(self.folder / "adapters")
        self.checkpoint: dict[str, Any] = store.checkpoint() or {"tasks": {}, "seconds": 0.0}
        self.outcomes: list[Outcome] = []
        self.absent: list[Absent] = []
        self._tests: dict[tuple[str, str, int | None], Evaluation] = {}
        self._began = time.perf_counter()

    def run(self) -> Compared:
        """Does the remaining work."""
        for case in self.cases:
            self._run_task(case)
        return self._finish()

    def _run_task(self, case: TaskInputs) -> None:
        task = case.session.task.name
        reasons = {method: reason_not_applicable(method, case) for method in self.options.methods}
        self.absent += [Absent(method=m, task=task, reason=reason) for m, reason in reasons.items() if reason]
        trials = [(m, s) for m, reason in reasons.items() if not reason for s in self._seeds(m)]
        missing = []
        for method, seed in trials:
            if not self._load(case, method, seed):
                missing.append((method, seed))
        self._report()
        if not missing and task in self.checkpoint.get("noise_floor", {}):
            return
        made = self._make(case, trials)
        with self._evaluator(case, made) as evaluator:
            run_sync(self._measure(case, evaluator, made, missing))

    def _seeds(self, method: str) -> Sequence[int | None]:
        return self.seeds if methods.get(method).seeded else [None]

    # -- before the engine: adapters ---------------------------------------------------------------------------------

    def _make(self, case: TaskInputs, trials: Sequence[tuple[str, int | None]]) -> dict[str, MergedAdapter]:
        """The adapters of all methods that create one, including finished methods: rounding may depend on the number of
        columns, and a resumed comparison must give the same results as an uninterrupted one."""

        @cache
        def experts() -> list[Adapter]:
            return [read_adapter(expert.folder) for expert in case.session.pool.experts]

        made: dict[str, MergedAdapter] = {}
        for method, seed in trials:
            kind = methods.get(method)
            if kind.make is None:
                continue
            name = _adapter_name(case, method, seed)
            before = made_before(self.folder / "adapters" / name)
            request = MergeRequest(case, experts, self.options.space, seed or 0)
            with self._failing(case, method, seed):
                made[name] = before or make(kind.make, name, request, self.adapters, kind.scaled)
        return made

    @contextmanager
    def _failing(self, case: TaskInputs, method: str, seed: int | None) -> Iterator[None]:
        """Records a failing method as absent, with the reason, and continues; the next run tries it again.

        A full disk, a spent budget or an unreachable judge stops the comparison, which can be resumed.
        """
        try:
            yield
        except (OSError, StoppedError):
            raise
        except Exception as error:
            message = str(error) if isinstance(error, UserError) else f"failed: {type(error).__name__}: {error}"
            reason = message if seed is None else f"seed {seed}: {message}"
            self.absent.append(Absent(method=method, task=case.session.task.name, reason=reason))
            self._report()

    @contextmanager
    def _evaluator(self, case: TaskInputs, made: Mapping[str, MergedAdapter]) -> Iterator[Evaluator]:
        """An evaluator whose engine has the experts and all adapters in its pool, zero-padded to equal rank."""
        session, task = case.session, case.session.task.name
        pool, folder = session.pool, self.folder / "pool"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            if made:
                pool = _padded_pool(session, [one.folder for one in made.values()], folder)
            saved = self.checkpoint["tasks"].setdefault(task, {})
            engine = replace(session, pool=pool).engine(saved.get("engine"))
            saved["engine"], self.checkpoint["engine"] = engine.state(), engine.name
            try:
                rules = StopRules(task, session.panel, "retry with the same command")
                yield Evaluator(session, engine, self.store, rules, list(made), saved, self._save)
                saved["engine"] = engine.state()
            finally:
                engine.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # -- on the engine -----------------------------------------------------------------------------------------------

    async def _measure(
        self,
        case: TaskInputs,
        evaluator: Evaluator,
        made: Mapping[str, MergedAdapter],
        missing: Sequence[tuple[str, int | None]],
    ) -> None:
        task = evaluator.task.name
        floors = self.checkpoint.setdefault("noise_floor", {})
        if task not in floors:
            floors[task] = await _noise_floor(evaluator)
            self._save()
        for method, seed in missing:
            if methods.get(method).make and _adapter_name(case, method, seed) not in made:
                continue  # its creation failed
            with self._failing(case, method, seed):
                outcome, test = await self._outcome(case, evaluator, made, method, seed)
                path = self.folder / "outcomes" / f"{_name(task, method, seed)}.json"
                write_atomically(path, outcome.model_dump_json(indent=2) + "\n")
                self._add(outcome, test)
                values = {"dev": outcome.dev.value, "test": outcome.test.value, "evaluations": outcome.evaluations}
                evaluator.publish(
                    len(self.outcomes), {f"{kind}/{_name(task, method, seed)}": one for kind, one in values.items()}
                )
                self._report()

    async def _outcome(
        self, case: TaskInputs, evaluator: Evaluator, made: Mapping[str, MergedAdapter], method: str, seed: int | None
    ) -> tuple[Outcome, Evaluation]:
        """Runs one method: selection on dev, dev value, test value."""
        task, session = evaluator.task, evaluator.session
        name = _name(task.name, method, seed)
        model: ModelRow | None = None  # None is the base model
        adapter = None
        if methods.get(method).make:
            one = made[_adapter_name(case, method, seed)]
            chosen = MethodResult(Cost(seconds=one.seconds), note=one.note)
            model, adapter = ScaledAdapter(one.folder.name), one.folder
            if methods.get(method).scaled:
                factors = [scale * one.unit for scale in SCALES]
                best, cost = await best_of(evaluator, [ScaledAdapter(one.folder.name, factor) for factor in factors])
                note = f"{SCALES[best]:g} times the norm of an expert, chosen on dev of {len(SCALES)} scales"
                chosen = MethodResult(chosen.cost + cost, note="; ".join(filter(None, (note, one.note))))
                model, adapter = ScaledAdapter(one.folder.name, factors[best]), self.folder / "adapters" / name
                with self.adapters.replacing(name) as folder:
                    read_adapter(one.folder).scaled(factors[best]).write(folder)
        elif run := methods.get(method).run:
            chosen = await run(MethodContext(evaluator, case, self.options.budget, seed or 0, name))
            model = chosen.row
        else:
            chosen = MethodResult()
        cost = chosen.cost
        if chosen.answer is not None:
            start = time.perf_counter()
            (answered,) = await evaluator.rules.gather(chosen.answer("dev"))
            dev = measured(answered)
            cost += Cost(seconds=time.perf_counter() - start)
            record = f"{name}-test"
            test = self.store.evaluation(record, task.combine)
            if test is None:
                (test,) = await evaluator.rules.gather(chosen.answer("test"))
                evaluator.rules.check_judge([test])
                self.store.save_records(record, [(method, test)])
        else:
            dev = await _dev(evaluator, model)
            own = f"expert-{chosen.expert}" if chosen.expert else name.removeprefix(f"{task.name}-")
            record = evaluator.record_name(own, "test")
            test = await evaluator.recorded(record, own, model, "test")
        if chosen.expert is not None:
            adapter = next(expert.folder for expert in session.pool.experts if expert.name == chosen.expert)
        elif chosen.row is not None and session.pool.kind == "lora":  # full models would fill the disk
            with self.adapters.replacing(name) as folder:
                session.pool.write(torch.from_numpy(session.expert_row(chosen.row)), folder)
            adapter = self.folder / "adapters" / name
        outcome = Outcome(
            method=method,
            task=task.name,
            seed=seed,
            dev=dev,
            test=measured(test),
            **asdict(cost),
            coefficients=None if chosen.row is None else evaluator.coefficients(chosen.row),
            adapter=None if adapter is None else Path(os.path.relpath(adapter, self.folder)).as_posix(),
            records=f"records/{record}.parquet",
            note=chosen.note,
        )
        return outcome, test

    # -- stored outcomes ---------------------------------------------------------------------------------------------

    def _load(self, case: TaskInputs, method: str, seed: int | None) -> bool:
        """Loads the stored outcome of a method; returns whether there is one."""
        path = self.folder / "outcomes" / f"{_name(case.session.task.name, method, seed)}.json"
        if not path.exists():
            return False
        try:
            outcome = Outcome.model_validate_json(path.read_bytes())
        except ValueError as error:
            raise UserError(f"{path} is damaged; without it, the method is measured again") from error
        test = self.store.evaluation(Path(outcome.records).stem, case.session.task.combine)
        if test is None:
            return False
        self._add(outcome, test)
        return True

    def _add(self, outcome: Outcome, test: Evaluation) -> None:
        self.outcomes.append(outcome)
        self._tests[outcome.method, outcome.task, outcome.seed] = test

    def _save(self) -> None:
        now = time.perf_counter()
        self.checkpoint["seconds"] += now - self._began
        self._began = now
        self.store.save_checkpoint(self.checkpoint)

    def _compared(self) -> Compared:
        place = {name: k for k, name in enumerate([case.session.task.name for case in self.cases])}
        order = {name: k for k, name in enumerate(methods)}
        return Compared(
            tasks=list(place),
            methods=list(self.options.methods),
            seeds=self.seeds,
            budget=self.options.budget,
            engine=self.checkpoint.get("engine", "none"),
            model=self.cases[0].session.settings.base_model,
            outcomes=sorted(self.outcomes, key=lambda o: (place[o.task], order[o.method], o.seed or 0)),
            absent=sorted(self.absent, key=lambda a: (place[a.task], order[a.method])),
            noise_floor=self.checkpoint.get("noise_floor", {}),
            versus=[],
            ranking=None,
            seconds=self.checkpoint["seconds"] + time.perf_counter() - self._began,
        )

    def _report(self) -> None:
        self.watch(self._compared())

    def _finish(self) -> Compared:
        from harness.compare.figure import write_figure
        from harness.compare.table import write_csv

        compared = self._compared()
        combine = {case.session.task.name: case.session.task.combine for case in self.cases}
        runs: dict[tuple[str, str], list[Evaluation]] = {}
        for o in compared.outcomes:
            runs.setdefault((o.method, o.task), []).append(self._tests[o.method, o.task, o.seed])
        seeded = {method for method in compared.methods if methods.get(method).seeded}
        differences = versus(runs, combine, compared.noise_floor, seeded=seeded)
        contrasts = planned(runs, combine, compared.noise_floor, self.options.contrasts, seeded)
        ranks = ranking(runs, compared.tasks) if len(compared.tasks) > 1 else None
        compared = compared.model_copy(update={"versus": differences, "contrasts": contrasts, "ranking": ranks})
        self._save()
        write_atomically(self.folder / "compare.json", compared.model_dump_json(indent=2) + "\n")
        write_csv(compared, self.folder / "compare.csv")
        write_figure(compared, self.folder / "compare.png")
        return compared


async def _dev(evaluator: Evaluator, model: ModelRow | None) -> Measured:
    if model is None:
        return measured(await evaluator.recorded(evaluator.record_name("base", "dev"), "base", None, "dev"))
    batch = await evaluator.batch([model])
    if batch.evaluations:
        return measured(batch.evaluations[0])
    (one,) = batch.summaries
    return Measured(value=one.value, se=one.se, n=one.n, unscored=one.unscored)


async def _noise_floor(evaluator: Evaluator) -> float:
    """The difference between two evaluations of the best expert on dev, in different batches."""
    ranked, _ = await evaluator.ranked_experts()
    noise = await evaluator.noise(evaluator.expert_row(evaluator.experts[ranked[0]]))
    return 0.0 if noise is None or noise.value is None else noise.value


def _name(task: str, method: str, seed: int | None) -> str:
    return f"{task}-{method}" + ("" if seed is None else f"-seed{seed}")


def _adapter_name(case: TaskInputs, method: str, seed: int | None) -> str:
    """The folder name of an adapter; adapters that do not depend on a task's items are shared by all tasks."""
    name = _name(case.session.task.name, method, seed)
    return name if method == "dev_finetune" else name.removeprefix(f"{case.session.task.name}-")


def _padded_pool(session: Session, made: Sequence[Path], folder: Path) -> Pool:
    """The experts and other adapters in one pool, as copies that are padded to the largest rank."""
    sources = [*(expert.folder for expert in session.pool.experts), *made]
    rank = max(read_adapter(source).rank for source in sources)
    copies = [
        folder / ("experts" if k < len(session.pool.experts) else "made") / name
        for k, name in enumerate([*session.pool.names, *(path.name for path in made)])
    ]
    for source, copy in zip(sources, copies, strict=True):
        read_adapter(source).padded(rank).write(copy)
    trusted = session.settings.engine_settings.trust_remote_code
    pool = open_pool([str(copy) for copy in copies], session.base, check_values=False, trust_remote_code=trusted)
    return pool.grouped(session.settings.granularity)
