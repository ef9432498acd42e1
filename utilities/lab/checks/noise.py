"""How much of a value is the measurement's own: what changes when nothing has changed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from utilities.lab.checks.pairs import typical_se
from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.scores import ENOUGH_ITEMS, Scores
from utilities.statistics import clustered_estimate

__all__ = ["noise_floor", "preferences", "retest"]

Floats = NDArray[np.float64]

OWN_WARN, OWN_FAIL = 0.25, 0.5
"""Share of the variance of a measured difference that is the measurement's own; past a half, asking the same question
again changes more than asking other questions would."""

PUBLISHED_FLIPS = 0.136
"""Of pairwise verdicts of published judges when they are asked again."""
FLIPS_FAIL = 0.25
"""Half of what a coin does."""

TIE = 1e-6
"""Of the pool's range of scores: rounding in another batch is no preference."""


def noise_floor(first: Scores, second: Scores) -> Finding:
    """How far two evaluations of the same adapter lie apart, beside the error that the choice of items causes.

    The value is the larger of what was seen (root mean square over models of the difference of the two values) and what
    the items let expect (the same, from their squared differences): a few models may agree by luck, and a shift of all
    items at once shows in no item alone.
    """
    if first.models != second.models or first.items != second.items:
        return inapplicable("noise_floor", "the second evaluation is of other models or items")
    both = ~np.isnan(first.values - second.values)
    if int(both.any(0).sum()) < ENOUGH_ITEMS:
        return inapplicable("noise_floor", f"below {ENOUGH_ITEMS} items that were scored twice")
    error = typical_se(first)
    apart = np.where(both, second.values - first.values, 0.0)
    counts = np.maximum(both.sum(1), 1)
    seen = float(np.sqrt(np.mean((apart.sum(1) / counts) ** 2)))
    expected = float(np.sqrt(np.mean((apart**2).sum(1) / counts**2)))
    floor = max(seen, expected)
    numbers = {"seen": seen, "expected": expected, "changed": float((np.abs(apart[both]) > 0).mean())}
    if not np.isfinite(error):
        verdict: Verdict = "pass" if floor == 0 else "warn"
        told = "with one model there is no difference between models to hold it against"
        return finding("noise_floor", verdict, told, floor, "0 for a deterministic utility", numbers)
    own = 0.0 if floor == 0 else min(1.0, (floor / error) ** 2) if error else 1.0
    verdict = "fail" if own >= OWN_FAIL else "warn" if own >= OWN_WARN else "pass"
    advice = {
        "pass": "differences below it mean nothing; the choice of items matters more",
        "warn": "a part of every difference is the utility's own noise: repeat judgements and average them",
        "fail": "the utility changes as much by itself as between items: greedy decoding, temperature 0, more repeats",
    }[verdict]
    yardstick = f"0 for a deterministic utility; {error:.2g} is the standard error of a difference on these items"
    return finding("noise_floor", verdict, advice, floor, yardstick, {**numbers, "share_of_variance": own})


def retest(replicates: Sequence[Scores], seed: int = 0) -> Finding:
    """Share of pairwise verdicts that flip when the same answers are judged again.

    A verdict is which of two models has the better answer to an item, or that they tie; it flips where two replicates
    do not say the same. The mean is over items, pairs of models and pairs of replicates.
    """
    if len(replicates) < 2:
        return inapplicable("retest", "the answers were scored only once")
    first = replicates[0]
    if any(one.models != first.models or one.items != first.items for one in replicates):
        return inapplicable("retest", "the replicates are of other models or items")
    if why := next((why for one in replicates if (why := one.lacking(2))), None):
        return inapplicable("retest", why)
    verdicts = [preferences(one) for one in replicates]
    flips, asked = np.zeros(len(first.items)), np.zeros(len(first.items))
    for one, other in combinations(verdicts, 2):
        known = ~np.isnan(one - other)
        flips += (known & (one != other)).sum(0)
        asked += known.sum(0)
    share = clustered_estimate(
        lambda index: flips[index].sum() / asked[index].sum() if asked[index].any() else np.nan, first.clusters, seed
    )
    stacked = np.stack([one.values for one in replicates])
    verdict: Verdict = "fail" if share.value > FLIPS_FAIL else "warn" if share.value > PUBLISHED_FLIPS else "pass"
    advice = {
        "pass": "asking once is enough",
        "warn": "verdicts flip more than those of published judges: average several replicates (--judge-repeats)",
        "fail": "half of what a coin flips: a clearer prompt, a stronger judge or expected scores before any search",
    }[verdict]
    yardstick = f"published judges {PUBLISHED_FLIPS:.1%}, a coin 50% (67% where ties are as likely)"
    spread = float(np.sqrt(np.mean(np.var(stacked[:, ~np.isnan(stacked).any(0)], axis=0, ddof=1))))
    return finding(
        "retest", verdict, advice, share, yardstick, {"replicates": len(replicates), "sd_of_a_score": spread}
    )


def preferences(scores: Scores) -> Floats:
    """Verdicts [pairs of models, items]: 1 and -1 for the better of the two, 0 for a tie, nan where one is unscored."""
    known = scores.values[~np.isnan(scores.values)]
    tie = TIE * float(np.ptp(known)) if known.size else 0.0
    rows = []
    for a, b in combinations(range(len(scores.models)), 2):
        apart = scores.values[a] - scores.values[b]
        rows.append(np.where(np.isnan(apart), np.nan, np.sign(np.where(np.abs(apart) <= tie, 0.0, apart))))
    return np.array(rows) if rows else np.zeros((0, len(scores.items)))
