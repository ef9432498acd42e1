"""Schema of `analyse.json`: one entry for each claim of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["CLAIMS", "Analysed", "Claim", "Line", "Verdict", "measured", "not_measured", "verdict"]

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

    @property
    def text(self) -> str:
        """The value with its interval, in per cent or points."""
        value = f"{100 * self.value:.1f}"
        return (
            value
            if self.low is None or self.high is None
            else f"{value} ({100 * self.low:.1f} to {100 * self.high:.1f})"
        )


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


CLAIMS = {
    "emergence": ("particles answer questions that no initial expert answers", "36.0 to 53.5 % of them (dev)"),
    "diamond": ("the particle that ends best started in the bottom half", "56.9 % in the bottom half, 10.4 % first"),
    "diversity": ("more distinct experts make a better search", "10 distinct experts 35.3 % above one, monotone"),
    "weak-to-strong": ("the others without the best expert reach more than it", "+35.4 % on average"),
    "drop": ("skipping four fifths of the evaluations loses at most 6 %", "up to 80 % faster for 6 % less"),
    "ablation": ("the random factors of the moves are needed", "-23.5 % without randomness"),
    "modularity": ("an expert can be added to a finished search", "claimed, no figure is compared here"),
    "transfer": ("a winner is better than the best expert of another task", "claimed, no figure is compared here"),
    "dual-use": ("a reversed utility makes a model worse than its base", "named as a risk"),
}
"""Analysis to the claim, and to its figure in the paper."""


def measured(
    analysis: str, sentence: str, decision: Verdict, here: str, lines: Sequence[Line] = (), split: str | None = None
) -> Claim:
    """The claim of an analysis with what was measured."""
    text, paper = CLAIMS[analysis]
    text = text if split is None else f"{text} ({split})"
    return Claim(
        analysis=analysis, claim=text, paper=paper, here=here, verdict=decision, sentence=sentence, lines=list(lines)
    )


def not_measured(analysis: str, reason: str, split: str | None = None) -> Claim:
    """The claim of an analysis, and why it was not measured."""
    return measured(analysis, f"Not measured: {reason}.", "not measured", "-", split=split)


def verdict(low: float | None, high: float | None, *, wanted: Literal[1, -1] = 1) -> Verdict:
    """Whether a claim holds whose effect, with this 95 % interval, should be positive, or negative (`wanted` -1)."""
    if low is None or high is None:
        return "not decided"
    if wanted < 0:
        low, high = -high, -low
    return "holds" if low > 0 else "does not hold" if high < 0 else "not decided"
