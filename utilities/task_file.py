"""Task files: their format, and reading one. A data file without a task file is a task too.

A task file is untrusted data: it can choose neither keys, addresses, prices, code, trust nor paths outside its folder.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationError,
    field_validator,
    model_validator,
)

from utilities.answer_keys import Answers
from utilities.bounded_input import read_yaml
from utilities.core import Item
from utilities.data_files import Part, describe_columns, read_published
from utilities.errors import UserError, in_words
from utilities.hub import Hub
from utilities.prompts import bundled
from utilities.registry import unknown_name
from utilities.user_code import file_of

__all__ = [
    "DATA_FILES",
    "Edition",
    "GroupBy",
    "ItemSetFile",
    "TaskFile",
    "list_tasks",
    "read_task_file",
]

RECOMMENDED = {
    "optimiser", "winner", "top_k", "particles", "iterations", "inertia", "cognitive", "social", "repel",
    "step_length", "step_decay", "step_floor", "patience", "restart_patience", "restart_reset", "random_factors",
    "initial_velocity", "crossover_max", "drop_iteration", "drop_particle", "shrinkage", "preset", "variant",
    "objective", "granularity", "include_base", "validation_share", "drop_overlap", "factuality", "monitor_share",
    "canary_every", "judge_temperature", "judge_repeats",
}  # fmt: skip
"""The run settings that a task file may recommend. A task file is untrusted data: only the user sets
addresses, keys, prices, code, trust and paths, with flags or in a `--config` file."""
REFUSED_OPTIONS = frozenset({"trust_remote_code", "own_scoring", "judge"})
"""Options of scorers that a task file must not set: they run code or select the judge."""
TEXTS = frozenset({"pattern", "topic", "stop"})
"""Options of scorers that are free text and never a path."""
DATA_FILES = {".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"}


def _checked_options(options: dict[str, Any]) -> dict[str, Any]:
    """Checks the options of a scorer in a task file.

    Raises:
        ValueError: Only the user may set an option.
    """
    for name, value in options.items():
        if name in REFUSED_OPTIONS or (isinstance(value, str) and file_of(value) is not None):
            raise ValueError(f"a task file cannot set the option {name!r}; set it yourself with --option {name}=VALUE")
    return options


Options = Annotated[dict[str, Any], AfterValidator(_checked_options)]

GroupBy = Annotated[str, Field(min_length=1)]
"""A field of the items, or any other field or column of their data, by which the items of a set are grouped."""


def flag_of(setting: str) -> str:
    """The flag of a setting: `--judge-url` of judge_url."""
    return "--" + setting.replace("_", "-")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ItemSetFile(_Strict):
    """One item set of an edition."""

    scorer: str
    """Name of a registered scorer, or FILE.py:NAME, with the file seen from the task file's folder."""
    options: Options = {}
    """Arguments of the scorer."""
    file: str | None = None
    """File name in `--data`, or in the folder `data` beside the task file."""
    items: dict[Part, list[Any]] | None = None
    """The items themselves, in place of a file: the lists `dev`, `test` and perhaps `train`, of texts or items."""
    examples: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """A file of the same folder whose items are the examples of `few_shot`; by default the `train` part of the data, or
    items of dev, which are then not asked."""
    hub: Hub | None = None
    """Read from here where no `--data` is given and the folder beside the task file does not have the file."""
    answers: Answers | None = Field(default=None, exclude_if=lambda value: value is None)
    """How a file names the right options; needed only if its answers fit several conventions."""
    group_by: GroupBy | None = None
    """Makes every group of items that share this field a part of its own, named "set:group": with `combine: minimum`
    the worst group counts, with `mean` all groups count the same, however many items they have.

    Small groups are noisy, and the minimum of noisy means is biased low; a single unscored item of fewer than ten makes
    its group, and so the whole, not comparable. The groups are those of the split, so dev and test may have others.
    """

    @model_validator(mode="after")
    def _has_items(self) -> ItemSetFile:
        if (self.file is None) == (self.items is None):
            raise ValueError("an item set has either a file or items")
        if self.items is not None and not {"dev", "test"} <= set(self.items):
            raise ValueError(f"items: expected the lists dev and test, found {', '.join(self.items) or 'nothing'}")
        return self


