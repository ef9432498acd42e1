"""Saturation: how much of its range a utility uses."""

from __future__ import annotations

import numpy as np

from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.scores import Scores
from utilities.statistics import clustered_estimate

__all__ = ["histogram", "saturation"]

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
    share = clustered_estimate(lambda index: hits[index].sum() / max(counted[index].sum(), 1), scores.clusters, seed)
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


def histogram(scores: Scores, bins: int = 20) -> tuple[list[float], list[int]]:
    """Edges [bins + 1] and counts [bins] over all models; with no more distinct values than bins, one bin each.

    Raises:
        ValueError: No answer is scored.
    """
    scored = scores.values[~np.isnan(scores.values)]
    if not scored.size:
        raise ValueError("no answer is scored")
    values = np.unique(scored)
    edges: np.ndarray
    if 1 < values.size <= bins:
        middle = (values[1:] + values[:-1]) / 2
        edges = np.array([2 * values[0] - middle[0], *middle, 2 * values[-1] - middle[-1]])
    else:
        edges = np.histogram_bin_edges(scored, bins)
    counts, edges = np.histogram(scored, edges)
    return [float(edge) for edge in edges], [int(count) for count in counts]
