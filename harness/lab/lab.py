"""Runs a lab: measures, probes, examines and compares designs, and uses them as objectives of searches.

A lab is a folder; the same command resumes an interrupted lab without repeating judge requests.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from harness.engines.base import Engine
from harness.lab.design import Design, own_design, read_designs
from harness.lab.estimate import estimate
from harness.lab.findings import findings, scores, search_plan
from harness.lab.measure import DesignRun, Progress, measure
from harness.lab.observations import Answered, Observations
from harness.lab.probes import Probes
from harness.lab.result import Examination, Examined, Model, Searched
from harness.lab.search_check import search_with_each
from harness.lab.stored_answers import Stored, read_stored
from harness.run_folder.events import Numbers
from harness.run_folder.result import Cost
from harness.run_folder.store import Store, write_atomically
from harness.session.evaluator import measured
from harness.session.judges import Judges, open_judges
from harness.session.provenance import changed_inputs, changed_settings, open_folder, provenance, task_hash
from harness.session.session import BASE, Session, load_task_of, open_session
from harness.session.settings import RunSettings
from harness.trackers.base import Trackers
from utilities.errors import UserError
from utilities.judges.budget import Spent
from utilities.judges.panel import Panel
from utilities.lab import compare_designs, overall, read_labels
from utilities.lab.labels import Labels
from utilities.scorer_by_name import asks_judge
from utilities.sync import run_sync
from utilities.task_file import Edition, read_task_file

__all__ = ["LabOptions", "examine_designs", "examine_stored", "project_version"]


OF_SEARCHES = {"search", "budget", "seeds", "swarm", "preset", "variant", "objective", "validation_share"}
"""Settings of the searches; they may change until a lab runs searches."""


@dataclass(frozen=True)
class LabOptions:
    """Options of a lab, besides the settings."""

    designs: tuple[str, ...] = ()
    """Designs as on the command line; by default the task's own scorer."""
    cloud: int = 12
    """Number of mixtures of two experts to measure."""
    probes: int | None = None
    """Number of dev items used for probes; by default that of `Probes`."""
    labels: Path | None = None
    search: bool = False
    budget: int = 60
    """Number of full dev evaluations per search."""
    seeds: int = 1
    """Number of searches per design."""

    def document(self) -> dict[str, Any]:
        """The options as stored in settings.yaml."""
        labels = None if self.labels is None else str(self.labels.expanduser().resolve())
        return {**vars(self), "designs": list(self.designs), "labels": labels}


