"""Public data sets of the hub as item sets: mapping of columns and selection of rows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from utilities.answer_keys import Answers, lettered
from utilities.core import MAX_OPTIONS, Item
from utilities.data_files import PARTS, Part, checked_items, medium_in
from utilities.errors import UserError

__all__ = ["Hub", "read_hub"]


EXAMPLES = 100
"""Rows of `train` if its size is not given; as many as there are if fewer."""


class Hub(BaseModel):
    """Where a public data set stands on the hub, and which of its columns are what.

    A column inside another is named with a dot, such as `prompt.text`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """Repository id, or a local folder that `datasets.load_dataset` reads."""
    name: str | None = None
    """Configuration of the data set."""
    splits: dict[Part, str]
    """Which of its splits serve as dev, test and, for the examples of `few_shot`, train; the same name for several
    divides it without overlap."""
    sizes: dict[Part, PositiveInt] = {"dev": 200, "test": 1000}
    """Items a split, chosen with a fixed seed; the paper's sizes by default, and at most 100 for train.

    A data set with fewer rows is a mistake and not a smaller sample: nobody would notice a dev of 70 items.
    """
    question: str
    """Column of the question."""
    options: str | tuple[str, ...] | None = None
    """One column that holds a list or a letter-to-option mapping, or the columns of the single options.

    Nulls in it are no options. Without it, questions are answered freely.
    """
    labels: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """Column of the options' labels, a list; by default `label` beside an options column `text` (`choices.label` of
    `choices.text`). With labels, the answer is one of them."""
    answer: str | None = None
    """Column of the right option: its letter, its index from 0 as a number or as digits, or a list of 0s and one 1, an
    option each; in the same way in all rows. Without options, the column of the right answer, a text or a number;
    without any, questions are prompts and have no right answer."""
    answers: Answers | None = Field(default=None, exclude_if=lambda value: value is None)
    """How the answer column names the right option, if it is not a letter, an index or a label: `number` (from 1) or
    `text`."""
    answer_after: str | None = None
    """The answer is what stands after the last such mark in its column ("####" in gsm8k)."""
    shuffle: bool = False
    """Shuffles each row's options with a fixed seed, where the data set has the right one always first."""

    @field_validator("splits", "sizes")
    @classmethod
    def _both_splits(cls, value: dict[Part, Any]) -> dict[Part, Any]:
        if not {"dev", "test"} <= set(value):
            raise ValueError("both dev and test are needed")
        return value

    @model_validator(mode="after")
    def _answered(self) -> Hub:
        for needs in ("options", "answer_after"):
            if getattr(self, needs) is not None and self.answer is None:
                raise ValueError(f"{needs} without answer: which column says what is right?")
        if isinstance(self.options, tuple) and not 2 <= len(self.options) <= MAX_OPTIONS:
            raise ValueError(f"options: {len(self.options)} columns; 2 to {MAX_OPTIONS} are accepted")
        return self


def read_hub(hub: Hub, group_by: str | None = None, columns: Sequence[str] = ()) -> dict[Part, list[Item]]:
    """The splits of a data set of the hub, sampled with a fixed seed.

    Args:
        hub: The data set.
        group_by: A column whose value becomes the items' `group`.
        columns: Columns that the items' prompt reads.

    Raises:
        UserError: The data set cannot be loaded, has too few rows, or its columns differ from the description.
    """
    splits: dict[Part, list[Item]] = {}
    rows: dict[Part, list[_Row]] = {}
    used: Counter[str] = Counter()
    tables: dict[str, Any] = {}
    for split in [part for part in PARTS if part in hub.splits]:
        hub_split = hub.splits[split]
        if hub_split not in tables:
            tables[hub_split] = _load(hub, hub_split)
        table = tables[hub_split]
        order = random.Random(0).sample(range(len(table)), len(table))
        chosen = order[used[hub_split] :][: hub.sizes.get(split, EXAMPLES)]
        used[hub_split] += len(chosen)
        rows[split] = [_Row(f"{hub.path}, split {hub_split!r}", k, table[k]) for k in chosen]
    _check_kinds(hub, [row for split in rows.values() for row in split])
    for split, part in rows.items():
        locations = [row.where for row in part]
        grouped = group_by if split != "train" else None
        entries = [
            {**_entry(hub, row), **_group(row, grouped), "row": {name: row[name] for name in columns}} for row in part
        ]
        splits[split] = checked_items(entries, locations.__getitem__, grouped, columns)
    return splits


