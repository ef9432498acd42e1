"""Labels of answers by several raters, some of them missing."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utilities.bounded_input import read_json
from utilities.errors import UserError
from utilities.lab.scores import Answer

__all__ = ["Label", "Labels", "read_labels"]

Floats = NDArray[np.float64]
FIELDS = ("item", "response", "rater", "label")
VERDICT = {"pair", "verdict", "item", "a", "b", "rater"}
"""Fields of a line of `annotate`."""
TRUTH = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
"""Words that are labels; every other label is a number."""
MISSING = {"", "na", "n/a", "nan", "null", "none"}


@dataclass(frozen=True, slots=True)
class Label:
    """The label of one rater for one answer; higher is better."""

    item: str
    response: str
    """The response's text, or the name of the model that gave it."""
    rater: str
    label: float


@dataclass(frozen=True)
class Labels:
    """Labels of answers; a rater has at most one for an answer."""

    labels: tuple[Label, ...]
    where: str = "labels"
    """The file they were read from, for messages."""

    @cached_property
    def answers(self) -> tuple[Answer, ...]:
        """The labelled answers, in the order of the file."""
        return tuple(dict.fromkeys((one.item, one.response) for one in self.labels))

    @cached_property
    def raters(self) -> tuple[str, ...]:
        """Names of the raters, in the order of the file."""
        return tuple(dict.fromkeys(one.rater for one in self.labels))

    @cached_property
    def table(self) -> Floats:
        """[raters, answers]; nan if a rater has no label for an answer."""
        answers = {answer: k for k, answer in enumerate(self.answers)}
        raters = {rater: k for k, rater in enumerate(self.raters)}
        table = np.full((len(raters), len(answers)), np.nan)
        for one in self.labels:
            table[raters[one.rater], answers[one.item, one.response]] = one.label
        return table


def read_labels(path: Path) -> Labels:
    """Labels of a file, JSON lines or CSV (by its ending), with the fields item, response, rater and label.

    A label is a number, true or false, yes or no; a line without one (empty, null, NA) is a missing label. A file
    without the field rater has one rater. A line of `annotate` labels two answers: 1 for an answer that is better or
    good, 0 for one that is worse or bad. A rater's last verdict on a pair counts, and of a repeated pair the first one.

    Raises:
        UserError: A file that cannot be read, a line with a missing field, or two labels of one rater for one answer;
            with file and line.
    """
    if path.suffix not in {".jsonl", ".csv"}:
        raise UserError(f"{path}: labels are read from .jsonl or .csv, with the fields {', '.join(FIELDS)}")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    rows = _verdicts_as_labels(_json_lines(path, content)) if path.suffix == ".jsonl" else _csv_rows(path, content)
    labels, seen = [], set()
    for line, row in rows:
        where = f"{path}, line {line}"
        if absent := [name for name in FIELDS if name != "rater" and name not in row]:
            raise UserError(f"{where}: no {' and no '.join(absent)}; a label has {', '.join(FIELDS)}")
        label = _as_number(row["label"], where)
        if label is None:
            continue
        one = Label(str(row["item"]), str(row["response"]), str(row.get("rater") or "rater"), label)
        if (key := (one.item, one.response, one.rater)) in seen:
            raise UserError(f"{where}: {one.rater} labels this answer to item {one.item!r:.60} a second time")
        seen.add(key)
        labels.append(one)
    if not labels:
        raise UserError(f"{path}: there is no label in it; a label has {', '.join(FIELDS)}")
    return Labels(tuple(labels), str(path))


def _json_lines(path: Path, content: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = read_json(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: a label is an object with {', '.join(FIELDS)}")
        yield number, row


def _verdicts_as_labels(rows: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Labels as they are, then two labels for each verdict of `annotate`."""
    verdicts: dict[tuple[str, ...], tuple[int, Mapping[str, Any]]] = {}
    for line, row in rows:
        if VERDICT.issubset(row):
            verdicts[str(row["rater"]), str(row["pair"]).zfill(9)] = line, row
        else:
            yield line, row
    seen = set()
    for _, (line, row) in sorted(verdicts.items()):
        verdict, texts = row["verdict"], (str(row["a"]), str(row["b"]))
        repeated = (row["rater"], row["item"], *sorted(texts))
        if verdict is None or repeated in seen:
            continue
        seen.add(repeated)
        for side, text in zip("ab", texts, strict=True):
            good = int(verdict in (side, "both good"))
            yield line, {"item": row["item"], "response": text, "rater": row["rater"], "label": good}


def _csv_rows(path: Path, content: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(content.splitlines(keepends=True), strict=True)
    try:
        for row in reader:
            if None in row or any(value is None for value in row.values()):
                raise UserError(
                    f"{path}, line {reader.line_num}: {'more' if None in row else 'fewer'} columns than the first line"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not CSV: {error}") from error


def _as_number(label: Any, where: str) -> float | None:
    """A label as a number; None if it is missing."""
    text = str(label).strip().casefold()
    if label is None or text in MISSING:
        return None
    if text in TRUTH:
        return TRUTH[text]
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: the label is {label!r:.60}; a number, true, false, yes, no or nothing is accepted")
    return number
