"""Opens and checks all inputs of a run before the base model's weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.engines.base import Engine
from harness.engines.gpu_sharing import share_gpu
from harness.engines.preflight import check_runnable
from harness.engines.token_mixture import TokenMixtureEngine, check_vocabularies, length_normalised
from harness.engines.tokenizer import Tokens
from harness.experts.files import resolve
from harness.experts.pool import Pool, check_finite, open_pool
from harness.experts.token_pool import open_token_pool, pool_parts
from harness.session import engine_start
from harness.session.answer_cache import AnswerCache
from harness.session.hold_out import split_hold_out
from harness.session.judges import Judges, open_judges, unknown_topic_warning
from harness.session.settings import FAMILIES, RunSettings, flat_settings
from utilities.errors import UserError
from utilities.objective import choose_objective
from utilities.scorers.multiple_choice import MultipleChoice
from utilities.task_file import DATA_FILES
from utilities.tasks import Task, load_task

if TYPE_CHECKING:
    from utilities.judges.budget import Spent
    from utilities.judges.panel import Panel

__all__ = ["BASE", "Session", "load_task_of", "open_session"]

TOKENS_NOTE = (
    "--mix tokens: token probabilities are mixed; every row of the search is projected onto the simplex (the nearest"
    " weights that are not negative and sum to 1)"
)
BASE = "base model"
"""Name of the base model's row in tables."""


