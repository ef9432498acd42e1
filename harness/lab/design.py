"""Designs: utilities under test. Syntax on the command line: `NAME`, `FILE.py:NAME`, `NAME,OPTION=VALUE`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.session.settings import RunSettings, run_settings
from utilities.errors import UserError
from utilities.task_file import Edition

__all__ = ["Design", "own_design", "read_designs"]

SYNTAX = re.compile(r"(?P<utility>.*?)(?P<options>(?:,[A-Za-z_]\w*=[^,]*)*)", re.DOTALL)


@dataclass(frozen=True)
class Design:
    """One utility with its options."""

    label: str
    """Text on the command line; unique in a lab."""
    utility: str
    """A scorer's name, or FILE.py:NAME."""
    options: tuple[str, ...] = ()
    """NAME=VALUE; they override the task file's options if `utility` is the task's own scorer."""

    def settings(self, settings: RunSettings, edition: Edition) -> RunSettings:
        """The settings of a search on the task with this design as the objective.

        The task's own scorer keeps its options from the task file. The design itself is the objective, not its smooth
        smooth score, which is a separate design. All dev items are used, without held-out items or report-only scorers.
        """
        own = {s.scorer for s in edition.item_sets.values()} == {self.utility}
        flat = {
            "utility": None if own else self.utility,
            "option": (*settings.option, *self.options),
            "objective": "metric",
            "validation_share": 0.0,
            "judging": settings.judging.model_copy(update={"monitor_share": 0.0, "factuality": "none"}),
        }
        return RunSettings(**{**dict(settings), **flat})


def own_design(edition: Edition) -> Design:
    """The task's own scorer.

    Raises:
        UserError: The item sets have different scorers.
    """
    scorers = {s.scorer: None for s in edition.item_sets.values()}
    if len(scorers) > 1:
        raise UserError(f"the item sets of this task have several scorers; name one of them: {', '.join(scorers)}")
    (name,) = scorers
    return Design(name, name)


def read_designs(texts: Sequence[str]) -> list[Design]:
    """The designs of a command line.

    Raises:
        UserError: An empty or duplicate design, or an invalid option.
    """
    designs: list[Design] = []
    for text in texts:
        parts = SYNTAX.fullmatch(text.strip())
        utility = parts["utility"].strip() if parts else ""
        if parts is None or not utility:
            raise UserError(f"design {text!r}: expected NAME, FILE.py:NAME, or one of them with ,OPTION=VALUE")
        options = tuple(one.strip() for one in parts["options"].split(",") if one)
        run_settings({"task": "none", "option": options})  # raises for invalid options before anything is loaded
        design = Design(text.strip(), utility, options)
        if design in designs:
            raise UserError(f"design {design.label!r} is named twice")
        designs.append(design)
    return designs
