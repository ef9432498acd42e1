"""Saturation: how much of its range a utility uses."""

from __future__ import annotations

import numpy as np

from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.scores import Scores
from utilities.statistics import estimate_of_sums

__all__ = ["saturation"]

WARN, FAIL = 0.75, 0.9
"""Share of answers with the commonest score; with 9 in 10 of a 0/1 score on one side, the standard deviation is 0.3 of
a possible 0.5."""


def saturation(scores: Scores, seed: int = 0) -> Finding:
    """Share of answers that have the commonest score.

    At the highest value a search cannot improve (ceiling), at the lowest it gets no signal (floor); a judge that rates
    nearly everything 8 has the same problem in between.
    """
    if why := scores.lacking():
        return inapplicable("saturation", why)
    scored = scores.values[~np.isnan(scores.values)]
    values, counts = np.unique(scored, return_counts=True)
    common = float(values[counts.argmax()])
    at = np.where(np.isnan(scores.values), np.nan, scores.values == common)
    hits, counted = np.nansum(at, 0), (~np.isnan(at)).sum(0)
    share = estimate_of_sums(np.divide, (hits, counted), scores.clusters, seed)
    verdict: Verdict = "fail" if share.value > FAIL else "warn" if share.value > WARN else "pass"
    where = "everything" if len(values) == 1 else "its ceiling" if common == values[-1] else "its floor"
    where = where if common in (values[0], values[-1]) else "one value in the middle"
    remedy = {
        "its ceiling": "harder items or a finer scale",
        "its floor": "easier items, or partial credit (a smooth scorer such as gold_logprob)",
    }.get(where, "a finer scale, such as expected scores or several criteria")
    advice = "the scale is used" if verdict == "pass" else f"{share.value:.0%} of the answers are at {where}: {remedy}"
    return finding(
        "saturation",
        verdict,
        advice,
        share,
        f"below {WARN:.0%}; of {len(values)} distinct values equally used it would be {1 / len(values):.0%}",
        {
            "distinct": len(values),
            "commonest": common,
            "ceiling_share": float((scored == values[-1]).mean()),
            "floor_share": float((scored == values[0]).mean()),
            "lowest": float(values[0]),
            "highest": float(values[-1]),
            "sd": float(scored.std()),
        },
    )
