"""Data files: the format of the published data, `{"dev": [items], "test": [items]}`, lists, JSON lines and tables."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from itertools import takewhile
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal

from pydantic import ValidationError

from utilities.answer_keys import Answers, lettered
from utilities.bounded_input import read_json
from utilities.contamination import content
from utilities.core import Item, Split
from utilities.errors import UserError, first_line, in_words

__all__ = [
    "PARTS",
    "Part",
    "check_columns",
    "checked_items",
    "medium_in",
    "describe_columns",
    "read_published",
    "split_rows",
    "table_item",
]

LONGEST = 10_000_000
"""Characters of an item. The longest contexts hold less, so more is a damaged file (a missing quotation mark)."""


Part = Split | Literal["train"]
"""A list of a data file; `train` is shown as examples and never asked."""
PARTS: tuple[Part, ...] = ("dev", "test", "train")
LABELS = frozenset({"domain", "source", "group"})
"""Fields whose numbers are read as texts."""
SPLIT_NAMES = frozenset({"dev", "validation", "train", "test"})
"""What a column `split` says."""


def read_published(
    path: Path, answers: Answers | None = None, group_by: str | None = None, columns: Sequence[str] = ()
) -> dict[Part, list[Item]]:
    """The parts of a data file, dev, test and perhaps train: JSON, JSON lines, CSV, TSV or Parquet, by the name's end.

    JSON holds `{"dev": [items], "test": [items]}`, also with `train`, or one list of items. One list, and every table,
    is divided: by the rows' column `split`, if it has one, else in two with a fixed seed.

    Args:
        path: The file.
        answers: How it names the right options; by default what fits all its items, see `utilities.answer_keys`.
        group_by: A field whose value becomes the items' `group`.
        columns: As in `checked_items`.

    Raises:
        UserError: Not readable, a split missing, a malformed item, an id twice; with file and line.
    """
    document, where = _read(path)
    both: tuple[Part, ...] = ("dev", "test")
    if isinstance(document, list):
        if len(document) < 2:
            raise UserError(f"{path}: {len(document)} items; a list needs at least two, one for dev and one for test")
        fields = columns_of(document)
        try:
            document = split_rows([table_item(row, fields) for row in document])
        except ValueError as error:
            raise UserError(f"{path}: {error}") from None
        places = document.pop("places")
    else:
        for split in both:
            if not isinstance(document, dict) or not isinstance(document.get(split), list):
                keys = (
                    f"found {', '.join(map(repr, document))}"
                    if isinstance(document, dict)
                    else f"found {_kind(document)}"
                )
                raise UserError(
                    f'{path}: expected a list of items, or {{"dev": [items], "test": [items]}}, found no list {split!r}'
                    f" ({keys:.200})"
                )
        if not isinstance(document.get("train", []), list):
            raise UserError(f"{path}: train is a list of items, not {_kind(document['train'])}")
        places = {split: list(range(len(document[split]))) for split in PARTS if split in document}
    parts: list[Part] = [part for part in PARTS if part in places]
    rows = [(part, k) for part in parts for k in range(len(document[part]))]

    def place(part: Part, k: int) -> str:
        return where(part, places[part][k])

    entries = lettered([document[part][k] for part, k in rows], lambda at: place(*rows[at]), answers)
    check_columns(entries, columns, str(path))
    splits: dict[Part, list[Item]] = {
        part: checked_items(
            [entry for entry, (own, _) in zip(entries, rows, strict=True) if own == part],
            partial(place, part),
            group_by if part != "train" else None,
            columns,
        )
        for part in parts
    }
    if (shown := document.get("icl_prompt")) is not None:  # the published files' name for a worked example
        if not isinstance(shown, str):
            raise UserError(f"{path}: icl_prompt is a text, not {type(shown).__name__}")
        splits = {part: [item.model_copy(update={"preamble": shown}) for item in splits[part]] for part in parts}
    return splits


def split_rows(rows: Sequence[Any]) -> dict[str, Any]:
    """Rows as dev and test: by their own column `split`, else one half each, chosen with a fixed seed.

    Beside `test`, a column `split` has dev under any name (dev, validation, train), or `train` and one of the others:
    then `train` is a part of its own. Rows of one `source` stay together. `places` has the position of each row in
    `rows`.

    Raises:
        ValueError: The column `split` has names of parts, but not these.
    """
    named = [str(row.get("split")).casefold() if isinstance(row, dict) else None for row in rows]
    if not SPLIT_NAMES.isdisjoint(named):
        others = {str(name) for name in named if name != "test"}
        dev = others - {"train"} or others
        if "test" not in named or len(dev) != 1 or not others <= SPLIT_NAMES:
            raise ValueError(
                f"the column `split` says {', '.join(sorted(set(map(str, named))))}; accepted are test and dev (or"
                " validation), with or without train, in every row"
            )
        parts: dict[str, Set[str]] = {"dev": dev, "test": {"test"}, **({"train": {"train"}} if others > dev else {})}
        places = {part: [k for k, name in enumerate(named) if name in own] for part, own in parts.items()}
    else:
        sources = [str(row.get("source") or k) if isinstance(row, dict) else str(k) for k, row in enumerate(rows)]
        sources = sources if len({*sources}) > 1 else [str(k) for k in range(len(rows))]
        order = list(dict.fromkeys(sources))
        random.Random(0).shuffle(order)
        first = set(order[: (len(order) + 1) // 2])
        places = {"dev": [k for k, source in enumerate(sources) if source in first]}
        places["test"] = sorted({*range(len(rows))} - {*places["dev"]})
    return {**{part: [rows[k] for k in own] for part, own in places.items()}, "places": places}


def _read(path: Path) -> tuple[Any, Callable[[str, int], str]]:
    """What a data file holds, and a function that names the place of an item."""
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path), lambda split, k: f"{path}, row {k + 1}"
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if path.suffix.lower() in {".csv", ".tsv"}:
        rows = _read_table(path, text)
        return [row for _, row in rows], lambda split, k: f"{path}, line {rows[k][0]}"
    try:
        return (
            read_json(text),
            lambda split, k: (
                f"{path}, line {_line_of(text, split, k)}, {split} item {k}"
                if text.lstrip()[:1] == "{"
                else f"{path}, item {k + 1}"
            ),
        )
    except json.JSONDecodeError as error:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if path.suffix.lower() in {".jsonl", ".ndjson"} or (error.msg == "Extra data" and len(lines) > 1):
            return [
                _read_line(path, number, line) for number, line in lines
            ], lambda split, k: f"{path}, line {lines[k][0]}"
        raise UserError(f"{path}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from error
    except ValueError as error:  # a number of thousands of digits, lists in lists in lists
        raise UserError(f"{path}: not readable as JSON: {error}") from error


def _read_line(path: Path, number: int, line: str) -> Any:
    try:
        return read_json(line)
    except ValueError as error:
        raise UserError(f"{path}, line {number}: not JSON: {error}") from error


def _read_table(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    """The rows of a CSV or TSV file with their lines; empty cells are missing values."""
    head = text.partition("\n")[0]
    mark = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        if len(names) < 2 or len({*names}) < len(names) or not all(names):
            raise UserError(
                f"{path}: line 1 must name at least two columns, each once; found {', '.join(names)!r:.200}"
            )
        rows = []
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(names):
                raise UserError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells where the first line has {len(names)}"
                )
            rows.append(
                (reader.line_num, {name: cell for name, cell in zip(names, cells, strict=True) if cell.strip()})
            )
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not readable as a table: {error}") from error
    return rows


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet  # here: it is large, and only tables need it

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: not readable as Parquet: {first_line(error)}") from error
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


COLUMNS = {
    "question": ("question", "prompt", "query", "problem", "instruction", "input"),
    "answer": ("answer", "answerKey", "answer_key", "label", "target", "correct_answer", "gold", "solution", "output"),
    "choices": ("choices", "options"),
}
"""Names under which tables are known to hold each field of an item, the usual ones first."""
OPTION_COLUMN = re.compile(r"(?:(?:option|choice|op|answer)[ _]?)?([A-Za-z]|[1-9])", re.IGNORECASE)


def columns_of(rows: Sequence[Any]) -> dict[str, tuple[str, ...]]:
    """Which columns of a table hold the question, the answer and the choices; the same for all rows.

    They are the columns of `COLUMNS`; choices may have one column each (A, option_b, choice1), from A or 1 on.
    """
    names = list(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row if isinstance(name, str)))
    folded = {name.casefold(): name for name in reversed(names)}
    found: dict[str, tuple[str, ...]] = {}
    for field_name, known in COLUMNS.items():
        if own := next((folded[name.casefold()] for name in known if name.casefold() in folded), None):
            found[field_name] = (own,)
    options = {match[1].upper(): name for name in names if (match := OPTION_COLUMN.fullmatch(name))}
    keys = list(takewhile(options.__contains__, ascii_uppercase if "A" in options else "123456789"))
    if "choices" not in found and len(keys) > 1:
        found["choices"] = tuple(options[key] for key in keys)
    return found


def describe_columns(path: Path) -> str:
    """What the columns of a data file were taken for, in one line."""
    rows, _ = _read(path)
    columns = columns_of(rows) if isinstance(rows, list) else {}
    return ", ".join(f"{name} from {' '.join(own)}" for name, own in columns.items())


def table_item(row: Any, columns: Mapping[str, tuple[str, ...]]) -> Any:
    """A row as an item; all its other columns are kept as they are. What is no row is unchanged."""
    if not isinstance(row, dict):
        return row
    item = dict(row)
    for name, own in columns.items():
        if len(own) > 1:
            if choices := {OPTION_COLUMN.sub(r"\1", one).upper(): row[one] for one in own if one in row}:
                item[name] = choices
        elif own[0] in row:
            item[name] = row[own[0]]
    if isinstance(item.get("choices"), str) and item["choices"].lstrip()[:1] in {"[", "{"}:
        with contextlib.suppress(ValueError):
            item["choices"] = read_json(item["choices"])
    return item


MEDIA = re.compile(
    r"(?:(?:image|img|picture|photo|audio|video)s?)(?:[ _]?(?:\d+|path|url|file|bytes|id|name))?|figure_path",
    re.IGNORECASE,
)
"""Fields of images and sounds."""
PLACEHOLDER = re.compile(r"<image(?:[ _]?\d+)?>|data:(?:image|audio|video)/\w+;base64,")
"""The place of a medium in a text."""


def medium_in(entry: Mapping[str, Any]) -> str | None:
    """The field of an item that holds an image, a sound or a video; None if there is none."""
    for name, value in entry.items():
        if isinstance(value, str) and name in {"question", "prompt", "choices"} and PLACEHOLDER.search(value):
            return str(name)
        data = isinstance(value, bytes) or (isinstance(value, Mapping) and "bytes" in value)
        data = data or (isinstance(value, str) and value.startswith(("data:image/", "data:audio/", "data:video/")))
        if data or hasattr(value, "tobytes") or (MEDIA.fullmatch(str(name)) and value not in (None, "", [], {}, False)):
            return str(name)
    return None


def _fields(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The columns of an entry; those of a data set of the hub, or of an item that was read before, are in `row`."""
    row = entry.get("row")
    return {**entry, **row} if isinstance(row, Mapping) else entry


