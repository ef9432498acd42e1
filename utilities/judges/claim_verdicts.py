"""Verdicts of judges on a claim given its evidence, and their majority vote."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from utilities.core import Reason, Unscored
from utilities.judges.evidence import Passage
from utilities.judges.parsing import Reply, as_object, refused, without_default

__all__ = ["FAILED", "VERDICTS", "JudgedClaim", "Verdict", "Vote", "as_verdict", "as_word", "majority"]

Verdict = Literal["supported", "contradicted", "inconclusive"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
FAILED = "failed"
"""Replaces the verdict if no judge reached one."""


class JudgedClaim(BaseModel):
    """A judge's reply on one claim. The reasoning comes first, so that the verdict can follow from it."""

    # The schema requires both fields, as strict servers demand; a reply without a reasoning is still accepted.
    model_config = ConfigDict(
        frozen=True, json_schema_extra={"additionalProperties": False, "required": ["reasoning", "verdict"]}
    )

    reasoning: str = Field("", json_schema_extra=without_default)
    verdict: Annotated[Verdict, BeforeValidator(lambda said: _bare(said) if isinstance(said, str) else said)]


def _bare(word: str) -> str:
    return word.strip(" \t\r\n.*_\"'`").casefold()


@dataclass(frozen=True, slots=True)
class Vote:
    """One judge's verdict on one claim, and the passages that it read."""

    judge: str
    found: JudgedClaim | Unscored
    read: Sequence[Passage] = ()

    def told(self) -> dict[str, Any]:
        """The vote as stored in the records."""
        if isinstance(self.found, Unscored):
            return {"judge": self.judge, "verdict": FAILED, "why": f"{self.found.reason}: {self.found.detail}"}
        return {"judge": self.judge, "verdict": self.found.verdict, "why": self.found.reasoning}


def majority(votes: Sequence[Vote]) -> str:
    """The most frequent verdict; `inconclusive` for a tie, `FAILED` only if every judge failed."""
    counts = Counter(vote.found.verdict for vote in votes if isinstance(vote.found, JudgedClaim))
    if not counts:
        return FAILED
    (first, most), *others = counts.most_common()
    return "inconclusive" if others and others[0][1] == most else first


def as_verdict(reply: Reply) -> JudgedClaim | Unscored:
    """Parses the verdict of a JSON reply."""
    return as_object(reply, JudgedClaim)


def as_word(reply: Reply) -> JudgedClaim | Unscored:
    """Parses a one-word verdict, the format for small judges; any other text is malformed."""
    if refused(reply.text):
        return Unscored(Reason.REFUSED, "the judge declined", raw=reply.text)
    verdict = as_verdict(replace(reply, text=json.dumps({"verdict": reply.text})))
    return replace(verdict, raw=reply.text) if isinstance(verdict, Unscored) else verdict
