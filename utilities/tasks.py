"""Tasks: what is asked and how the answers become one number. One YAML file a task; its data in the published format.

A task has editions (`mini`, bundled for the embedded model; `full`, the published data), an edition has item sets, an
item set has a `dev` and a `test` split. dev chooses, test is read once.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator

from utilities.core import Evaluation, Item, Model, Scorer, scorer_registry
from utilities.errors import UserError, in_words
from utilities.prompts import bundled
from utilities.registry import unknown_name

__all__ = ["Hub", "ItemSet", "Task", "TaskFile", "list_tasks", "load_task"]

Split = Literal["dev", "test"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Hub(_Strict):
    """Where a public data set stands on the hub, and which of its columns are what."""

    path: str
    """Repository id, or a local folder that `datasets.load_dataset` reads."""
    name: str | None = None
    """Configuration of the data set."""
    splits: dict[Split, str]
    """Which of its splits serve as dev and test; the same name for both cuts it in two without overlap."""
    sizes: dict[Split, PositiveInt] = {"dev": 200, "test": 1000}
    """Items a split, chosen with a fixed seed; the paper's sizes by default."""
    question: str
    """Column of the question."""
    options: str | tuple[str, ...]
    """One column that holds a list or a letter-to-option mapping, or the columns of the single options."""
    answer: str
    """Column of the right option: its letter, or its index from 0."""

    @field_validator("splits", "sizes")
    @classmethod
    def _both_splits(cls, given: dict[Split, Any]) -> dict[Split, Any]:
        if len(given) < 2:
            raise ValueError("both dev and test are needed")
        return given


class ItemSetFile(_Strict):
    """One item set of an edition."""

    scorer: str
    """Name of a registered scorer."""
    options: dict[str, Any] = {}
    """Arguments of the scorer."""
    file: str
    """File name in `--data`, or in the folder `data` beside the task file."""
    hub: Hub | None = None
    """Read from here where no `--data` is given and the folder beside the task file does not have the file."""


class Edition(_Strict):
    """One size and source of a task's data."""

    settings: dict[str, Any] = {}
    """Run settings that this edition recommends; the user's own win."""
    item_sets: dict[str, ItemSetFile] = Field(min_length=1)


class TaskFile(_Strict):
    """A task file, as written by hand."""

    name: str
    title: str
    combine: str = "harmonic_mean"
    """How the values of the item sets become one."""
    editions: dict[str, Edition] = Field(min_length=1)

    def choose(self, edition: str | None, prefer: str) -> str:
        """The edition asked for; else the preferred one, where there is such a one; else the first.

        Raises:
            UserError: The task has no such edition.
        """
        if edition is None:
            return prefer if prefer in self.editions else next(iter(self.editions))
        if edition not in self.editions:
            raise unknown_name(f"edition of task {self.name}", edition, self.editions)
        return edition


@dataclass(frozen=True)
class ItemSet:
    """A loaded item set: its scorer and its two splits."""

    name: str
    scorer: Scorer
    dev: tuple[Item, ...]
    test: tuple[Item, ...]
    origin: str
    """File or hub repository that the items were read from."""
    overlap: tuple[str, ...] = ()
    """Ids of the test items that stand in dev too, also with their options in another order."""

    def split(self, name: Split) -> tuple[Item, ...]:
        """The items of a split."""
        return self.dev if name == "dev" else self.test