@dataclass
class _Lab:
    """One lab in progress."""

    options: LabOptions
    settings: RunSettings
    store: Store
    observed: list[Observations]
    settings_of: list[RunSettings]
    panel: Panel | None
    labels: Labels | None
    engine_name: str | None
    progress: Progress
    searched: list[Searched] = field(default_factory=list)
    _began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.checkpoint: dict[str, Any] = self.store.checkpoint() or {"designs": {}, "seconds": 0.0}
        for o in self.observed:
            self.checkpoint["designs"].setdefault(o.design.label, {})
        if self.panel is not None and "spent" in self.checkpoint:  # spending before an interruption counts
            self.panel.budget.spent = Spent.from_dict(self.checkpoint["spent"])
        if self.panel is not None:
            self.panel.open_ledger(self.store.folder / "judge_spending.sqlite")

    def store_of(self, label: str) -> Store:
        """The records of one design."""
        number = list(self.checkpoint["designs"]).index(label) + 1
        folder = self.store.folder / "designs" / f"{number:02d}"
        (folder / "records").mkdir(parents=True, exist_ok=True)
        return Store(folder, self.store.bus)

    def save(self) -> None:
        now = time.perf_counter()
        self.checkpoint["seconds"] += now - self._began
        self._began = now
        if self.panel is not None:
            self.checkpoint["spent"] = self.panel.spent.to_dict()
            for text in self.panel.take_notes():
                self.progress(f"note: {text}")
        self.store.save_checkpoint(self.checkpoint)

    def probing(self) -> list[Probes]:
        """The probes of all designs."""
        return [
            Probes(o, self.store_of(o.design.label), self.panel, self.options.probes, self.settings.seed)
            for o in self.observed
        ]

    async def probe(self) -> None:
        """Runs the probes and scores labelled answers; no model is needed."""
        for one in self.probing():
            await one.probe(self.progress)
            if self.labels is not None:
                await one.label(self.labels)
            self.save()

    def finish(self) -> Examination:
        """Runs the checks and writes lab.json and lab.png."""
        from harness.lab.figure import write_figure

        first = self.observed[0]
        examined = []
        for o, settings in zip(self.observed, self.settings_of, strict=True):
            self.progress(f"{o.design.label}: checking")
            results = findings(o, settings)
            self.store.bus(Numbers(step=0, values={f"check/{o.design.label}/{f.check}": f.value for f in results}))
            examined.append(
                Examined(
                    design=o.design.label,
                    utility=o.design.utility,
                    options=list(o.design.options),
                    findings=results,
                    conclusion=overall(results),
                    models=_models(o.dev, o.test),
                    mixtures=_models(o.cloud_dev, o.cloud_test),
                )
            )
        comparable = {o.design.label: dev for o in self.observed if (dev := scores(o.experts)) is not None}
        plans = {o.design.label: search_plan(o, one) for o, one in zip(self.observed, self.settings_of, strict=True)}
        self.save()
        examination = Examination(
            task=first.task.name,
            edition=first.task.edition,
            dev_items=first.task.size("dev"),
            test_items=first.task.size("test"),
            model=self.settings.base_model,
            engine=self.engine_name,
            experts=[name for name in first.dev or first.test if name != BASE],
            judges=[] if self.panel is None else [judge.name for judge in self.panel.judges],
            labels=None if self.labels is None else self.labels.where,
            seed=self.settings.seed,
            version=project_version(),
            made=date.today().isoformat(),
            designs=examined,
            compared=compare_designs(comparable, plans, self.settings.seed) if len(comparable) > 1 else None,
            searched=self.searched,
            cost=None if self.panel is None else Cost(**self.panel.spent.to_dict()),
            seconds=self.checkpoint["seconds"],
        )
        write_atomically(self.store.folder / "lab.json", examination.model_dump_json(indent=2) + "\n")
        write_figure(examination, self.observed, self.store.folder / "lab.png")
        return examination


def examine_designs(
    settings: RunSettings,
    options: LabOptions,
    out: Path | None,
    progress: Progress = lambda text: None,
    track: Sequence[str] = (),
) -> tuple[Examination, Path]:
    """Measures designs with the engine and examines them.

    Args:
        settings: Settings of the task, the experts, the engine and the judges.
        options: Designs, and the amount of measurements.
        out: A new folder, or the folder of the lab to resume; by default a folder in `runs`.
        progress: Called with a message for every step.
        track: Trackers that receive the events.

    Returns:
        The examination and the folder.

    Raises:
        UserError: Invalid designs, task, labels or experts; the judges' budget is spent; a folder of another lab.
    """
    settings = settings.anywhere()
    task_file, path = read_task_file(settings.task, trust=settings.trust_task)
    edition = task_file.editions[task_file.choose(settings.edition, settings.preferred_edition)]
    designs = read_designs(options.designs) or [own_design(edition)]
    options = replace(options, designs=tuple(design.label for design in designs))
    labels = None if options.labels is None else read_labels(options.labels)
    each = [design.settings(settings, edition).anywhere() for design in designs]
    reference = Design("", "").settings(settings, edition).model_copy(update={"utility": None})
    with _sessions([*each, *([reference] if options.search else [])], edition, path.parent) as sessions:
        document = {
            "lab": options.document(),
            "settings": settings.model_dump(mode="json"),
            "designs": {d.label: task_hash(p.settings, p.task) for d, p in zip(designs, sessions, strict=False)},
            **provenance(sessions[0]),
        }
        with _opened(out, _name(settings, designs), document, progress, track) as store:
            store.save_items(sessions[0].task)
            for text in sessions[0].notes:
                progress(f"note: {text}")
            judges = sessions[0].judges
            engine = sessions[0].engine((store.checkpoint() or {}).get("engine"))
            try:
                lab = _Lab(
                    options,
                    settings,
                    store,
                    [Observations(design, one.task) for design, one in zip(designs, sessions, strict=False)],
                    each,
                    judges.panel if judges else None,
                    labels,
                    engine.name,
                    progress,
                )
                lab.checkpoint["engine"] = engine.state()
                run_sync(_work(lab, sessions, engine))
            finally:
                engine.close()
            return lab.finish(), store.folder


