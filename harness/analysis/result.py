"""Schema of `analyse.json`: one entry for each claim of the paper."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Analysed", "Claim", "Line", "Verdict", "verdict"]

Verdict = Literal["holds", "does not hold", "not decided", "not measured"]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Line(_Closed):
    """One measurement with its 95 % interval; `control` is what the same count or share is without the claim."""

    label: str
    value: float
    low: float | None
    high: float | None
    control: float | None = None
    n: int | None = None
    """What it is a share of: questions, or searches."""


class Claim(_Closed):
    """A claim of the paper, its figure there and here, and whether it holds here."""

    analysis: str
    claim: str
    paper: str
    here: str
    verdict: Verdict
    sentence: str
    """What was measured, against which control, and what follows."""
    lines: list[Line] = []


class Analysed(_Closed):
    """Everything that `analyse` measured."""

    runs: list[str]
    """The searches that were read, as task and seed."""
    settings: str
    """Sizes of the searches."""
    claims: list[Claim]
    figures: list[str] = []


def verdict(low: float | None, high: float | None, *, wanted: Literal[1, -1] = 1) -> Verdict:
    """Whether a claim holds whose effect, with this 95 % interval, should be positive, or negative (`wanted` -1)."""
    if low is None or high is None:
        return "not decided"
    if wanted < 0:
        low, high = -high, -low
    return "holds" if low > 0 else "does not hold" if high < 0 else "not decided"