def check_columns(entries: Sequence[Any], columns: Sequence[str], origin: str) -> None:
    """Checks that the columns that a prompt reads are in the data; a single item may lack them.

    Raises:
        UserError: No entry has one of them.
    """
    held = {str(name): None for entry in entries if isinstance(entry, dict) for name in _fields(entry)}
    if missing := next((name for name in columns if name not in held), None):
        raise UserError(f"{origin}: the prompt reads row.{missing}; the data has the columns {', '.join(held)}")


def _cell(value: Any, name: str, where: Callable[[], str]) -> str:
    """A column's value as text; empty if the item has none.

    Raises:
        UserError: It is neither a text nor a number.
    """
    if value is not None and not isinstance(value, str | int | float):
        raise UserError(
            f"{where()}: the prompt reads row.{name}, which is {_kind(value)}; a text or number is accepted"
        )
    return "" if value is None else str(value)


def checked_items(
    entries: Sequence[Any],
    where: Callable[[int], str],
    group_by: str | None = None,
    columns: Sequence[str] = (),
) -> list[Item]:
    """Validated items with unique ids; an entry without an id gets its position as one.

    Published files repeat ids (every item of gsm8k's dev is "0"): another question under a known id gets its position
    added, `0#1`. The same question under the same id is a mistake.

    Args:
        entries: Items as they were parsed, whatever they are.
        where: Names the place of an entry; only called for a message.
        group_by: A field whose value becomes the item's `group`.
        columns: Fields that become the item's `row`, because its prompt reads them.

    Raises:
        UserError: An entry that is no item or holds an image, an item twice, or a column that is no text or number.
    """
    items, ids, contents = [], set(), set()
    for k, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{where(k)}: an item is an object with question, choices and answer, not {_kind(entry)}")
        if (medium := medium_in(entry)) is not None:
            raise UserError(
                f"{where(k)}: the field {medium!r} holds an image or another medium; models are asked with text alone,"
                " so remove such items, or the field if the question does not need it"
            )
        answer = entry.get("answer")
        if isinstance(answer, int | float) and not isinstance(answer, bool) and not entry.get("choices"):
            entry = {**entry, "answer": str(answer)}
        entry = {
            name: str(value) if name in LABELS and isinstance(value, int | float) else value
            for name, value in entry.items()
        }
        if group_by is not None and group_by not in Item.model_fields and entry.get(group_by) is not None:
            entry = {**entry, "group": str(entry[group_by])}
        fields = _fields(entry)
        row = {name: _cell(fields.get(name), name, partial(where, k)) for name in columns}
        try:
            item = Item(**{"id": str(k), **entry, "row": row or None})
        except ValidationError as error:
            raise UserError(f"{where(k)}: {in_words(error):.500}") from error
        options = [*(item.choices or {}).values(), *row.values()]
        if (length := len(item.question) + len(item.answer or "") + sum(map(len, options))) > LONGEST:
            raise UserError(
                f"{where(k)}: {length:,} characters, of which at most {LONGEST:,} are accepted;"
                " is a quotation mark missing?"
            )
        known = (item.id, content(item))
        unique = f"{item.id}#{k}" if item.id in ids else item.id
        if known in contents or unique in ids:
            raise UserError(f"{where(k)}: the id {item.id!r:.80} stands twice in this split; ids are unique")
        ids.add(unique)
        contents.add(known)
        items.append(item if unique == item.id else item.model_copy(update={"id": unique}))
    return items


def _kind(value: Any) -> str:
    """How JSON calls it."""
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


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
