"""Whether the ranks of the experts depend on the wording of the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from utilities.lab.checks.noise import preferences
from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.scores import Scores
from utilities.statistics import Estimate, clustered_estimate

__all__ = ["paraphrases", "rank_agreement"]

Floats = NDArray[np.float64]

FEWEST = 3
WARN, FAIL = 0.7, 0.4
RESAMPLES = 500


def paraphrases(variants: Mapping[str, Scores], seed: int = 0) -> Finding:
    """Kendall's tau-b of the experts' ranks under two wordings; the mean over all pairs of wordings.

    Args:
        variants: Wording to the scores of the same answers to the same items.
        seed: Seed of the bootstrap.
    """
    if len(variants) < 2:
        return inapplicable("paraphrases", "there is only one wording")
    first = next(iter(variants.values()))
    if any(one.models != first.models or one.items != first.items for one in variants.values()):
        return inapplicable("paraphrases", "the wordings were tried on other models or items")
    if why := next((why for one in variants.values() if (why := one.lacking(FEWEST))), None):
        return inapplicable("paraphrases", why)
    estimate = rank_agreement([one.values for one in variants.values()], first.clusters, seed)
    if estimate is None:
        return inapplicable("paraphrases", "under some wording all experts have the same value, so there are no ranks")
    verdicts = [preferences(one) for one in variants.values()]
    flips = [float(np.mean((one != other)[~np.isnan(one - other)])) for one, other in combinations(verdicts, 2)]
    values = np.array([one.means for one in variants.values()])
    verdict: Verdict = "fail" if estimate.value < FAIL else "warn" if estimate.value < WARN else "pass"
    advice = {
        "pass": "the ranks do not depend on the wording",
        "warn": "some ranks depend on the wording: average over several prompts",
        "fail": "the ranks depend on the wording: the prompt is measured, not the answers; write explicit criteria",
    }[verdict]
    numbers = {
        "wordings": len(variants),
        "flips": float(np.mean(flips)),
        "largest_shift": float(np.nanmax(np.ptp(values, axis=0))),
    }
    return finding("paraphrases", verdict, advice, estimate, "1; unrelated ranks 0", numbers)


def rank_agreement(sides: list[Floats], clusters: tuple[str, ...], seed: int) -> Estimate | None:
    """Mean Kendall's tau-b between the ranks of the same models by several sets of scores [models, items] each.

    Models without a score in one of them are left out. None if one of them has no ranks.
    """
    from scipy import stats

    present = np.logical_and.reduce([~np.isnan(side).all(1) for side in sides])
    sides = [side[present] for side in sides]

    def tau(index: NDArray[np.intp]) -> float:
        drawn = [side[:, index] for side in sides]
        if any(np.isnan(side).all(1).any() for side in drawn):
            return float("nan")
        values = [np.nanmean(side, 1) for side in drawn]
        return float(np.mean([stats.kendalltau(a, b).statistic for a, b in combinations(values, 2)]))

    estimate = clustered_estimate(tau, clusters, seed, RESAMPLES, "normal")
    if not np.isfinite(estimate.value):
        return None
    if estimate.low is None or estimate.high is None:
        return estimate
    return Estimate(estimate.value, max(-1.0, estimate.low), min(1.0, estimate.high))
