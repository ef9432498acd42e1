"""The format in which the paper's data is published: `{"dev": [items], "test": [items]}`, one JSON file an item set."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from utilities.bounded_input import read_json
from utilities.contamination import content
from utilities.core import Item, Split
from utilities.errors import UserError, in_words

__all__ = ["checked_items", "read_published"]

LONGEST = 10_000_000
"""Characters of an item. The longest contexts hold less, so more is a damaged file (a missing quotation mark)."""


def read_published(path: Path) -> dict[Split, list[Item]]:
    """The two splits of a file.

    Raises:
        UserError: Not UTF-8, not JSON, a split missing, a malformed item, an id twice; with file and line.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
        document = read_json(text)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from error
    except ValueError as error:  # a number of thousands of digits, lists in lists in lists
        raise UserError(f"{path}: not readable as JSON: {error}") from error

    def where(split: Split, k: int) -> str:
        return f"{path}, line {_line_of(text, split, k)}, {split} item {k}"

    splits: dict[Split, list[Item]] = {}
    both: tuple[Split, ...] = ("dev", "test")
    for split in both:
        entries = document.get(split) if isinstance(document, dict) else None
        if not isinstance(entries, list):
            raise UserError(f'{path}: expected {{"dev": [items], "test": [items]}}, found no list {split!r}')
        splits[split] = checked_items(entries, partial(where, split))
    if (shown := document.get("icl_prompt")) is not None:  # the published files' name for a worked example
        if not isinstance(shown, str):
            raise UserError(f"{path}: icl_prompt is a text, not {type(shown).__name__}")
        splits = {name: [item.model_copy(update={"preamble": shown}) for item in splits[name]] for name in both}
    return splits


def checked_items(entries: Sequence[Any], where: Callable[[int], str]) -> list[Item]:
    """Validated items with unique ids; an entry without an id gets its position as one.

    Published files repeat ids (every item of gsm8k's dev is "0"): another question under a known id gets its position
    added, `0#1`. The same question under the same id is a mistake.

    Args:
        entries: Items as they were parsed, whatever they are.
        where: Names the place of an entry; only called for a message.

    Raises:
        UserError: An entry that is no item, or an item twice.
    """
    items, ids, contents = [], set(), set()
    for k, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{where(k)}: an item is an object with question, choices and answer, not {_kind(entry)}")
        try:
            item = Item(**{"id": str(k), **entry})
        except ValidationError as error:
            raise UserError(f"{where(k)}: {in_words(error):.500}") from error
        options = (item.choices or {}).values()
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