@dataclass(frozen=True)
class Task:
    """A task with its data: awaited with a model and a split, it is the utility `f(model) -> Evaluation`."""

    name: str
    title: str
    edition: str
    combination: str
    item_sets: Mapping[str, ItemSet]
    settings: Mapping[str, Any]

    @property
    def combine(self) -> Callable[..., Any]:
        """The function that makes one number of the item sets' values."""
        from utilities.combine import combinations  # here and below: naming the tasks needs no numpy

        return combinations.get(self.combination) if len(self.item_sets) > 1 else _only

    async def __call__(self, model: Model, split: Split) -> Evaluation:
        """Evaluates `model` on all item sets at the same time and combines their values."""
        from utilities.combine import combine_evaluations

        sets = list(self.item_sets.values())
        values = await asyncio.gather(*(s.scorer(model, s.split(split)) for s in sets))
        return combine_evaluations({s.name: value for s, value in zip(sets, values, strict=True)}, self.combine)

    def size(self, split: Split) -> int:
        """Items of a split, over all item sets."""
        return sum(len(s.split(split)) for s in self.item_sets.values())

    def without_overlap(self) -> Task:
        """The task with the overlapping items taken out of test.

        Raises:
            UserError: Nothing of an item set's test split is left.
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


def _only(values: Mapping[str, Any]) -> Any:
    return next(iter(values.values()))


def list_tasks() -> dict[str, Path]:
    """The bundled tasks and their files, by name."""
    return {path.stem: path for path in sorted(bundled("tasks").glob("*.yaml"))}


def read_task_file(task: str) -> tuple[TaskFile, Path]:
    """The task file called `task`: a bundled name, or a path that ends in .yaml.

    Raises:
        UserError: No such task, or a file that does not follow the format.
    """
    known = list_tasks()
    if task.endswith((".yaml", ".yml")):
        path = Path(task)
        if not path.is_file():
            raise UserError(f"there is no task file {task}")
    elif task in known:
        path = known[task]
    else:
        raise unknown_name("task", task, known)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise UserError(f"{path}: a task file is a mapping with name, title and editions")
        return TaskFile(**data), path
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    except (ValidationError, TypeError) as error:
        told = in_words(error) if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{path}: {told}") from error


def load_task(
    task: str, *, edition: str | None = None, prefer: str = "full", data: Path | None = None, limit: int | None = None
) -> Task:
    """A task with its data, checked item by item.

    Args:
        task: A bundled name, or the path of a task file.
        edition: Which edition; by default the only one, or the preferred one.
        prefer: The edition taken where the task has several and none is asked for.
        data: Folder with the files of the published data; for every edition but `mini`.
        limit: At most so many items of each split of each item set, from the front.

    Raises:
        UserError: Unknown names, missing or malformed data; the message names file and line.
    """
    from utilities.combine import combinations

    described, path = read_task_file(task)
    edition = described.choose(edition, prefer)
    if data is not None and edition == "mini":
        raise UserError("--data is the folder of the published data, and edition 'mini' is bundled: add --edition full")
    if data is not None and not data.is_dir():
        raise UserError(f"--data {data}: there is no such folder")
    combinations.get(described.combine)
    chosen = described.editions[edition]
    sets = {name: _load_item_set(name, s, path.parent / "data", data, limit) for name, s in chosen.item_sets.items()}
    return Task(described.name, described.title, edition, described.combine, sets, chosen.settings)


def _load_item_set(name: str, described: ItemSetFile, beside: Path, data: Path | None, limit: int | None) -> ItemSet:
    try:
        scorer: Scorer = scorer_registry.get(described.scorer)(**described.options)
    except TypeError as error:
        raise UserError(f"item set {name!r}: scorer {described.scorer!r} does not take its options: {error}") from error
    path = (data or beside) / described.file
    if path.is_file():
        splits, origin = read_published(path), str(path)
    elif data is not None:  # a folder that was named is what was meant: other data in its place would pass unnoticed
        hub = f"; without --data the hub would be asked for {described.hub.path}" if described.hub else ""
        raise UserError(f"item set {name!r}: --data {data} holds no file {described.file}{hub}")
    elif described.hub is not None:
        splits, origin = read_hub(described.hub), described.hub.path
    else:
        raise UserError(
            f"item set {name!r}: {path} does not exist and there is no public copy on the hub;"
            f" give the folder that holds {described.file} with --data DIR"
        )
    for split, items in splits.items():
        if not items:
            raise UserError(f"{origin}: split {split!r} is empty")
        for item in items:
            if problem := scorer.check(item):
                raise UserError(f"{origin}, {split} item {item.id!r}: {problem}")
    dev, test = splits["dev"][:limit], splits["test"][:limit]
    return ItemSet(name, scorer, tuple(dev), tuple(test), origin, find_overlap(dev, test))


def find_overlap(dev: Sequence[Item], test: Sequence[Item]) -> tuple[str, ...]:
    """Ids of the test items whose question and options, in any order and lettering, stand in dev too."""
    seen = {_content(item) for item in dev}
    return tuple(item.id for item in test if _content(item) in seen)


def _content(item: Item) -> tuple[str, tuple[str, ...]]:
    """What makes two items the same: question and options, whatever their order, lettering and white space."""
    options = (item.choices or {}).values()
    return " ".join(item.question.split()), tuple(sorted(" ".join(option.split()) for option in options))


def read_published(path: Path) -> dict[Split, list[Item]]:
    """The two splits of a file in the published format, `{"dev": [...], "test": [...]}`.

    Raises:
        UserError: Not UTF-8, not JSON, a split missing, a malformed item, an id twice; with file and line.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
        document = json.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists in lists in lists
        raise UserError(f"{path}: not readable as JSON: {error}") from error

    def where(split: Split, k: int) -> str:
        return f"{path}, line {_line_of(text, split, k)}, {split} item {k}"

    splits: dict[Split, list[Item]] = {}
    for split in ("dev", "test"):
        entries = document.get(split) if isinstance(document, dict) else None
        if not isinstance(entries, list):
            raise UserError(f'{path}: expected {{"dev": [items], "test": [items]}}, found no list {split!r}')
        splits[split] = _items(entries, partial(where, split))
    return splits


