"""What the lab said of the built-in utilities, as it came out; written by `python -m harness.lab.build_verdicts`."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from utilities.bounded_input import read_yaml

__all__ = ["VERDICTS", "StoredVerdict", "read_verdicts", "verdicts_table", "verdicts_text"]

VERDICTS = Path(__file__).parent / "verdicts.yaml"

HEAD = """# What `python run.py lab` said of every built-in utility, with the embedded models, as it came out.
# `python run.py list utilities` shows it. Written by `python -m harness.lab.build_verdicts`: not to be edited by hand.
"""


class StoredVerdict(BaseModel):
    """The last word of a lab on one utility, on one task: another task, model or judge may give another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fitness: str
    """As in `Conclusion`; "no verdict" where the embedded models cannot try it."""
    because: tuple[str, ...] = ()
    """The checks that decided against more, or why there is no verdict."""
    warned: tuple[str, ...] = ()
    """The checks that warned."""
    task: str | None = None
    """The bundled task on which it was tried, with what was taken of it."""
    options: tuple[str, ...] = ()
    dev_items: int | None = None
    test_items: int | None = None
    made: str
    """Day, as 2026-01-31."""
    version: str
    """Of this project."""


def read_verdicts(path: Path = VERDICTS) -> dict[str, StoredVerdict]:
    """Scorer to its verdict; empty where none were written."""
    if not path.is_file():
        return {}
    return {name: StoredVerdict(**told) for name, told in (read_yaml(path.read_bytes()) or {}).items()}


def verdicts_text(verdicts: dict[str, StoredVerdict]) -> str:
    """The file's text, by name."""
    told = {name: verdicts[name].model_dump(mode="json", exclude_defaults=True) for name in sorted(verdicts)}
    return HEAD + yaml.safe_dump(told, sort_keys=False, width=120, allow_unicode=True)


def verdicts_table(verdicts: dict[str, StoredVerdict]) -> str:
    """The verdicts in markdown, as the README shows them."""
    lines = ["| utility | tried on | the lab says | because of | warned of |", "|---|---|---|---|---|"]
    for name in sorted(verdicts):
        one = verdicts[name]
        tried = f"`{one.task}`, {one.dev_items} dev, {one.test_items} test items" if one.task else ""
        cells = [f"`{name}`", tried, one.fitness, "; ".join(one.because), "; ".join(one.warned)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