async def _work(lab: _Lab, sessions: Sequence[Session], engine: Engine) -> None:
    """Runs all steps that use models or judges."""
    options, seed = lab.options, lab.settings.seed
    runs = [
        DesignRun(o, one, lab.store_of(o.design.label), lab.checkpoint["designs"][o.design.label], lab.save)
        for o, one in zip(lab.observed, sessions, strict=False)
    ]
    if lab.panel is not None:
        experts = len(sessions[0].pool.names)
        searched = options.budget * options.seeds if options.search else 0
        lab.progress(estimate(lab.panel, lab.probing(), experts, options.cloud + 1, searched))
    try:
        await measure(runs, engine, options.cloud, seed, lab.progress)
        lab.save()
        await lab.probe()
        if options.search:
            lab.checkpoint["designs"].setdefault("", {})
            observed = Observations(Design("", ""), sessions[-1].task)
            reference = DesignRun(observed, sessions[-1], lab.store_of(""), lab.checkpoint["designs"][""], lab.save)
            seeds = range(seed, seed + options.seeds)
            lab.searched = await search_with_each(runs, reference, engine, options.budget, seeds, lab.progress)
    finally:
        lab.save()  # also on errors, so that spending is counted on resume


@contextmanager
def _sessions(each: Sequence[RunSettings], edition: Edition, folder: Path) -> Iterator[list[Session]]:
    """One session per design; all share the pool, the base model, the engine and the judges."""
    judged = next((k for k, one in enumerate(each) if asks_judge(edition, folder, one.utility)), 0)
    first = open_session(each[judged], start=True)
    try:
        panel = first.panel
        yield [
            first if k == judged else replace(first, settings=one, task=load_task_of(one, panel))
            for k, one in enumerate(each)
        ]
    finally:
        first.close()


def examine_stored(
    folders: Sequence[Path],
    given: Mapping[str, Any],
    options: LabOptions,
    out: Path | None,
    progress: Progress = lambda text: None,
    track: Sequence[str] = (),
) -> tuple[Examination, Path]:
    """Examines designs on the answers of earlier runs; no model is loaded.

    Args:
        folders: Folders of runs, of `evaluate --out`, or of labs.
        given: Settings that override those of the run, such as the judge, by flat name.
        options: As in `examine_designs`; searches and mixtures are not possible.
        out: As in `examine_designs`.
        progress: As in `examine_designs`.
        track: As in `examine_designs`.

    Raises:
        UserError: As in `examine_designs`, or folders without answers.
    """
    if options.search:
        raise UserError("--search needs models: give the task and the experts in place of --responses")
    stored = read_stored(folders)
    settings = stored.over(given).anywhere()
    task_file, path = read_task_file(settings.task, trust=settings.trust_task)
    edition = task_file.editions[task_file.choose(settings.edition, settings.preferred_edition)]
    designs = read_designs(options.designs) or [own_design(edition)]
    options = replace(options, designs=tuple(design.label for design in designs), cloud=0)
    labels = None if options.labels is None else read_labels(options.labels)
    each = [design.settings(settings, edition).anywhere() for design in designs]
    judges: Judges | None = None
    try:
        judged = next((one for one in each if asks_judge(edition, path.parent, one.utility)), None)
        judges = None if judged is None else open_judges(judged, ask=True)
        tasks = [load_task_of(one, judges.panel if judges else None) for one in each]
        document = {
            "lab": {**options.document(), "responses": [str(folder.resolve()) for folder in folders]},
            "settings": settings.model_dump(mode="json"),
            "designs": {d.label: task_hash(one, task) for d, one, task in zip(designs, each, tasks, strict=True)},
        }
        with _opened(out, f"{_name(settings, designs)}-stored", document, progress, track) as store:
            store.save_items(tasks[0])
            observed = [
                Observations(design, stored.answered(task)) for design, task in zip(designs, tasks, strict=True)
            ]
            panel = judges.panel if judges else None
            lab = _Lab(options, settings, store, observed, each, panel, labels, None, progress)
            run_sync(_stored_work(lab, stored))
            return lab.finish(), store.folder
    finally:
        if judges is not None:
            judges.close()


