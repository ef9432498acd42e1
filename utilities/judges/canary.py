"""Canaries: bad answers that are sent to a judge at intervals to check that it still rates them low.

A search exploits weaknesses of its judge. If a canary is rated above honest answers of the same model, the judge is not
a usable objective. Canaries are data, one YAML file each in `canaries/`; add a file to add a canary.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from utilities.bounded_input import read_yaml
from utilities.core import Item
from utilities.errors import UserError, in_words
from utilities.prompts import Prompt

__all__ = ["Canary", "canaries"]

FOLDER = Path(__file__).parent / "canaries"


class Canary(BaseModel):
    """One bad answer to whatever is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    attacks: str = Field(min_length=1)
    """What a judge who rates it high has fallen for."""
    template: str
    """The answer, as a Jinja template that may use `question`."""

    def text(self, item: Item) -> str:
        """The answer to one item."""
        return _compiled(self.template).render(question=item.question)


def canaries(folder: Path = FOLDER) -> list[Canary]:
    """The canaries of a folder, in the order of their file names.

    Raises:
        UserError: A file is not a valid canary, or two canaries have the same name.
    """
    by_name: dict[str, Canary] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            canary = Canary.model_validate(read_yaml(path.read_bytes()))
        except ValueError as error:
            raise UserError(f"{path}: {in_words(error) if isinstance(error, ValidationError) else error}") from error
        if canary.name in by_name:
            raise UserError(f"{path}: a second canary is called {canary.name!r}")
        by_name[canary.name] = canary
    return list(by_name.values())


@cache
def _compiled(template: str) -> Prompt:
    return Prompt(template)
