"""The input of the lab, collected before by the caller; every part may be missing."""

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

    1 is a preference for the answer in question, 0 for the other one, 0.5 a tie.
    """

    ahead: Floats
    """[pairs]: the verdict with that answer in the first position."""
    behind: Floats
    """[pairs]: the verdict with the same answer in the second position."""
    clusters: tuple[str, ...]
    """What pairs share: their item, or its source; one name per pair."""


@dataclass(frozen=True)
class SearchPlan:
    """The planned search, and the measured cost of an evaluation."""

    evaluations: int
    """Full dev evaluations of the search: particles x iterations, and the initial ones."""
    wall_seconds: float | None = None
    """Wall time of evaluating all models, answering included; None if only the scoring time is known."""
    judges: Spent | None = None
    """Cost of the judges for all models; None without a judge."""
    tokens_limit: int | None = None
    """Limit of `--budget-tokens`."""
    usd_limit: float | None = None
    """Limit of `--budget-usd`."""


@dataclass(frozen=True)
class Material:
    """The collected scores of one utility; None or empty if not collected."""

    dev: Scores | None = None
    """Scores of the experts."""
    test: Scores | None = None
    """Scores of the same experts."""
    cloud_dev: Scores | None = None
    """Scores of mixtures of the experts."""
    cloud_test: Scores | None = None
    again: Scores | None = None
    """`dev` evaluated a second time, answers included."""
    replicates: Sequence[Scores] = ()
    """Further scorings of the answers of `dev`, or of the answers to a part of its items."""
    rungs: Scores | None = None
    """Scores of the texts of `corruptions`; models are the rungs, the best first."""
    attacked: Scores | None = None
    """Scores of the texts of `canary_answers` on dev items; models are the canaries."""
    padded: Scores | None = None
    """Scores of the answers of `dev` after `padded_answer`, with the same models and the same items or a part."""
    positions: Positions | None = None
    paraphrased: Mapping[str, Scores] = field(default_factory=dict)
    """Name of another prompt to the scores of the answers of `dev` under it, on the same items or a part."""
    labels: Labels | None = None
    scored: Mapping[Answer, float] = field(default_factory=dict)
    """Scores of the labelled answers; unscored ones are missing."""
    clusters: Mapping[str, str] = field(default_factory=dict)
    """Item of a labelled answer to what it shares with others; the item itself if missing."""
    plan: SearchPlan | None = None
    absent: Mapping[str, str] = field(default_factory=dict)
    """Check to the reason why it was left out, one sentence."""
