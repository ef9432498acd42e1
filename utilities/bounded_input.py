"""The YAML and the JSON reader of the project: input is bounded before any work is spent on it.

A few lines of YAML can stand for gigabytes (aliases of aliases), a number can have more digits than a machine can
convert, a document can be nested deeper than any stack. Each is refused with one sentence, in linear time.

Example:
    >>> read_yaml("particles: 10")
    {'particles': 10}
    >>> read_json("[1, 2.5]")
    [1, 2.5]
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable
from typing import Any

import yaml

__all__ = ["MOST_DEPTH", "MOST_NODES", "read_json", "read_yaml"]

MOST_YAML = 4 << 20
"""Characters of a YAML document; larger data belong into JSON files."""
MOST_JSON = 1 << 30
"""Characters of a JSON document."""
MOST_NODES = 200_000
"""Values of a YAML document, those counted again that an alias repeats."""
MOST_DEPTH = 100
"""Levels of nesting."""
MOST_DIGITS = 100
"""Characters of one number in YAML."""

_Fast: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Fast):  # type: ignore[misc]  # the C loader where it is built
    """A safe loader that refuses repeated keys and numbers of absurd length."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                    raise ValueError(f"line {key.start_mark.line + 1}: the key {key.value[:60]!r} is repeated")
                seen.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_yaml_int(self, node: yaml.ScalarNode) -> Any:
        self._check_digits(node)
        return super().construct_yaml_int(node)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> Any:
        self._check_digits(node)
        return super().construct_yaml_float(node)

    def _check_digits(self, node: yaml.ScalarNode) -> None:
        if len(node.value) > MOST_DIGITS:
            where = f"line {node.start_mark.line + 1}"
            raise ValueError(f"{where}: a number of {len(node.value):,} characters; at most {MOST_DIGITS} are accepted")


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def read_yaml(text: str | bytes) -> Any:
    """The value of a YAML document (safe types only; repeated keys are refused).

    Raises:
        ValueError: Not YAML, or larger than the limits of this module. The message is one line.
    """
    if len(text) > MOST_YAML:
        raise ValueError(f"{len(text):,} characters of YAML; at most {MOST_YAML:,} are accepted")
    try:
        source = text.decode("utf-8") if isinstance(text, bytes) else text
        _check_size(source)
        return yaml.load(source, _Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, RecursionError, TypeError, AttributeError) as error:
        raise ValueError(" ".join(str(error).split()) or "nested too deeply") from error


def _check_size(text: str) -> None:
    """Counts levels and values, aliases written out, without building anything."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []  # (anchor, number of values before it)
    total = 0
    for event in yaml.parse(text, _Fast):
        where = f"line {event.start_mark.line + 1}" if event.start_mark else "a line"
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"{where}: the alias {event.anchor!r} refers to no earlier value")
            total += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, total))
            total += 1
            if len(open_nodes) > MOST_DEPTH:
                raise ValueError(f"{where}: more than {MOST_DEPTH} levels of nesting are not accepted")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = total - before
        if total > MOST_NODES:
            raise ValueError(f"more than {MOST_NODES:,} values, aliases written out; that many are not accepted")


def read_json(text: str | bytes, *, finite: bool = False) -> Any:
    """The value of a JSON document.

    Args:
        text: The document.
        finite: Whether NaN and infinite numbers (also 1e999) are refused.

    Raises:
        ValueError: Not JSON, or larger than the limits of this module. The message is one line.
    """
    if len(text) > MOST_JSON:
        raise ValueError(f"{len(text):,} characters of JSON; at most {MOST_JSON:,} are accepted")
    special: dict[str, Any] = {"parse_constant": _refuse_constant, "parse_float": _finite} if finite else {}
    try:
        return json.loads(text, **special)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no finite number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:60]} is too large for a number")
    return number
