"""The parts of a report: one section a folder, with tables, figures, warnings and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from harness.display.conclusion import Standing
from harness.report.answers import SideBySide

__all__ = ["Cell", "Figure", "Section", "Table", "number_cell"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    order: float | None = None
    """Number by which the column is sorted; None for a text column or a missing value."""
    figure: Markup | None = None
    """A drawing in place of the text."""


def number_cell(value: float | None, text: str) -> Cell:
    """A cell with a number."""
    return Cell(text, value)


@dataclass(frozen=True)
class Table:
    """A table; columns whose headings are in `numbers` are right-aligned."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: Sequence[str] = ()
    marked: Sequence[int] = ()
    """Rows that are emphasised."""
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure with its heading and one or two sentences below it."""

    heading: str
    drawing: Markup
    caption: str = ""


@dataclass
class Section:
    """What a report shows of one folder."""

    title: str
    subtitle: str
    conclusions: list[str]
    """The first is the headline."""
    standing: Standing = "not known"
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    answers: list[tuple[str, SideBySide]] = field(default_factory=list)
    """Heading and answers, one for each task."""
    details: list[tuple[str, str]] = field(default_factory=list)
    """Settings and versions."""
    folder: str = ""
