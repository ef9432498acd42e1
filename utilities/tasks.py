"""Tasks: items, scorers and their combination into one value. One YAML file per task; data in the published format.

A task has editions (`mini`, bundled for the embedded model; `full`, the published data), an edition has item sets, an
item set has a `dev` and a `test` split. dev is for selection, test is evaluated once.
"""

from __future__ import annotations

import asyncio
import difflib
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

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

from utilities.answer_keys import Answers, lettered
from utilities.bounded_input import read_yaml
from utilities.contamination import find_overlap
from utilities.core import Evaluation, Item, ItemResult, Model, Scorer, Split, Usage, scorer_registry
from utilities.data_files import Part, check_columns, checked_items, describe_columns, read_published
from utilities.errors import UserError, in_words
from utilities.hub import Hub, read_hub
from utilities.prompt_format import draw_examples
from utilities.prompts import bundled
from utilities.registry import unknown_name
from utilities.scorers.base import PromptedScorer
from utilities.scorers.function import DecoratedFunction, scorer_from_file
from utilities.user_code import absolute_spec, file_of

if TYPE_CHECKING:
    from utilities.judges.panel import Panel

__all__ = [
    "DATA_FILES",
    "ItemSet",
    "ReportOnly",
    "Task",
    "TaskFile",
    "asks_judge",
    "list_tasks",
    "load_task",
    "make_scorer",
    "read_items",
    "read_task_file",
    "scorer_of",
    "with_examples",
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
CHAT: dict[str, Any] = {"prompt": "bare", "chat": True, "max_tokens": 100}
"""Options with which a small chat model answers the instructions of a bundled task."""
REFUSED_OPTIONS = frozenset({"trust_remote_code", "own_scoring", "judge"})
"""Options of scorers that a task file must not set: they run code or select the judge."""
TEXTS = frozenset({"pattern", "topic", "stop"})
"""Options of scorers that are free text and never a path."""


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


def group_of(item: Item, group_by: str) -> str | None:
    """The group of an item: the value of a field, or of the data's grouping column."""
    value: str | None = getattr(item, group_by if group_by in Item.model_fields else "group")
    return value


@dataclass(frozen=True)
class ItemSet:
    """A loaded item set: its scorer and its two splits."""

    name: str
    scorer: Scorer
    dev: tuple[Item, ...]
    test: tuple[Item, ...]
    origin: str
    """File or hub repository of the items."""
    overlap: tuple[str, ...] = ()
    """Ids of the test items that also occur in dev; see `find_overlap`."""
    group_by: GroupBy | None = None
    examples: str = ""
    """Where the examples of `few_shot` are from; empty if there are none."""

    def split(self, name: Split) -> tuple[Item, ...]:
        """The items of a split."""
        return self.dev if name == "dev" else self.test

    def part(self, item: Item) -> str:
        """The part of an item: the set's name, or "set:group" with `group_by`."""
        return self.name if self.group_by is None else f"{self.name}:{group_of(item, self.group_by)}"

    def parts(self, evaluation: Evaluation, split: Split) -> dict[str, Evaluation]:
        """The scorer's evaluation of a split under the set's name; with `group_by`, its results by "set:group".

        The groups are in the order of their first items; usage is not divided among them.
        """
        if self.group_by is None:
            return {self.name: evaluation}
        part = {item.id: self.part(item) for item in self.split(split)}
        groups: dict[str, list[ItemResult]] = {}
        for result in evaluation.results:
            # A group of one source would be a single cluster without a variance estimate. As a group the source is
            # fixed, so each of its items is a cluster.
            alone = replace(result, cluster=result.item_id) if self.group_by == "source" else result
            groups.setdefault(part[result.item_id], []).append(alone)
        return {name: Evaluation.of(results) for name, results in groups.items()}


@dataclass(frozen=True)
class ReportOnly:
    """A scorer of an item set's responses that is reported and not optimised."""

    scorer: Scorer
    of: str

    async def __call__(self, items: Sequence[Item], evaluation: Evaluation) -> Evaluation:
        """Scores the responses of an evaluation of `items`; unanswered items keep their reason."""
        by_id = {item.id: item for item in items}
        answered = [result for result in evaluation.results if result.response.finish_reason != "unanswered"]
        outcomes = await self.scorer.score(
            [by_id[result.item_id] for result in answered], [result.response for result in answered]
        )
        scored = dict(zip((result.item_id for result in answered), outcomes, strict=True))
        return Evaluation.of([replace(r, outcome=scored.get(r.item_id, r.outcome)) for r in evaluation.results])


@dataclass(frozen=True)
class Task:
    """A task with its data; called with a model and a split, it is the utility `f(model) -> Evaluation`."""

    name: str
    title: str
    edition: str
    combination: str
    item_sets: Mapping[str, ItemSet]
    settings: Mapping[str, Any]
    weights: Mapping[str, float] | None = None
    """Weight of each item set if `combination` is weighted_mean."""
    report_only: Mapping[str, ReportOnly] = field(default_factory=dict)
    """Scorers that are reported and not optimised, by name."""

    @property
    def judged(self) -> bool:
        """Whether a judge scores an item set; then the search monitors over-optimisation."""
        return any(s.scorer.judged for s in self.item_sets.values())

    @property
    def combine(self) -> Callable[..., Any]:
        """The function that combines the values of the parts into one."""
        from utilities.combine import combinations, weighted_mean  # lazy import, as below: listing tasks needs no numpy

        if self.combination == "weighted_mean":
            return partial(weighted_mean, weights=self.weights)
        return combinations.get(self.combination)

    async def __call__(self, model: Model, split: Split) -> Evaluation:
        """Evaluates `model` on all item sets concurrently and combines the values of the sets or of their groups."""
        evaluations = await asyncio.gather(*(s.scorer(model, s.split(split)) for s in self.item_sets.values()))
        return self.joined(dict(zip(self.item_sets, evaluations, strict=True)), split)

    def joined(self, found: Mapping[str, Evaluation], split: Split) -> Evaluation:
        """Combines the evaluations of all item sets, by name, into the task's evaluation."""
        from utilities.combine import combine_evaluations

        parts: dict[str, Evaluation] = {}
        for name, s in self.item_sets.items():
            parts |= s.parts(found[name], split)
        usage = sum((evaluation.usage for evaluation in found.values()), Usage())
        return replace(combine_evaluations(parts, self.combine), usage=usage)

    def size(self, split: Split) -> int:
        """Number of items of a split over all item sets."""
        return sum(len(s.split(split)) for s in self.item_sets.values())

    def without_overlap(self) -> Task:
        """The task without the test items that also occur in dev.

        Raises:
            UserError: The test split of an item set becomes empty.
        """
        sets = {}
        for name, s in self.item_sets.items():
            test = tuple(item for item in s.test if item.id not in set(s.overlap))
            if not test:
                raise UserError(
                    f"{s.origin}: all {len(s.test)} test items of {name!r} stand in dev too, so dropping the overlap"
                    " leaves nothing to test on. Run without --drop-overlap, and read test values as dev values."
                )
            sets[name] = replace(s, test=test, overlap=())
        return replace(self, item_sets=sets)


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


DATA_FILES = {".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"}


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


def load_task(
    task: str,
    *,
    edition: str | None = None,
    prefer: str = "full",
    data: Path | None = None,
    limit: int | None = None,
    utility: str | None = None,
    options: Mapping[str, Any] | None = None,
    combine: str | None = None,
    judge: Panel | None = None,
    report_only: Mapping[str, Mapping[str, Any] | None] | None = None,
    trust: bool = False,
    chat: bool = False,
) -> Task:
    """Loads a task with its data and checks every item.

    Args:
        task: A bundled name, or the path of a task file.
        edition: The edition; by default the preferred one if it exists, else the first.
        prefer: The preferred edition if `edition` is None.
        data: Folder with the files of the published data; for every edition but `mini`.
        limit: Maximum number of items per split and item set, from the start.
        utility: Replaces the task's scorers: a registered scorer, or FILE.py:NAME.
        options: Options of the scorers, which override those of the task file.
        combine: Replaces the task file's combination.
        judge: The judges of the scorers that need some.
        report_only: Options of report-only scorers by name, which override the task file's; None removes the scorer.
        trust: As in `read_task_file`.
        chat: Whether the base model follows instructions in a chat format: judged answers of a bundled task are then
            asked for with `CHAT`.

    Raises:
        UserError: Unknown names, missing or malformed data; the message names file and line.
    """
    from utilities.combine import combinations

    described, path = read_task_file(task, trust=trust)
    edition = described.choose(edition, prefer)
    if data is not None and edition == "mini":
        raise UserError("--data is the folder of the published data, and edition 'mini' is bundled: add --edition full")
    if data is not None and not data.is_dir():
        raise UserError(f"--data {data}: there is no such folder")
    combination = absolute_spec(described.combine, path.parent) if combine is None else combine
    combinations.get(combination)
    chosen = described.editions[edition]
    if combination == "weighted_mean":
        _check_weights(described.weights or {}, chosen, path)
    if chat and path.parent == bundled("tasks"):
        asked = {name: s for name, s in chosen.item_sets.items() if _takes_judge(_maker(s.scorer))}
        changed = {name: s.model_copy(update={"options": _chat_options(s.options)}) for name, s in asked.items()}
        chosen = chosen.model_copy(update={"item_sets": {**chosen.item_sets, **changed}})
    sets = {
        name: _load_item_set(name, s, path.parent / "data", data, limit, utility, options or {}, judge)
        for name, s in chosen.item_sets.items()
    }
    weights = described.weights if combination == "weighted_mean" else None
    report_only_scorers = _load_report_only(chosen, path.parent, report_only or {}, judge)
    return Task(
        described.name, described.title, edition, combination, sets, chosen.settings, weights, report_only_scorers
    )


def _chat_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an item set, with `CHAT`; a system prompt names the topic, as "Tell me about Zoe" does not."""
    topic = options.get("topic")
    about = {"system_prompt": f"You are a helpful assistant. The user is interested in {topic}."} if topic else {}
    return {**options, **CHAT, **about}


def _load_report_only(
    chosen: Edition, folder: Path, overrides: Mapping[str, Mapping[str, Any] | None], judge: Panel | None
) -> dict[str, ReportOnly]:
    scorers = {}
    for name, one in chosen.report_only.items():
        options = overrides.get(name, {})
        if options is None:
            continue
        try:
            scorer = make_scorer(absolute_spec(one.scorer, folder), {**one.options, **options}, judge)
        except UserError as error:
            raise UserError(f"report_only {name!r}: {error}") from error
        scorers[name] = ReportOnly(scorer, one.of or next(iter(chosen.item_sets)))
    return scorers


def _check_weights(weights: Mapping[str, float], chosen: Edition, path: Path) -> None:
    for name, item_set in chosen.item_sets.items():
        if name not in weights:
            raise UserError(f"{path}: weighted_mean needs a weight for item set {name!r}: add weights: {{{name}: 1}}")
        if item_set.group_by is not None:
            raise UserError(f"{path}: weighted_mean weighs whole item sets, and {name!r} is in groups: remove group_by")


def make_scorer(name: str, options: Mapping[str, Any], judge: Panel | None = None) -> Scorer:
    """Creates a scorer with its options.

    Args:
        name: A registered scorer, or FILE.py:NAME.
        options: Arguments of its constructor.
        judge: Passed to a scorer with a parameter `judge`.

    Raises:
        UserError: The scorer is unknown, an option is invalid, or it needs a judge.
    """
    maker = _maker(name)
    try:
        return maker(**options, **({"judge": judge} if _takes_judge(maker) else {}))
    except TypeError as error:
        raise UserError(f"scorer {name!r} does not take its options: {error}") from error


def _maker(name: str) -> Callable[..., Scorer]:
    """The constructor of the scorer `name`."""
    if name.endswith(".py"):
        raise UserError(f"utility {name!r}: expected FILE.py:NAME, the name of a function or class in that file")
    entry = scorer_from_file(name) if file_of(name) else scorer_registry.get(name)
    if inspect.isclass(entry) and Scorer not in entry.__mro__:  # adds the defaults of the optional members
        return cast(Callable[..., Scorer], type(entry.__name__, (entry, Scorer), {"__module__": entry.__module__}))
    return entry.scorer if isinstance(entry, DecoratedFunction) else entry


def asks_judge(edition: Edition, folder: Path, utility: str | None = None) -> bool:
    """Whether a scorer of an edition (or the utility that replaces them) has a parameter `judge`.

    Args:
        edition: An edition of a task file.
        folder: The task file's folder, base of its relative paths.
        utility: A scorer's name, or FILE.py:NAME.

    Raises:
        UserError: The scorer is unknown.
    """
    scored = [utility] if utility else [absolute_spec(s.scorer, folder) for s in edition.item_sets.values()]
    names = [*scored, *(absolute_spec(one.scorer, folder) for one in edition.report_only.values())]
    return any(_takes_judge(_maker(name)) for name in names)


def _takes_judge(maker: Callable[..., Scorer]) -> bool:
    return "judge" in inspect.signature(maker).parameters


def _load_item_set(
    name: str,
    described: ItemSetFile,
    beside: Path,
    data: Path | None,
    limit: int | None,
    utility: str | None,
    options: Mapping[str, Any],
    judge: Panel | None,
) -> ItemSet:
    try:
        scorer = scorer_of(described, beside.parent, utility, options, judge)
    except UserError as error:
        raise UserError(f"item set {name!r}: {error}") from error
    parts, origin = _read_splits(name, described, beside, data, _columns(scorer))
    splits, examples = with_examples(scorer, described, parts, origin)
    for split, items in splits.items():
        if not items:
            raise UserError(f"{origin}: split {split!r} is empty")
        for item in items:
            if problem := scorer.check(item):
                raise UserError(f"{origin}, {split} item {item.id!r}: {problem}")
            if described.group_by and not group_of(item, described.group_by):
                raise UserError(
                    f"{origin}, {split} item {item.id!r}: the item has no {described.group_by}, by which item set"
                    f" {name!r} is grouped"
                )
    dev, test = splits["dev"][:limit], splits["test"][:limit]
    overlap = find_overlap(dev, test)
    return ItemSet(name, scorer, tuple(dev), tuple(test), origin, overlap, described.group_by, examples)


def _columns(scorer: Scorer | None) -> tuple[str, ...]:
    return scorer.columns if isinstance(scorer, PromptedScorer) else ()


def scorer_of(
    described: ItemSetFile, folder: Path, utility: str | None, options: Mapping[str, Any], judge: Panel | None = None
) -> Scorer:
    """The scorer of an item set with all its options, or the utility that replaces it.

    Raises:
        UserError: As `make_scorer`.
    """
    if utility is not None:
        return make_scorer(utility, options, judge)
    own = {**_from_folder(described.options, folder), **options}
    return make_scorer(absolute_spec(described.scorer, folder), own, judge)


def with_examples(
    scorer: Scorer, described: ItemSetFile, parts: Mapping[Part, list[Item]], origin: str
) -> tuple[dict[Split, list[Item]], str]:
    """Gives the scorer its examples for `few_shot`.

    Returns:
        The items that are asked, by split, and where the examples are from, in words.

    Raises:
        UserError: The scorer takes no examples, or there are not enough.
    """
    asked: dict[Split, list[Item]] = {"dev": parts["dev"], "test": parts["test"]}
    if not isinstance(scorer, PromptedScorer) or not scorer.prompt.few_shot:
        return asked, ""
    count, train = scorer.prompt.few_shot, parts.get("train")
    source = described.examples or ("train" if train is not None else "dev")
    answered = [item for item in (asked["dev"] if train is None else train) if scorer.gold_text(item).strip()]
    drawn = draw_examples(count, answered, [*asked["dev"], *asked["test"]])
    if drawn is None or (train is None and len(drawn) == len(asked["dev"])):
        raise UserError(
            f"{origin}: few_shot: {count}: {source} has {len(answered)} items with an answer, which are too few for"
            f" {count} examples of other questions and sources before every item; name a file with `examples`, add a"
            " list `train` to the data, or take fewer"
        )
    scorer.show_examples(drawn)
    if train is not None:
        return asked, f"{len(drawn)} items of {source}"
    shown = {item.id for item in drawn}
    asked["dev"] = [item for item in asked["dev"] if item.id not in shown]
    return asked, f"{len(drawn)} items of dev, which are not asked"


def _from_folder(options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The options with paths of prompt files resolved relative to the task file's folder."""
    return {
        name: str(folder / value)
        if name.endswith("prompt") and isinstance(value, str) and value.endswith(".jinja") and "{{" not in value
        else value
        for name, value in options.items()
    }


def _read_splits(
    name: str, described: ItemSetFile, beside: Path, data: Path | None, columns: Sequence[str]
) -> tuple[dict[Part, list[Item]], str]:
    """The items of both splits, examples in `train`, and their origin."""
    parts, origin = _read_parts(name, described, beside, data, columns)
    if described.examples is not None:
        path = _in_folders(described.examples, beside, data)
        if not path.is_file():
            raise UserError(f"item set {name!r}: the file of its examples {path} does not exist")
        examples = read_published(path, described.answers, columns=columns)
        return {**parts, "train": [item for own in examples.values() for item in own]}, origin
    return parts, origin


def _in_folders(file: str, beside: Path, data: Path | None) -> Path:
    """Path of a data file in `--data`, or in the folder `data` beside the task file, or beside it."""
    path = (data or beside) / file
    return beside.parent / file if data is None and not path.is_file() and (beside.parent / file).is_file() else path


def _read_parts(
    name: str, described: ItemSetFile, beside: Path, data: Path | None, columns: Sequence[str]
) -> tuple[dict[Part, list[Item]], str]:
    path = _in_folders(described.file or "", beside, data)
    if described.items is not None:
        origin = f"{beside.parent}, item set {name!r}"
        return _inline(described, origin, columns), origin
    if path.is_file():
        return read_published(path, described.answers, described.group_by, columns), str(path)
    if data is not None:  # no fallback: other data would go unnoticed
        hub = f"; without --data the hub would be asked for {described.hub.path}" if described.hub else ""
        raise UserError(f"item set {name!r}: --data {data} holds no file {described.file}{hub}")
    if described.hub is not None:
        own = beside.parent / described.hub.path  # relative to the task file's folder
        source = described.hub.model_copy(update={"path": str(own)}) if own.is_dir() else described.hub
        return read_hub(source, described.group_by, columns), described.hub.path
    raise UserError(
        f"item set {name!r}: {path} does not exist and there is no public copy on the hub;"
        f" give the folder that holds {described.file} with --data DIR"
    )


def read_items(
    edition: Edition, folder: Path, data: Path | None = None, scorers: Mapping[str, Scorer | None] | None = None
) -> dict[str, dict[Part, list[Item]]]:
    """The items of an edition by item set and part, without its scorers.

    Args:
        edition: An edition of a task file.
        folder: The task file's folder.
        data: Folder with the published data files.
        scorers: Scorers whose prompts' columns the items have, by item set.

    Raises:
        UserError: Data are missing or malformed.
    """
    return {
        name: _read_splits(name, s, folder / "data", data, _columns((scorers or {}).get(name)))[0]
        for name, s in edition.item_sets.items()
    }


def _inline(described: ItemSetFile, where: str, columns: Sequence[str]) -> dict[Part, list[Item]]:
    """Items inside the task file; a plain text is an instruction."""
    lists = described.items or {}
    entries = [
        (split, k, {"question": entry} if isinstance(entry, str) else entry)
        for split, rows in lists.items()
        for k, entry in enumerate(rows)
    ]
    locations = [f"{where}, {split} item {k}" for split, k, _ in entries]
    items = lettered([entry for *_, entry in entries], locations.__getitem__, described.answers)
    check_columns(items, columns, where)
    splits: dict[Part, list[Item]] = {}
    for split in lists:
        indices = [k for k, (name, *_) in enumerate(entries) if name == split]
        own_locations = [locations[k] for k in indices]
        group_by = described.group_by if split != "train" else None
        splits[split] = checked_items([items[k] for k in indices], own_locations.__getitem__, group_by, columns)
    return splits
