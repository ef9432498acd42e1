"""Measurement noise: what changes when the same thing is measured twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from utilities.lab.checks.pairs import typical_se
from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.scores import ENOUGH_ITEMS, Scores
from utilities.statistics import estimate_of_sums

__all__ = ["noise_floor", "preferences", "retest"]

Floats = NDArray[np.float64]

OWN_WARN, OWN_FAIL = 0.25, 0.5
"""Share of the variance of a measured difference that is measurement noise; above a half it is larger than the sampling
noise of the items."""

PUBLISHED_FLIPS = 0.136
"""Share of pairwise verdicts of published judges that change when repeated."""
FLIPS_FAIL = 0.25
"""Half of the flips of a random judge."""

TIE = 1e-6
"""Share of the range of scores below which two scores tie: rounding is no preference."""


def noise_floor(first: Scores, second: Scores) -> Finding:
    """Difference between two evaluations of the same adapters, compared with the sampling error of the items.

    The value is the larger of the observed difference (root mean square over models) and the difference expected from
    the items (the same, from their squared differences): few models may agree by chance, and a shift of all items is
    not visible in single items.
    """
    if first.models != second.models or first.items != second.items:
        return inapplicable("noise_floor", "the second evaluation is of other models or items")
    both = ~np.isnan(first.values - second.values)
    if int(both.any(0).sum()) < ENOUGH_ITEMS:
        return inapplicable("noise_floor", f"below {ENOUGH_ITEMS} items that were scored twice")
    error = typical_se(first)
    difference = np.where(both, second.values - first.values, 0.0)
    counts = np.maximum(both.sum(1), 1)
    observed = float(np.sqrt(np.mean((difference.sum(1) / counts) ** 2)))
    expected = float(np.sqrt(np.mean((difference**2).sum(1) / counts**2)))
    floor = max(observed, expected)
    numbers = {"seen": observed, "expected": expected, "changed": float((np.abs(difference[both]) > 0).mean())}
    if not np.isfinite(error):
        verdict: Verdict = "pass" if floor == 0 else "warn"
        message = "with one model there is no difference between models to compare with"
        return finding("noise_floor", verdict, message, floor, "0 for a deterministic utility", numbers)
    own = 0.0 if floor == 0 else min(1.0, (floor / error) ** 2) if error else 1.0
    verdict = "fail" if own >= OWN_FAIL else "warn" if own >= OWN_WARN else "pass"
    advice = {
        "pass": "smaller differences are not significant; sampling of items dominates",
        "warn": "a part of every difference is measurement noise: repeat judgements and average them",
        "fail": "measurement noise is as large as sampling noise: greedy decoding, temperature 0, more repeats",
    }[verdict]
    yardstick = f"0 for a deterministic utility; {error:.2g} is the standard error of a difference on these items"
    return finding("noise_floor", verdict, advice, floor, yardstick, {**numbers, "share_of_variance": own})


def retest(replicates: Sequence[Scores], seed: int = 0) -> Finding:
    """Share of pairwise verdicts that flip when the same answers are judged again.

    A verdict is which of two models has the better answer to an item, or a tie; it flips if two replicates differ. The
    mean is over items, pairs of models and pairs of replicates.
    """
    if len(replicates) < 2:
        return inapplicable("retest", "the answers were scored only once")
    first = replicates[0]
    if any(one.models != first.models or one.items != first.items for one in replicates):
        return inapplicable("retest", "the replicates are of other models or items")
    if why := next((why for one in replicates if (why := one.lacking(2))), None):
        return inapplicable("retest", why)
    verdicts = [preferences(one) for one in replicates]
    flips, compared = np.zeros(len(first.items)), np.zeros(len(first.items))
    for one, other in combinations(verdicts, 2):
        present = ~np.isnan(one - other)
        flips += (present & (one != other)).sum(0)
        compared += present.sum(0)
    share = estimate_of_sums(np.divide, (flips, compared), first.clusters, seed)
    stacked = np.stack([one.values for one in replicates])
    verdict: Verdict = "fail" if share.value > FLIPS_FAIL else "warn" if share.value > PUBLISHED_FLIPS else "pass"
    advice = {
        "pass": "one judgement is enough",
        "warn": "verdicts flip more than those of published judges: average several replicates (--judge-repeats)",
        "fail": "half the flips of a random judge: use a clearer prompt, a stronger judge or expected scores",
    }[verdict]
    yardstick = f"published judges {PUBLISHED_FLIPS:.1%}, chance 50% (67% with equally likely ties)"
    spread = float(np.sqrt(np.mean(np.var(stacked[:, ~np.isnan(stacked).any(0)], axis=0, ddof=1))))
    return finding(
        "retest", verdict, advice, share, yardstick, {"replicates": len(replicates), "sd_of_a_score": spread}
    )


def preferences(scores: Scores) -> Floats:
    """Verdicts [pairs of models, items]: 1 and -1 for the better of the two, 0 for a tie, nan if one is unscored."""
    present = scores.values[~np.isnan(scores.values)]
    tie = TIE * float(np.ptp(present)) if present.size else 0.0
    rows = []
    for a, b in combinations(range(len(scores.models)), 2):
        difference = scores.values[a] - scores.values[b]
        rows.append(
            np.where(np.isnan(difference), np.nan, np.sign(np.where(np.abs(difference) <= tie, 0.0, difference)))
        )
    return np.array(rows) if rows else np.zeros((0, len(scores.items)))
