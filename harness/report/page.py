"""Renders a report: one HTML file with its style, script and figures inside, which opens from disk and loads nothing.

Foreign text is escaped by jinja2, and its control characters are made visible. A content security policy in the page
forbids every request, and every script but its own.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.report.answers import TAGS, ShownItem, SideBySide
from harness.report.comparison import runs_table
from harness.report.search_section import evaluate_section, search_section
from harness.report.section import Section
from harness.report.study_sections import analyse_section, compare_section, lab_section, sweep_section
from harness.run_folder.read import Run, Study, open_run
from harness.run_folder.store import write_atomically
from utilities.errors import UserError
from utilities.foreign_text import printable

__all__ = ["MOST_ITEMS", "render", "section_of", "write_report"]

TEMPLATES = Path(__file__).parent / "templates"
MOST_ITEMS = 200
"""Items of a report without `--all`."""
MOST_TEXT = 450_000
"""Characters of their questions and answers, so that the file stays below 1 MB."""
CUT = 1500
"""Characters of a text in a report without `--all`."""

SECTIONS: dict[Study, Callable[[Run], Section]] = {
    "search": search_section,
    "evaluate": evaluate_section,
    "compare": compare_section,
    "sweep": sweep_section,
    "lab": lab_section,
    "analyse": analyse_section,
}


def write_report(folders: Sequence[Path], out: Path | None = None, *, every_item: bool = False) -> Path:
    """Writes the report of one or several folders.

    Args:
        folders: Folders of runs, comparisons, sweeps, labs, or of `evaluate --out`.
        out: The file; by default `report.html` in the first folder.
        every_item: Whether all items are inline, at full length.

    Returns:
        The file.

    Raises:
        UserError: Not a folder of this project, a corrupt file in it, or the report cannot be written.
    """
    runs = [open_run(folder) for folder in folders]
    text = render(runs, every_item=every_item)
    out = out or runs[0].folder / "report.html"
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name a file, such as {out / 'report.html'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, text)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}; choose another file with --out") from error
    return out


def section_of(run: Run) -> Section:
    """The section of any folder."""
    section = SECTIONS[run.study](run)
    if any(answers.without_text for _, answers in section.answers):
        section.notes.append(
            "The questions are not shown: the folder was written by an earlier version, which did not store them, and"
            " the task's data cannot be read. Items are named by their ids."
        )
    return section


def render(runs: Sequence[Run], *, every_item: bool = False) -> str:
    """The page of one or several runs, as HTML."""
    sections = [section_of(run) for run in runs]
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    share = len(sections)
    return environment.get_template("report.html").render(
        title=", ".join(dict.fromkeys(section.title for section in sections)),
        sections=[
            (section, [(name, *_inline(a, every_item, share)) for name, a in section.answers]) for section in sections
        ],
        overview=runs_table(runs) if len(runs) > 1 else None,
        tags=TAGS,
        cut=partial(_cut, most=None if every_item else CUT),
        style=Markup(style),  # noqa: S704 - files of this package
        script=Markup(script),  # noqa: S704
        policy=f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'",
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
    )


def _visible(value: Any) -> Any:
    """Text with its control characters as escapes; jinja2 escapes markup after this."""
    return printable(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value


def _cut(text: str, most: int | None) -> str:
    if most is None or len(text) <= most:
        return text
    return f"{text[:most]} [... {len(text) - most:,} more characters]"


def _inline(answers: SideBySide, every_item: bool, share: int) -> tuple[SideBySide, SideBySide]:
    """The answers that are shown inline, and all of them."""
    if every_item:
        return answers, answers
    shown: list[ShownItem] = []
    room = MOST_TEXT // share
    for item in answers.items[: max(10, MOST_ITEMS // share)]:
        room -= sum(min(CUT, len(text)) for text in _texts(item))
        if room < 0 and shown:
            break
        shown.append(item)
    return replace(answers, items=shown), answers


def _texts(item: ShownItem) -> Iterator[str]:
    yield item.question or ""
    yield from item.options.values()
    for answer in item.answers:
        yield answer.text
        yield answer.notes
        yield from (judgement.words for judgement in answer.judgements)
        for claim in answer.claims:
            yield claim.text
            yield from (text for _, text in claim.evidence)
            yield from (vote.words for vote in claim.votes)