def _group(row: _Row, group_by: str | None) -> dict[str, Any]:
    return {} if group_by is None else {group_by: row[group_by]}


def _check_kinds(hub: Hub, rows: Sequence[_Row]) -> None:
    """Checks that all rows encode the correct option in the same way, and that none needs an image.

    Raises:
        UserError: The encodings differ, or a row contains a medium.
    """
    kinds: dict[str, _Row] = {}
    for row in rows:
        if (medium := medium_in(row.values)) is not None:
            raise row.wrong(medium, "it holds an image or another medium; models are asked with text alone")
        if hub.options is None or hub.answer is None or hub.answers is not None or _label_column(hub, row):
            continue
        answer = row[hub.answer]
        digits = isinstance(answer, str) and answer.isdigit()
        kinds.setdefault(
            "a list" if isinstance(answer, list) else "an index" if digits or isinstance(answer, int) else "a letter",
            row,
        )
    if len(kinds) > 1:
        (one, first), (other, second) = list(kinds.items())[:2]
        raise second.wrong(
            hub.answer or "",
            f"the answer is {other}, and {one} in row {first.number}; all rows must name the right option in one way:"
            " name the column of the labels with `labels`, or say `answers`: " + ", ".join(get_args(Answers)),
        )


def _label_column(hub: Hub, row: _Row) -> str | None:
    """The column of the options' labels."""
    if hub.labels is not None or not isinstance(hub.options, str) or not hub.options.endswith(".text"):
        return hub.labels
    beside = f"{hub.options.removesuffix('.text')}.label"
    holder = row.values.get(hub.options.removesuffix(".text"))
    return beside if isinstance(holder, Mapping) and "label" in holder else None


def _load(hub: Hub, hub_split: str) -> Any:
    """Loads a split of the data set and checks that it has enough rows."""
    import datasets

    try:
        table = datasets.load_dataset(hub.path, hub.name, split=hub_split)
    except Exception as error:  # the library raises many types: offline, renamed, gated, unknown split
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"the data set {hub.path!r} could not be loaded from the hub ({reason});"
            " with the published files at hand, give their folder with --data DIR"
        ) from error
    sizes = {split: hub.sizes[split] for split, name in hub.splits.items() if name == hub_split and split in hub.sizes}
    if len(table) < sum(sizes.values()):
        requested = " and ".join(f"{size} for {split}" for split, size in sizes.items())
        raise UserError(
            f"{hub.path}, split {hub_split!r}: it has {len(table)} rows, and {requested} are asked for;"
            " write smaller `sizes` in the task file"
        )
    return table


@dataclass(frozen=True)
class _Row:
    """A row with its location, for error messages."""

    table: str
    number: int
    values: Mapping[str, Any]

    @property
    def where(self) -> str:
        return f"{self.table}, row {self.number}"

    def wrong(self, column: str | tuple[str, ...], problem: str) -> UserError:
        return UserError(f"{self.where}, column {column!r}: {problem}")

    def __getitem__(self, column: str) -> Any:
        if column in self.values:
            return self.values[column]
        value: Any = self.values
        for part in column.split("."):
            if not isinstance(value, Mapping):
                raise self.wrong(column, f"nothing is inside of {value!r:.60}")
            if part not in value:
                raise self.wrong(column, f"there is no {part!r}; there are {', '.join(value)}")
            value = value[part]
        return value


