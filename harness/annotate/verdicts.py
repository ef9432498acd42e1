"""Verdicts of raters: the lines that the page and the local server write, and how they are read again.

A file is only appended to: of several lines of a rater for one pair the last one counts, and a line without a verdict
takes back an earlier one. `lab --labels` reads the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from harness.annotate.pairs import Key, read_key
from utilities.errors import UserError, in_words

__all__ = ["Verdict", "key_of", "latest", "read_verdicts"]


def _trimmed(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise ValueError("expected a name of printable characters")
    return name.strip()


class Verdict(BaseModel):
    """One line: a rater's verdict on one pair."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    annotation: str
    """`Key.id`."""
    pair: Annotated[int, Field(ge=0)]
    rater: Annotated[str, Field(max_length=100), AfterValidator(_trimmed)]
    verdict: Literal["a", "b", "both good", "both bad"] | None
    """None takes back an earlier verdict."""
    confidence: Literal[1, 2, 3] = 2
    """unsure, fairly sure, certain."""
    comment: Annotated[str, Field(max_length=10_000)] = ""
    seconds: float | None = Field(None, ge=0, allow_inf_nan=False)
    """How long the pair was on the screen."""

    def line(self, key: Key) -> dict[str, Any]:
        """The line of a file, with the texts."""
        return {**self.model_dump(), **key.shown(self.pair)}


def latest(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdict of each rater on each pair, without those that were taken back."""
    last = {(one.rater, one.pair): one for one in verdicts}
    return [one for one in last.values() if one.verdict is not None]


def read_verdicts(files: Sequence[Path]) -> list[Verdict]:
    """All lines of files that the page or the server wrote.

    Raises:
        UserError: A file that cannot be read, a line that is not a verdict, several annotations, or no verdict.
    """
    found = []
    for path in files:
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                found.append(Verdict.model_validate_json(line))
            except ValidationError as error:
                if number == len(lines):
                    continue  # a last line without a line feed is from a server that was killed while writing
                raise UserError(f"{path}, line {number}: not a verdict of `annotate`: {in_words(error)}") from error
    if not found:
        raise UserError(f"{', '.join(map(str, files))}: no verdicts")
    if len(ids := {one.annotation for one in found}) > 1:
        raise UserError(f"the files are of different annotations: {', '.join(sorted(ids))}; give those of one")
    return found


def key_of(verdicts: Sequence[Verdict], folders: Sequence[Path]) -> Key:
    """The key of verdicts.

    Args:
        verdicts: Of one annotation.
        folders: Where the key may be.

    Raises:
        UserError: There is no key, or it has fewer pairs.
    """
    name = f"{verdicts[0].annotation}.key.json"
    path = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if path is None:
        raise UserError(
            f"{name} is not in {', '.join(map(str, folders))}; it is in the folder annotation of the run: add --run RUN"
        )
    key = read_key(path)
    if beyond := next((one.pair for one in verdicts if one.pair >= len(key.pairs)), None):
        raise UserError(f"{path} has {len(key.pairs)} pairs, and there is a verdict on pair {beyond}")
    return key
