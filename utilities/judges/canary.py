"""Canaries: answers that nobody should want, sent to a judge now and then to see whether it still rates them low.

A search finds what its judge pays for. Where one of these texts is rated above the honest answers of the same model,
the judge is no objective. They are data, one YAML file each in `canaries/`; a file more is a canary more.
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
        UserError: A file that is no canary, or two of one name.
    """
    found: dict[str, Canary] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            canary = Canary.model_validate(read_yaml(path.read_bytes()))
        except ValueError as error:
            raise UserError(f"{path}: {in_words(error) if isinstance(error, ValidationError) else error}") from error
        if canary.name in found:
            raise UserError(f"{path}: a second canary is called {canary.name!r}")
        found[canary.name] = canary
    return list(found.values())


@cache
def _compiled(template: str) -> Prompt:
    return Prompt(template)