def _items(entries: Sequence[Any], where: Callable[[int], str]) -> list[Item]:
    """Validated items with unique ids; an entry without an id gets its position as one.

    Published files repeat ids (every item of gsm8k's dev is "0"): another question under a known id gets its position
    added, `0#1`. The same question under the same id is a mistake.
    """
    items, ids, contents = [], set(), set()
    for k, entry in enumerate(entries):
        try:
            item = Item(**{"id": str(k), **entry})
        except ValidationError as error:
            raise UserError(f"{where(k)}: {in_words(error)}") from error
        except TypeError as error:
            raise UserError(f"{where(k)}: an item is an object with question, choices and answer") from error
        known = (item.id, _content(item))
        unique = f"{item.id}#{k}" if item.id in ids else item.id
        if known in contents or unique in ids:
            raise UserError(f"{where(k)}: the id {item.id!r} stands twice in this split")
        ids.add(unique)
        contents.add(known)
        items.append(item if unique == item.id else item.model_copy(update={"id": unique}))
    return items


def _line_of(text: str, split: str, position: int) -> int:
    """The line on which item `position` of a split begins; only needed for error messages, so it parses again."""
    decoder = json.JSONDecoder()

    def skip(at: int, what: str) -> int:
        while at < len(text) and text[at] in what:
            at += 1
        return at

    at, found = skip(0, " \t\r\n{"), 0
    while text[at] != "}":
        key, at = decoder.raw_decode(text, at)
        at = skip(at, " \t\r\n:")
        if key == split:  # of a repeated key the last value counts, as for `json.loads`
            found = skip(at + 1, " \t\r\n")
        _, at = decoder.raw_decode(text, at)
        at = skip(at, " \t\r\n,")
    for _ in range(position):
        _, found = decoder.raw_decode(text, found)
        found = skip(found, " \t\r\n,")
    return text.count("\n", 0, found) + 1


def read_hub(hub: Hub) -> dict[Split, list[Item]]:
    """The two splits of a data set of the hub, sampled with a fixed seed.

    Raises:
        UserError: The data set cannot be had, or its columns are others than described.
    """
    import datasets

    splits: dict[Split, list[Item]] = {}
    loaded: dict[str, Any] = {}
    for split, theirs in hub.splits.items():
        try:
            if theirs not in loaded:
                loaded[theirs] = datasets.load_dataset(hub.path, hub.name, split=theirs)
        except Exception as error:  # the library raises a dozen kinds: offline, renamed, gated, no such split
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(
                f"the data set {hub.path!r} could not be loaded from the hub ({reason});"
                " with the published files at hand, give their folder with --data DIR"
            ) from error
        table = loaded[theirs]
        order = random.Random(0).sample(range(len(table)), len(table))
        first = hub.sizes["dev"] if split == "test" and hub.splits["dev"] == theirs else 0
        chosen = order[first : first + hub.sizes[split]]
        entries = [_from_row(hub, str(k), table[k]) for k in chosen]
        names = [f"{hub.path}, {split}, row {k}" for k in chosen]
        splits[split] = _items(entries, names.__getitem__)
    return splits


def _from_row(hub: Hub, id: str, row: Mapping[str, Any]) -> dict[str, Any]:
    wanted = [hub.question, hub.answer, *([hub.options] if isinstance(hub.options, str) else hub.options)]
    for column in wanted:
        if column not in row:
            raise UserError(f"the data set {hub.path!r} has no column {column!r}; it has {', '.join(row)}")
    options = row[hub.options] if isinstance(hub.options, str) else [row[column] for column in hub.options]
    if isinstance(options, Mapping):
        choices = dict(options)
    else:
        choices = {chr(ord("A") + k): option for k, option in enumerate(options or ())}
    answer = row[hub.answer]
    if isinstance(answer, int) and 0 <= answer < len(choices):
        answer = list(choices)[answer]
    # A table has the same columns in every row: where a question has fewer options than another, the rest are null.
    choices = {letter: option for letter, option in choices.items() if option is not None}
    return {"id": id, "question": row[hub.question], "choices": choices, "answer": answer}
