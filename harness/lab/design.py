"""Designs: utilities under test, as they are named on the command line: `NAME`, `FILE.py:NAME`, `NAME,OPTION=VALUE`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.session.settings import RunSettings, run_settings
from utilities.errors import UserError
from utilities.tasks import Edition

__all__ = ["Design", "own_design", "read_designs"]

GIVEN = re.compile(r"(?P<utility>.*?)(?P<options>(?:,[A-Za-z_]\w*=[^,]*)*)", re.DOTALL)


@dataclass(frozen=True)
class Design:
    """One utility with its options."""

    label: str
    """As it was given; no two designs of a lab have the same."""
    utility: str
    """A scorer's name, or FILE.py:NAME."""
    options: tuple[str, ...] = ()
    """As NAME=VALUE, over those of the task file where `utility` is the task's own scorer."""

    def settings(self, settings: RunSettings, edition: Edition) -> RunSettings:
        """The settings under which this design is the objective of a search on the task.

        The scorer that the task file names keeps the options that stand there. The design is the objective, and not its
        smooth companion, which is a design of its own; all dev items count, and nothing is measured beside them.
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
        UserError: Its item sets have several, so that none of them alone is the task's.
    """
    scorers = {s.scorer: None for s in edition.item_sets.values()}
    if len(scorers) > 1:
        raise UserError(f"the item sets of this task have several scorers; name one of them: {', '.join(scorers)}")
    (name,) = scorers
    return Design(name, name)


def read_designs(given: Sequence[str]) -> list[Design]:
    """The designs of a command line.

    Raises:
        UserError: An empty one, two of the same, or an option that cannot be read.
    """
    found: list[Design] = []
    for text in given:
        parts = GIVEN.fullmatch(text.strip())
        utility = parts["utility"].strip() if parts else ""
        if parts is None or not utility:
            raise UserError(f"design {text!r}: expected NAME, FILE.py:NAME, or one of them with ,OPTION=VALUE")
        options = tuple(one.strip() for one in parts["options"].split(",") if one)
        run_settings({"task": "none", "option": options})  # a wrong one is named before anything is loaded
        design = Design(text.strip(), utility, options)
        if design in found:
            raise UserError(f"design {design.label!r} is named twice")
        found.append(design)
    return found
