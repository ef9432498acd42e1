"""From settings to everything that a run needs, checked before any weight of the base model is loaded."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.engines.base import Engine, engines
from harness.experts.pool import LoraPool, Pool, check_finite, folder_hash, open_pool, resolve
from harness.run.overoptimisation import split_hold_out
from harness.session.judges import Judges, open_judges, unknown_topic_warning
from harness.session.settings import RunSettings
from utilities.errors import UserError
from utilities.objective import choose_objective
from utilities.tasks import Task, load_task, read_task_file
from utilities.user_code import absolute_spec, file_of

if TYPE_CHECKING:
    from utilities.judges.budget import Spent
    from utilities.judges.panel import Panel

__all__ = ["BASE", "Prepared", "changed_inputs", "load_task_of", "make_engine", "prepare", "provenance", "task_hash"]

BASE = "base model"
"""Name of the base model's row in tables."""


@dataclass(frozen=True)
class Prepared:
    """A checked task, pool and base model."""

    settings: RunSettings
    task: Task
    base: Path
    pool: Pool
    judges: Judges | None = None
    monitor_set: Task | None = None
    """The dev items of `--monitor-share`, which a judged objective never uses, as a task of their own."""
    validation_set: Task | None = None
    """The dev items of `--validation-share`, on which the winner is selected, as a task of their own."""
    starting: Future[Engine] | None = field(default=None, compare=False)
    """The engine, where it was started while everything else was still being read."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns of a group's row: the experts, and the base model where it is an anchor."""
        return [*self.pool.names, *([BASE] if self.settings.include_base else [])]

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups of modules with coefficients of their own; a row of the search is [groups * columns]."""
        return self.pool.grouping.groups

    @property
    def unit_rows(self) -> NDArray[np.float64]:
        """The search's rows of the experts as they stand, [experts, groups * columns]."""
        return np.tile(np.eye(len(self.columns))[: len(self.pool.names)], (1, len(self.groups)))

    def expert_row(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        """The engine's row for a row of the search: the anchor is the zero expert, so its column falls away.

        Groups that are all equal become one, so that a model has one row, however it was found.

        Args:
            row: Of the search, of one group's columns [columns], or of the experts alone [experts].
        """
        experts = len(self.pool.names)
        if row.size == experts:
            return row
        parts = row.reshape(-1, len(self.columns))[:, :experts]
        return parts[0] if (parts == parts[0]).all() else parts.reshape(-1)

    def coefficients(self, row: NDArray[np.float64]) -> dict[str, float]:
        """A row of the search by column, the mean over groups where there are several."""
        mean = row.reshape(-1, len(self.columns)).mean(axis=0)
        return {name: float(value) for name, value in zip(self.columns, mean, strict=True)}

    def group_coefficients(self, row: NDArray[np.float64]) -> dict[str, dict[str, float]]:
        """A row of the search by group and column; empty where there is one group."""
        if len(self.groups) == 1:
            return {}
        parts = row.reshape(len(self.groups), -1)
        return {group: self.coefficients(part) for group, part in zip(self.groups, parts, strict=True)}

    @property
    def notes(self) -> list[str]:
        """What a person should know before the start, in sentences."""
        notes = (self.pool.doubt, self._grouping_told, unknown_topic_warning(self.task, self.judges))
        return [note for note in notes if note is not None]

    @property
    def _grouping_told(self) -> str | None:
        """What --granularity means for these experts, in a sentence; None where it was not asked for."""
        asked = self.settings.granularity
        if asked == "model":
            return None
        if len(self.groups) == 1:
            return f"--granularity {asked}: all modules are one group ({self.groups[0]}), so it changes nothing here"
        shown = [*self.groups[:3], "..."] if len(self.groups) > 4 else list(self.groups)
        return (
            f"--granularity {asked}: coefficients for each of {len(self.groups)} groups ({', '.join(shown)}); mixtures"
            " are shown as their mean"
        )

    def close(self) -> None:
        """Ends what was started for the run, the engine too."""
        if self.judges is not None:
            self.judges.close()
        if self.starting is not None:
            _close_when_started(self.starting)

    def engine(self, state: Mapping[str, Any] | None = None) -> Engine:
        """The engine of the settings, with the base model loaded."""
        if self.starting is not None:
            return self.starting.result()
        return make_engine(self.settings, self.base, self.pool, state)


def make_engine(settings: RunSettings, base: Path, pool: Pool, state: Mapping[str, Any] | None = None) -> Engine:
    """The engine that the settings ask for; by default vLLM where it and a GPU are there, else the local one.

    Raises:
        UserError: It cannot be made here, or cannot serve these experts.
    """
    name = settings.engine if settings.engine != "auto" else best_engine(pool)
    asked = settings.engine_settings
    if asked.adapter_slots is None:
        asked = asked.model_copy(update={"adapter_slots": settings.swarm.particles})
    return engines.get(name)(base, pool, asked, dict(state or {}))


def best_engine(pool: Pool) -> str:
    """What `--engine auto` means on this machine, for these experts."""
    if find_spec("vllm") is None or not isinstance(pool, LoraPool):
        return "local"
    import torch

    return "vllm" if torch.cuda.is_available() else "local"


def _start(settings: RunSettings, base: Path, pool: Pool, state: Mapping[str, Any] | None) -> Future[Engine]:
    """Makes the engine in a thread of its own.

    Where another mistake ends the program, that is said at once, and the end waits for the engine: a thread that is
    still loading a model when the interpreter goes would abort the process, and an engine's children would be left.
    """
    engines.get(settings.engine if settings.engine != "auto" else best_engine(pool))  # imports are not for threads
    starting: Future[Engine] = Future()

    def make() -> None:
        try:
            starting.set_result(make_engine(settings, base, pool, state))
        except BaseException as error:
            starting.set_exception(error)

    Thread(target=make, name="engine-start").start()
    return starting


def _close_when_started(starting: Future[Engine]) -> None:
    def close(done: Future[Engine]) -> None:
        if done.exception() is None:
            done.result().close()

    starting.add_done_callback(close)


def load_task_of(settings: RunSettings, judge: Panel | None = None) -> Task:
    """The task of the settings, with overlapping items dropped where asked.

    Raises:
        UserError: Unknown task, malformed data, nothing left to test on.
    """
    judging = settings.judging
    chosen: dict[str, dict[str, str] | None] = {"auto": {}, "none": None}
    factuality = chosen.get(judging.factuality, {"mode": judging.factuality})
    if factuality is not None and judging.evidence is not None:
        factuality = {**factuality, "evidence": str(judging.evidence)}
    task = load_task(
        settings.task,
        edition=settings.edition,
        prefer=settings.preferred_edition,
        data=settings.data,
        limit=settings.limit,
        utility=settings.utility,
        options=settings.scorer_options,
        combine=settings.combine,
        judge=judge,
        report_only={"factuality": factuality},
        trust=settings.trust_task,
    )
    return task.without_overlap() if settings.drop_overlap else task


def prepare(
    settings: RunSettings,
    *,
    ask: bool = True,
    start: bool = False,
    state: Mapping[str, Any] | None = None,
    spent: Spent | None = None,
) -> Prepared:
    """Checks everything that can be checked without loading the base model.

    Args:
        settings: Of the run.
        ask: Whether judges are going to be asked; else none is started.
        start: Whether to start the engine, which is going to be used, while data and experts' values are read.
        state: The engine's, of an interrupted run.
        spent: What the judges have cost before, as part of the same run.

    Raises:
        UserError: The first mistake found.
    """
    trusted = settings.engine_settings.trust_remote_code
    judges = open_judges(settings, ask=ask, spent=spent)
    starting: Future[Engine] | None = None
    try:
        base = resolve(settings.base_spec, code=trusted)
        pool = open_pool(settings.expert_specs, base, check_values=False, trust_remote_code=trusted)
        pool = pool.grouped(settings.granularity)
        if start:
            starting = _start(settings, base, pool, state)
        task = load_task_of(settings, judges.panel if judges else None)
        if settings.validation_share and task.judged:
            raise UserError(
                "--validation-share does not apply to judged tasks; use --monitor-share (monitoring only) or"
                " --validation-share 0"
            )
        choose_objective(settings.objective, task)  # refuses an objective that the task does not have
        check_finite(pool)
    except BaseException:
        if judges is not None:
            judges.close()
        if starting is not None:
            _close_when_started(starting)
        raise
    monitor_set = validation_set = None
    if task.judged and settings.judging.monitor_share:
        task, monitor_set = _held_out(task, settings.judging.monitor_share)
    elif settings.validation_share:
        task, validation_set = _held_out(task, settings.validation_share)
    return Prepared(settings, task, base, pool, judges, monitor_set, validation_set, starting)


def _held_out(task: Task, share: float) -> tuple[Task, Task | None]:
    """The task without its hold-out items, and with nothing else; the same items under every seed of a search."""
    kept, held = {}, {}
    for name, s in task.item_sets.items():
        parts = split_hold_out(s.dev, share, seed=0)
        kept[name], held[name] = (replace(s, dev=part) for part in parts)
    whole = all(s.dev for s in held.values())
    return (replace(task, item_sets=kept), replace(task, item_sets=held)) if whole else (task, None)


def provenance(prepared: Prepared) -> dict[str, Any]:
    """What `settings.yaml` says beside the settings: versions, commit, and hashes of data and experts."""
    packages = {}
    for package in ("model-swarms", "torch", "transformers", "peft", "safetensors", "numpy", "scipy"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "not installed"
    return {
        "versions": {"python": platform.python_version(), **packages},
        "commit": _commit(),
        "task": task_hash(prepared.settings, prepared.task),
        "data": {name: _data_hash(s.dev + s.test) for name, s in prepared.task.item_sets.items()},
        "experts": {expert.name: folder_hash(expert.folder) for expert in prepared.pool.experts},
        "base": folder_hash(prepared.base),
    }


def changed_inputs(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What a resumed run would find different: names of data sets, experts and base whose content changed."""
    changed = [] if then.get("task") == now["task"] else ["the task file or the utility"]
    for kind, group in (("item set", "data"), ("expert", "experts")):
        before, after = then.get(group, {}), now[group]
        changed += [f"{kind} {k!r}" for k in {**before, **after} if before.get(k) != after.get(k)]
    if then.get("base") != now["base"]:
        changed.append("the base model")
    return changed


def _commit() -> str | None:
    """The checkout's commit, where the package stands in one."""
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def task_hash(settings: RunSettings, task: Task) -> str:
    """Hash of what the task file says of scorers, of the combination, and of the user's own files that score.

    Titles and recommended settings may change.
    """
    described, path = read_task_file(settings.task, trust=settings.trust_task)
    edition = described.editions[task.edition]
    parts = [task.combination, *(f"{name} {s.model_dump_json()}" for name, s in edition.item_sets.items())]
    parts += [f"{name} weighs {weight}" for name, weight in sorted((task.weights or {}).items())]
    digest = sha256("\n".join(parts).encode())
    utility = settings.utility
    for spec in [utility] if utility else [absolute_spec(s.scorer, path.parent) for s in edition.item_sets.values()]:
        if (own := file_of(spec)) is not None:
            digest.update(own.read_bytes())
    return digest.hexdigest()[:16]


def _data_hash(items: tuple[Any, ...]) -> str:
    digest = sha256()
    for item in items:
        digest.update(item.model_dump_json().encode())
    return digest.hexdigest()[:16]
