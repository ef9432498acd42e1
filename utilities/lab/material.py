"""All that the lab may look at, collected before by whoever has the models; every part may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from utilities.judges.budget import Spent
from utilities.lab.labels import Labels
from utilities.lab.scores import Answer, Scores

__all__ = ["Material", "Positions", "SearchPlan"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Positions:
    """Verdicts of a judge that compares two answers, each pair shown in both orders.

    1 is a preference for the answer that is looked at, 0 for the other one, 0.5 a tie.
    """

    ahead: Floats
    """[pairs]: the verdict where that answer stood first."""
    behind: Floats
    """[pairs]: the verdict where the same answer stood second."""
    clusters: tuple[str, ...]
    """What pairs share: their item, or its source; one name a pair."""


@dataclass(frozen=True)
class SearchPlan:
    """The search that is to be paid for, and what an evaluation was seen to take."""

    evaluations: int
    """Full dev evaluations of the search: particles x iterations, and the initial ones."""
    wall_seconds: float | None = None
    """In which all models of the scores were evaluated, answering included; None: scoring alone is known."""
    judges: Spent | None = None
    """What judges have taken for all models of the scores; None where there is no judge."""
    seconds_limit: float | None = None
    tokens_limit: int | None = None
    """For judges, as `--budget-tokens`."""
    usd_limit: float | None = None
    """For judges, as `--budget-usd`."""


@dataclass(frozen=True)
class Material:
    """What was collected about one utility; None or empty is what was not."""

    dev: Scores | None = None
    """Of the experts."""
    test: Scores | None = None
    """Of the same experts."""
    cloud_dev: Scores | None = None
    """Of particles that are interpolated between the experts."""
    cloud_test: Scores | None = None
    again: Scores | None = None
    """`dev` evaluated a second time, answers included."""
    replicates: Sequence[Scores] = ()
    """The answers of `dev` scored anew, as often as was paid for; `dev` itself counts as one more."""
    rungs: Scores | None = None
    """Of the texts that `corruptions` makes; models are the rungs, the best first."""
    attacked: Scores | None = None
    """Of the texts that `canary_answers` makes, on dev items; models are the canaries."""
    padded: Scores | None = None
    """Of the answers of `dev` after `padded_answer`, under the same models and items."""
    positions: Positions | None = None
    paraphrased: Mapping[str, Scores] = field(default_factory=dict)
    """Name of another prompt to the scores of the answers of `dev` under it."""
    labels: Labels | None = None
    scored: Mapping[Answer, float] = field(default_factory=dict)
    """Scores of the labelled answers; a missing one could not be scored."""
    clusters: Mapping[str, str] = field(default_factory=dict)
    """Item of a labelled answer to what it shares with others; itself where it is missing."""
    plan: SearchPlan | None = None
    points: float | None = None
    """The difference that `items_needed` asks about; None for its default."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Check to why it was left out, one sentence, in place of the lab's own."""