@dataclass(frozen=True)
class Session:
    """A checked task, pool and base model."""

    settings: RunSettings
    task: Task
    base: Path
    pool: Pool
    judges: Judges | None = None
    monitor_set: Task | None = None
    """Task with the dev items of `--monitor-share`, which a judged objective never uses."""
    validation_set: Task | None = None
    """Task with the dev items of `--validation-share`, on which the winner is selected."""
    starting: Future[Engine] | None = field(default=None, compare=False)
    """The engine, if it was started while data was still being read."""
    remarks: tuple[str, ...] = ()
    """Notes of the checks before the start, such as items that will be unscored."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns of a group's row: the experts, and the base model with `--include-base`."""
        return [*self.pool.names, *([BASE] if self.settings.include_base else [])]

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the module groups with separate coefficients; a row of the search is [groups * columns]."""
        return self.pool.grouping.groups

    @property
    def unit_rows(self) -> NDArray[np.float64]:
        """The search's rows of the unmixed experts, [experts, groups * columns]."""
        return np.tile(np.eye(len(self.columns))[: len(self.pool.names)], (1, len(self.groups)))

    def expert_row(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        """The engine's row for a row of the search; the base model's column is dropped, since its adapter is zero.

        If all groups are equal, they are reduced to one, so that equal models have equal rows.

        Args:
            row: Row of the search, one group's columns [columns], or the experts alone [experts].
        """
        experts = len(self.pool.names)
        if row.size == experts:
            return row
        parts = row.reshape(-1, len(self.columns))[:, :experts]
        return parts[0] if (parts == parts[0]).all() else parts.reshape(-1)

    def coefficients(self, row: NDArray[np.float64]) -> dict[str, float]:
        """Coefficients of a row of the search by column, averaged over groups."""
        mean = row.reshape(-1, len(self.columns)).mean(axis=0)
        return {name: float(value) for name, value in zip(self.columns, mean, strict=True)}

    def group_coefficients(self, row: NDArray[np.float64]) -> dict[str, dict[str, float]]:
        """Coefficients of a row of the search by group and column; empty if there is one group."""
        if len(self.groups) == 1:
            return {}
        parts = row.reshape(len(self.groups), -1)
        return {group: self.coefficients(part) for group, part in zip(self.groups, parts, strict=True)}

    @property
    def panel(self) -> Panel | None:
        """The judges; None if the task needs none."""
        return self.judges.panel if self.judges else None

    @property
    def notes(self) -> list[str]:
        """Notes for the user before the start."""
        overlaps = [
            f"{name}: {len(s.overlap)} of {len(s.test)} test items also occur in dev (contamination); the test value is"
            " optimistic; --drop-overlap removes them"
            for name, s in self.task.item_sets.items()
            if s.overlap
        ]
        warning = unknown_topic_warning(self.task, self.judges, self.settings.base_model)
        notes = (self._family_note, self.pool.base_warning, self._grouping_note, warning)
        return [*overlaps, *self.remarks, *(note for note in notes if note is not None)]

    def take_notes(self) -> list[str]:
        """Notes on the judges' servers since the last call; every verb that asks a judge shows them."""
        return self.panel.take_notes() if self.panel else []

    @property
    def _family_note(self) -> str | None:
        """A note on the settings that `--family` made; None if it made none."""
        flat = flat_settings(self.settings)
        made = [
            f"--{name} {value}"
            for name, value in FAMILIES.get(str(self.settings.family), {}).items()
            if flat[name] == value and name != "base_model"
        ]
        return f"--family {self.settings.family} stands for {' '.join(made)}; flags override them" if made else None

    @property
    def _grouping_note(self) -> str | None:
        """A note on the effect of --granularity for these experts; None without it."""
        level = self.settings.granularity
        if level == "model":
            return None
        if len(self.groups) == 1:
            return f"--granularity {level}: all modules are one group ({self.groups[0]}), so it changes nothing here"
        shown = [*self.groups[:3], "..."] if len(self.groups) > 4 else list(self.groups)
        return (
            f"--granularity {level}: coefficients for each of {len(self.groups)} groups ({', '.join(shown)}); mixtures"
            " are shown as their mean"
        )

    def close(self) -> None:
        """Closes the judges and an engine that was started in advance."""
        if self.judges is not None:
            self.judges.close()
        if self.starting is not None:
            engine_start.close_when_started(self.starting)

    def engine(self, state: Mapping[str, Any] | None = None) -> Engine:
        """The engine of the settings, with the base model loaded."""
        if self.starting is not None:
            engine = self.starting.result()
        else:
            engine = engine_start.make_engine(self.settings, self.base, self.pool, state)
        if isinstance(engine, TokenMixtureEngine):
            engine.by_length = length_normalised(self.task)
        if self.settings.engine_settings.share_gpu:
            share_gpu(engine, self.task)
        return engine

    def answer_cache(self, engine: Engine) -> AnswerCache | None:
        """The stored answers for an engine of this session.

        None if the cache is off, the engine's answers depend on what else it answers at the same time (all but local),
        or the base model has code of its own.
        """
        settings = self.settings.engine_settings
        local = engine_start.engine_name(self.settings, self.pool) == "local"
        if not self.settings.cache or settings.trust_remote_code or not local:
            return None
        try:
            return AnswerCache(engine, self.base, self.pool, settings)
        except OSError:  # a file of the base model that cannot be read
            return None


def load_task_of(settings: RunSettings, judge: Panel | None = None) -> Task:
    """The task of the settings, without overlapping items if `drop_overlap` is set.

    Raises:
        UserError: Unknown task, malformed data, or an empty test split.
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
        chat=settings.chat_family,
    )
    return task.without_overlap() if settings.drop_overlap else task


def open_session(
    settings: RunSettings,
    *,
    ask: bool = True,
    start: bool = False,
    state: Mapping[str, Any] | None = None,
    spent: Spent | None = None,
) -> Session:
    """Checks everything that can be checked without loading the base model.

    Args:
        settings: Settings of the run.
        ask: Whether judges will be used; if not, the embedded judge is not loaded.
        start: Whether to start the engine while data and experts are being read.
        state: State of the engine of an interrupted run.
        spent: Previous cost of the judges in the same run.

    Raises:
        UserError: The first error found.
    """
    trusted = settings.engine_settings.trust_remote_code
    judges = open_judges(settings, ask=ask, spent=spent)
    starting: Future[Engine] | None = None
    try:
        base = resolve(settings.base_spec, code=trusted)
        if settings.mix == "tokens":
            pool: Pool = open_token_pool(settings.expert_specs, base, trust_remote_code=trusted)
        else:
            pool = open_pool(settings.expert_specs, base, check_values=False, trust_remote_code=trusted)
            pool = pool.grouped(settings.granularity)
        if start:
            starting = engine_start.start_engine(settings, base, pool, state)
        task = load_task_of(settings, judges.panel if judges else None)
        if settings.validation_share and task.judged:
            raise UserError(
                "--validation-share does not apply to judged tasks; use --monitor-share (monitoring only) or"
                " --validation-share 0"
            )
        choose_objective(settings.objective, task)  # raises if the task does not have the objective
        engine = engine_start.engine_name(settings, pool)
        remarks = []
        for part in pool_parts(pool):
            check_finite(part)
            remarks += check_runnable(part.base.folder, part, task, settings.engine_settings, engine)
        if settings.mix == "tokens":
            length_normalised(task)  # raises if the item sets disagree
            if not all(isinstance(s.scorer, MultipleChoice) for s in task.item_sets.values()):
                _check_vocabularies(pool, trusted)
            remarks.append(TOKENS_NOTE)
        remarks += [task.title] if Path(settings.task).suffix in DATA_FILES else []
        remarks += [f"{name}: few_shot examples: {s.examples}" for name, s in task.item_sets.items() if s.examples]
    except BaseException:
        if judges is not None:
            judges.close()
        if starting is not None:
            engine_start.close_when_started(starting)
        raise
    monitor_set = validation_set = None
    if task.judged and settings.judging.monitor_share:
        task, monitor_set = _held_out(task, settings.judging.monitor_share)
    elif settings.validation_share:
        task, validation_set = _held_out(task, settings.validation_share)
    return Session(settings, task, base, pool, judges, monitor_set, validation_set, starting, tuple(remarks))


def _check_vocabularies(pool: Pool, trusted: bool) -> None:
    """Checks that all experts share one vocabulary, before a model is loaded."""
    check_vocabularies(
        {part.names[0]: Tokens(part.base.folder, None, trust_remote_code=trusted) for part in pool_parts(pool)}
    )


def _held_out(task: Task, share: float) -> tuple[Task, Task | None]:
    """The task without its held-out items, and with them alone; the split does not depend on the search's seed."""
    remaining, held = {}, {}
    for name, s in task.item_sets.items():
        parts = split_hold_out(s.dev, share, seed=0)
        remaining[name], held[name] = (replace(s, dev=part) for part in parts)
    every_set_split = all(s.dev for s in held.values())
    return (replace(task, item_sets=remaining), replace(task, item_sets=held)) if every_set_split else (task, None)