async def _stored_work(lab: _Lab, stored: Stored) -> None:
    """Scores the stored answers and runs the probes."""
    if lab.panel is not None:
        experts = len(stored.experts)
        lab.progress(estimate(lab.panel, lab.probing(), experts, 1, 0))
    try:
        for o, probing in zip(lab.observed, lab.probing(), strict=True):
            await stored.fill(o, probing.store, lab.panel)
            o.absent |= dict.fromkeys(
                ("noise_floor", "dev_for_test_cloud"), "Stored answers are looked at, and no model was asked again."
            )
        await lab.probe()
    finally:
        lab.save()


def _models(dev: Answered, test: Answered) -> list[Model]:
    return [
        Model(name=name, dev=measured(one), test=measured(test[name]) if name in test else None)
        for name, one in dev.items()
    ]


@contextmanager
def _opened(
    out: Path | None, name: str, document: Mapping[str, Any], progress: Progress, track: Sequence[str]
) -> Iterator[Store]:
    """The store of a lab while the block runs, with trackers as subscribers."""
    store = _open(out, name, document)
    try:
        with Trackers(track, store, lambda text: progress(f"note: {text}")):
            yield store
    finally:
        store.close()


def _open(out: Path | None, name: str, document: Mapping[str, Any]) -> Store:
    """The store of a lab: at `out`, or in `runs` with a number appended if another lab has the name."""
    folder, number = out or Path("runs") / name, 1
    while out is None and folder.exists() and not _same_lab(folder, document):
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    store = open_folder(folder, "lab", document, _differences)
    if not store.settings()["lab"]["search"]:  # settings of its searches may change until there are some
        checkpoint = store.checkpoint()
        write_atomically(folder / "settings.yaml", yaml.safe_dump(dict(document), sort_keys=False))
        if checkpoint is not None:  # it has the hash of the settings
            store.save_checkpoint(checkpoint)
    return store


def _same_lab(folder: Path, document: Mapping[str, Any]) -> bool:
    now = yaml.safe_load(yaml.safe_dump(dict(document), sort_keys=False))
    then = Store(folder).settings() if (folder / "settings.yaml").is_file() else {}
    return "lab" in then and not list(_differences(then, now))


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    free = {"labels"} if then["lab"]["search"] else {"labels", *OF_SEARCHES}
    for part in ("lab", "settings"):
        before, after = ({k: v for k, v in side[part].items() if k not in free} for side in (then, now))
        yield from changed_settings(before, after)
    yield from (f"{name} was changed" for name, hashed in now["designs"].items() if then["designs"].get(name) != hashed)
    if "data" in now:
        yield from (f"{what} changed since it began" for what in changed_inputs(then, now))


def _name(settings: RunSettings, designs: Sequence[Design]) -> str:
    """Name of a lab's folder, from task and designs, limited in length."""
    about = "-".join(re.sub(r"\W+", "-", Path(design.label).name).strip("-") for design in designs)
    return f"lab-{Path(settings.task).stem}-{about[:80]}-seed{settings.seed}"


def project_version() -> str:
    """The installed version of this project, or "not installed"."""
    try:
        return version("model-swarms")
    except PackageNotFoundError:
        return "not installed"