def _entry(hub: Hub, row: _Row) -> dict[str, Any]:
    """Converts a row to an item in the published format."""
    question = row[hub.question]
    if not isinstance(question, str) or not question.strip():
        raise row.wrong(hub.question, f"expected a question, found {question!r:.60}")
    entry = {"id": str(row.number), "question": question}
    if hub.answer is None:
        return entry
    answer = row[hub.answer]
    if hub.answer_after is not None:
        if not isinstance(answer, str) or hub.answer_after not in answer:
            raise row.wrong(hub.answer, f"nothing stands after {hub.answer_after!r} in {answer!r:.60}")
        answer = answer.rpartition(hub.answer_after)[2].strip()
    if hub.options is None:
        return {**entry, "answer": _free_answer(hub.answer, answer, row)}
    options = _options(hub.options, row)
    if hub.answers is not None or _label_column(hub, row):
        pairs = [(key, text) for key, text in options.items() if text is not None]
        names = _names(hub, row, len(options)) or list(options)
        labels = [name for name, text in zip(names, options.values(), strict=True) if text is not None]
        choices = {"text": [text for _, text in pairs], "label": labels}
        item = {**entry, "choices": choices, "answer": answer}
        (item,) = lettered([item], lambda _: f"{row.where}, column {hub.answer!r}", hub.answers or "key")
        options, right = item["choices"], item["answer"]
    else:
        right = _letter(hub.answer, answer, options, row)
    # All rows have the same columns: if a question has fewer options than others, the rest are null.
    shown = [(letter, text) for letter, text in options.items() if text is not None]
    for letter, text in shown:
        if not isinstance(text, str) or not text.strip():
            raise row.wrong(hub.options, f"expected a text as option {letter}, found {text!r:.60}")
    choices = dict(shown)
    if hub.shuffle:
        random.Random(row.number).shuffle(shown)
        right = next((place for place, (letter, _) in zip(choices, shown, strict=True) if letter == right), right)
        choices = {place: text for place, (_, text) in zip(choices, shown, strict=True)}
    return {**entry, "choices": choices, "answer": right}


def _free_answer(column: str, answer: Any, row: _Row) -> str:
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        return str(answer)
    if not isinstance(answer, str) or not answer.strip():
        raise row.wrong(column, f"expected a text or a number, found {answer!r:.60}")
    return answer


def _options(columns: str | tuple[str, ...], row: _Row) -> dict[str, Any]:
    """The options by letter, including nulls, because an index counts them."""
    values = row[columns] if isinstance(columns, str) else [row[column] for column in columns]
    if not isinstance(values, list | Mapping):
        raise row.wrong(columns, f"expected a list or a mapping of options, found {values!r:.60}")
    if not 2 <= len(values) <= MAX_OPTIONS:
        raise row.wrong(columns, f"{len(values)} options; 2 to {MAX_OPTIONS} are accepted")
    return dict(values) if isinstance(values, Mapping) else dict(zip(ascii_uppercase, values, strict=False))


def _names(hub: Hub, row: _Row, size: int) -> list[str]:
    """The options' labels; empty if there is no column for them."""
    if (column := _label_column(hub, row)) is None:
        return []
    labels = row[column]
    if not isinstance(labels, list) or len(labels) != size:
        raise row.wrong(column, f"expected a list of {size} labels, one for each option, found {labels!r:.60}")
    return [str(label) for label in labels]


def _letter(column: str, answer: Any, options: Mapping[str, Any], row: _Row) -> str:
    """The letter of the correct option, from a letter, an index or a list of 0s and one 1."""
    letters = list(options)
    if isinstance(answer, list):
        if len(answer) != len(letters) or answer.count(1) != 1 or answer.count(0) != len(letters) - 1:
            raise row.wrong(column, f"expected one 1 and else 0s, a label for each of {len(letters)} options: {answer}")
        return letters[answer.index(1)]
    if isinstance(answer, str) and answer in options:
        return answer
    digits = {str(k): k for k in range(len(letters))}
    index = digits.get(answer) if isinstance(answer, str) else answer
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(letters):
        problem = f"{answer!r:.60} is none of the letters {', '.join(letters)} and no index below {len(letters)}"
        raise row.wrong(column, f"{problem}; an option's own text is not accepted")
    if isinstance(answer, str) and answer in options.values() and options[letters[index]] != answer:
        raise row.wrong(column, f"{answer!r} is the index of one option and the text of another; make it a number")
    return letters[index]
