"""The lab's verdicts on the built-in utilities; written by `python -m harness.lab.build_verdicts`."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from utilities.bounded_input import read_yaml

__all__ = ["VERDICTS", "StoredVerdict", "read_verdicts", "verdicts_table", "verdicts_text"]

VERDICTS = Path(__file__).parent / "verdicts.yaml"

HEAD = """# Verdicts of `python run.py lab` on every built-in utility, with the embedded models.
# `python run.py list utilities` shows it. Written by `python -m harness.lab.build_verdicts`; do not edit.
"""


class StoredVerdict(BaseModel):
    """The verdict of a lab on one utility and one task; another task, model or judge may lead to another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fitness: str
    """As in `Conclusion`; "no verdict" if the embedded models cannot be used for it."""
    because: tuple[str, ...] = ()
    """The failed checks, or the reason why there is no verdict."""
    warned: tuple[str, ...] = ()
    """The checks that warned."""
    task: str | None = None
    """The bundled task, and the part of it that was used."""
    options: tuple[str, ...] = ()
    dev_items: int | None = None
    test_items: int | None = None
    made: str
    """Day, as 2026-01-31."""
    version: str
    """Version of this project."""


def read_verdicts(path: Path = VERDICTS) -> dict[str, StoredVerdict]:
    """Scorer to its verdict; empty if there is no file."""
    if not path.is_file():
        return {}
    return {name: StoredVerdict(**data) for name, data in (read_yaml(path.read_bytes()) or {}).items()}


def verdicts_text(verdicts: dict[str, StoredVerdict]) -> str:
    """The text of the file."""
    data = {name: verdicts[name].model_dump(mode="json", exclude_defaults=True) for name in sorted(verdicts)}
    return HEAD + yaml.safe_dump(data, sort_keys=False, width=120, allow_unicode=True)


def verdicts_table(verdicts: dict[str, StoredVerdict]) -> str:
    """The verdicts as a table in Markdown, for docs/lab.md."""
    lines = ["| utility | tried on | verdict | failed | warnings |", "|---|---|---|---|---|"]
    for name in sorted(verdicts):
        one = verdicts[name]
        tried = f"`{one.task}`, {one.dev_items} dev, {one.test_items} test items" if one.task else ""
        cells = [f"`{name}`", tried, one.fitness, "; ".join(one.because), "; ".join(one.warned)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