class ReportOnlyFile(_Strict):
    """A scorer that is reported and is no part of the value; it scores the same responses."""

    scorer: str
    """As in an item set."""
    options: Options = {}
    of: str | None = None
    """Whose responses it scores; the edition's only item set by default."""


class Edition(_Strict):
    """One size and source of a task's data."""

    settings: dict[str, Any] = {}
    """Run settings that this edition recommends, of those in `RECOMMENDED`; the user's own win."""
    item_sets: dict[str, ItemSetFile] = Field(min_length=1)
    report_only: dict[str, ReportOnlyFile] = Field(default={}, validation_alias=AliasChoices("report_only", "beside"))
    """Scorers that are reported on test (for the base model, the best initial expert and the winner), by name.

    They need no generation and decide nothing; they show side effects of the objective. `beside` is the older name.
    """

    @model_validator(mode="after")
    def _of_an_item_set(self) -> Edition:
        for name, one in self.report_only.items():
            if one.of is None and len(self.item_sets) > 1:
                raise ValueError(f"report_only {name!r}: `of` must name one of {', '.join(self.item_sets)}")
            if one.of is not None and one.of not in self.item_sets:
                raise ValueError(f"report_only {name!r}: {unknown_name('item set', one.of, self.item_sets)}")
        return self

    @field_validator("settings")
    @classmethod
    def _only_recommended(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for name, value in settings.items():
            if name not in RECOMMENDED:
                near = difflib.get_close_matches(name, RECOMMENDED, n=1, cutoff=0.8)
                hint = f"did you mean {near[0]!r}?" if near else f"set it yourself with {flag_of(name)} or in --config"
                raise ValueError(f"a task file cannot set {name!r}; {hint}")
            if isinstance(value, str) and file_of(value) is not None:
                raise ValueError(
                    f"a task file cannot set {name} to a Python file; set it yourself with {flag_of(name)}"
                )
        return settings

    @field_validator("item_sets")
    @classmethod
    def _no_colon(cls, item_sets: dict[str, ItemSetFile]) -> dict[str, ItemSetFile]:
        for name in item_sets:
            if ":" in name:
                raise ValueError(f"the name {name!r} holds a colon, which parts an item set's name from a group's")
        return item_sets


class TaskFile(_Strict):
    """A task file, as written by hand."""

    name: str
    title: str
    combine: str = "harmonic_mean"
    """How the values of the item sets become one."""
    weights: dict[str, Annotated[PositiveFloat, Field(allow_inf_nan=False)]] | None = None
    """What each item set weighs, by name, for `combine: weighted_mean`; only the ratios matter."""
    editions: dict[str, Edition] = Field(min_length=1)

    @model_validator(mode="after")
    def _weights_are_used(self) -> TaskFile:
        if self.weights is not None and self.combine != "weighted_mean":
            raise ValueError(
                f"weights: only combine: weighted_mean reads them, and this task combines by {self.combine}"
            )
        item_sets = {name: None for edition in self.editions.values() for name in edition.item_sets}
        for name in self.weights or {}:
            if name not in item_sets:
                raise ValueError(f"weights: {unknown_name('item set', name, item_sets)}")
        return self

    @property
    def specs(self) -> list[str]:
        """All registered names and Python files that the task file refers to."""
        specs = [self.combine]
        for edition in self.editions.values():
            scored: list[ItemSetFile | ReportOnlyFile] = [*edition.item_sets.values(), *edition.report_only.values()]
            specs += [one.scorer for one in scored]
        return specs

    @property
    def paths(self) -> list[tuple[str, str]]:
        """All texts that may be paths, as pairs (purpose, text)."""
        paths = []
        for edition in self.editions.values():
            scored: list[ItemSetFile | ReportOnlyFile] = [*edition.item_sets.values(), *edition.report_only.values()]
            for one in scored:
                paths += [
                    (f"option {name}", value)
                    for name, value in one.options.items()
                    if isinstance(value, str) and name not in TEXTS and "{{" not in value  # an inline prompt
                ]
            for item_set in edition.item_sets.values():
                paths += [("file", file) for file in (item_set.file, item_set.examples) if file]
                paths += [("hub", item_set.hub.path)] if item_set.hub else []
        return paths

    def choose(self, edition: str | None, prefer: str) -> str:
        """The requested edition; by default the preferred one if it exists, else the first.

        Raises:
            UserError: The task has no such edition.
        """
        if edition is None:
            return prefer if prefer in self.editions else next(iter(self.editions))
        if edition not in self.editions:
            raise unknown_name(f"edition of task {self.name}", edition, self.editions)
        return edition


def list_tasks() -> dict[str, Path]:
    """The bundled tasks and their files, by name."""
    return {path.stem: path for path in sorted(bundled("tasks").glob("*.yaml"))}


def read_task_file(task: str, *, trust: bool = False) -> tuple[TaskFile, Path]:
    """Reads a task file.

    Args:
        task: A bundled name, or the path of a task file (.yaml) or of a data file.
        trust: Whether it may refer to Python files outside its folder.

    Raises:
        UserError: The task does not exist, or the file does not follow the format.
    """
    bundled_tasks = list_tasks()
    if task.endswith((".yaml", ".yml")):
        path = Path(task)
        if not path.is_file():
            raise UserError(f"there is no task file {task}")
    elif Path(task).suffix.lower() in DATA_FILES:
        return _task_of_data(Path(task)), Path(task)
    elif task in bundled_tasks:
        path = bundled_tasks[task]
    else:
        raise unknown_name("task", task, bundled_tasks)
    try:
        data = read_yaml(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: a task file is a mapping with name, title and editions")
    try:
        described = TaskFile.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path}: {in_words(error)}") from error
    for what, value in described.paths:
        inner = os.path.normpath(path.parent.absolute() / value)
        if value.startswith("~") or not Path(inner).is_relative_to(os.path.normpath(path.parent.absolute())):
            raise UserError(
                f"{path}: {what} {value!r} leads out of the task file's folder; a task file names only files inside it"
            )
    for spec in () if trust else described.specs:
        file = file_of(spec)
        if file is not None and not (path.parent / file).resolve().is_relative_to(path.parent.resolve()):
            raise UserError(
                f"{path}: {spec} is code outside the task file's folder; add --trust-task to run it, or copy it there"
            )
    return described, path


def _task_of_data(path: Path) -> TaskFile:
    """A task from a data file without a task file; its title reports how the file was interpreted.

    Raises:
        UserError: The file does not exist, or its items are not all of one supported type.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    splits = read_published(path)
    items = [item for split in splits.values() for item in split]
    scorer, options, kind = _scorer_of(path, items)
    sizes = ", ".join(f"{len(own)} {part}" for part, own in splits.items())
    file = ItemSetFile(scorer=scorer, options=options, file=path.name)
    columns = describe_columns(path)
    title = f"{path.name}: {kind}, scored by {scorer}; {sizes} items{columns and f'; {columns}'}"
    return TaskFile(name=path.stem, title=title, editions={"own": Edition(item_sets={"items": file})})


def _scorer_of(path: Path, items: Sequence[Item]) -> tuple[str, dict[str, Any], str]:
    """The scorer for all items, its options, and a description of the question type."""
    from utilities.scorers.extract_number import parse_number

    if all(item.choices for item in items):
        return "multiple_choice", {"prompt": "lettered", "answer_by": "letter"}, "questions with options"
    if any(item.choices for item in items) or not all(item.answer for item in items):
        incomplete = next(item for item in items if not item.choices)
        problem = "no options, and others have" if incomplete.answer else "no answer"
        raise UserError(
            f"{path}: item {incomplete.id!r} has {problem}; a data file without a task file needs a column `answer`"
            " (and `choices`, or A, B, C ...) in every row"
        )
    if all(parse_number(item.answer or "") is not None for item in items):
        return "numeric", {"prompt": "plain", "max_tokens": 200}, "questions with numbers as answers"
    if all((item.answer or "").casefold() in {"yes", "no"} for item in items):
        return "yes_no", {"prompt": "plain", "answers": ["yes", "no"]}, "questions with yes or no as answers"
    return "exact_match", {"prompt": "plain", "max_tokens": 32}, "questions with short texts as answers"
