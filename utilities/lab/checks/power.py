"""Whether a utility separates the experts on these items, and how many items that needs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from utilities.lab.checks.pairs import Contrast, contrasts, scored_models
from utilities.lab.finding import NOT_DECIDED, Finding, Verdict, finding, inapplicable
from utilities.lab.scores import Scores
from utilities.standard_error import clustered_se
from utilities.statistics import Estimate

__all__ = [
    "FRatio",
    "MOST_ITEMS",
    "f_ratio",
    "items_for",
    "items_needed",
    "not_decided",
    "separation",
    "signal_to_noise",
]

LEVEL, POWER = 0.05, 0.8
"""Significance level and power of the test of a difference."""

SEPARATION_WARN = 0.5

SNR_WARN, SNR_FAIL = 2.0, 1.0
"""Standard deviation of the experts' true values over that of their errors: 2 is a reliability of 0.8, 1 of 0.5."""

MOST_ITEMS = 10_000
"""A check of the experts' differences fails only if it would still fail with so many items."""

DEFAULT_POINTS = 0.05
"""Share of the range of scores: five points of an accuracy."""


class FRatio(NamedTuple):
    """Variance of the experts' means over that of their noise, 1 for pure noise, with its 95 % interval."""

    value: float
    low: float
    high: float
    between: float
    noise: float


def f_ratio(shared: Scores) -> FRatio | None:
    """The two-way analysis of variance of experts and items; None without noise to compare with.

    The interval is exact for normal errors and a pool that is a sample.
    """
    from scipy import stats

    pairs = contrasts(shared)
    noise = float(np.mean([one.se**2 for one in pairs])) / 2 if pairs else 0.0
    if noise == 0:
        return None
    between, models = float(np.var(shared.means, ddof=1)), len(shared.models)
    f, freedom = between / noise, (models - 1, (models - 1) * (len(set(shared.clusters)) - 1))
    low, high = (f / float(stats.f.ppf(q, *freedom)) for q in (0.975, 0.025))
    return FRatio(f, low, high, between, noise)


def not_decided(items: int, times: float) -> str:
    """The advice of a check that needs more items.

    Args:
        items: Items at hand.
        times: How many times as many items would decide; infinite if no difference between the experts was seen.
    """
    if not np.isfinite(times):
        return f"{NOT_DECIDED}: {items} items show no difference between the experts; use more items or other experts"
    needed = f"{max(items + 1, round(items * times, -1 if items * times < 1000 else -2)):,.0f}"
    return f"{NOT_DECIDED}: {items} items are too few, about {needed} would decide; or use a smoother utility"


def separation(scores: Scores) -> Finding:
    """Share of expert pairs whose paired difference is significant at 5 %, without correction.

    A small share says that the items are too few, or that the experts are alike; neither is a fault of the utility, so
    this check never fails.

    Paired, because both answered the same items, as in a search. The published figures use non-overlapping intervals of
    the single models, which is stricter; that share is among the numbers.
    """
    scored = scored_models(scores)
    if why := scored.lacking(2):
        return inapplicable("separation", why)
    pairs = contrasts(scored)
    if not pairs:
        return inapplicable("separation", "all items are in one cluster, so there is no standard error")
    significant = np.array([_is_significant(one) for one in pairs])
    share = float(significant.mean())
    verdict: Verdict = "warn" if share < SEPARATION_WARN else "pass"
    advice = "the experts differ by more than the sampling noise"
    if verdict == "warn":
        errors = sorted(one.se / abs(one.difference) if one.difference else np.inf for one in pairs)
        items, times = int(np.mean([one.items for one in pairs])), (_quantiles() * errors[len(errors) // 2]) ** 2
        advice = not_decided(items, times)
    yardstick = f"{LEVEL:.0%} for equal experts; MT-Bench 22.6%, Arena-Hard 87.4% by intervals (Li et al. 2024)"
    numbers = {"pairs": len(pairs), "separable": int(significant.sum()), "non_overlapping": _non_overlapping(scored)}
    return finding("separation", verdict, advice, share, yardstick, numbers)


def signal_to_noise(scores: Scores) -> Finding:
    """Standard deviation of the experts' true values divided by the standard error of their measurement.

    The ratio is sqrt(F - 1) of `f_ratio`. More items raise it, so it fails only if the upper end of its interval
    excludes that `MOST_ITEMS` items would do.
    """
    scored = scored_models(scores)
    if why := scored.lacking(2):
        return inapplicable("signal_to_noise", why)
    shared = scored.take(scored.shared)
    if not contrasts(shared):
        return inapplicable("signal_to_noise", "all items are in one cluster, so there is no standard error")
    f = f_ratio(shared)
    if f is None:
        equal = np.ptp(shared.means) == 0
        message = "all experts have the same scores" if equal else "the experts differ by the same on every item"
        return inapplicable("signal_to_noise", f"{message}, so there is no noise to compare with")
    value, low, high = (_ratio(one) for one in f[:3])
    items = len(shared.items)
    verdict: Verdict = "warn" if value < SNR_WARN else "pass"
    advice = "differences between experts are mostly real"
    if high * np.sqrt(max(1.0, MOST_ITEMS / items)) < SNR_FAIL:
        verdict, advice = "fail", f"differences between experts are noise, and would be with {MOST_ITEMS:,} items"
    elif verdict == "warn":
        advice = not_decided(items, (SNR_WARN / value) ** 2 if value else np.inf)
    sd = np.sqrt(f.noise)
    numbers = {"signal_sd": value * sd, "noise_sd": sd, "reliability": 1 - 1 / max(f.value, 1.0)}
    yardstick = "2 is a reliability of 0.8, as required of tests (Nunnally and Bernstein 1994); 1 is 0.5"
    return finding("signal_to_noise", verdict, advice, Estimate(value, low, high), yardstick, numbers)


def items_needed(scores: Scores, points: float | None = None) -> Finding:
    """Number of items that detect a true difference of `points` between two experts.

    At 5 % with a power of 80 %, from the observed paired variance, averaged over all pairs of experts, with the design
    effect of clusters.

    Args:
        scores: Scores of the experts.
        points: A difference in the utility's own unit; by default 5 % of the range of its scores.

    Raises:
        ValueError: `points` is not above 0.
    """
    scored = scored_models(scores)
    if points is not None and not points > 0:
        raise ValueError(f"a difference is above 0, not {points}")
    if why := scored.lacking(2):
        return inapplicable("items_needed", why)
    pairs = contrasts(scored)
    spread = float(np.nanmax(scored.values) - np.nanmin(scored.values))
    if not pairs or spread == 0:
        message = "all answers have the same score" if pairs else "all items are in one cluster"
        return inapplicable("items_needed", f"{message}, so the variance of differences is not known")
    points = DEFAULT_POINTS * spread if points is None else points
    # items x se²: the variance of one item's difference, with the design effect of the clusters in it.
    sd = float(np.sqrt(np.mean([one.items * one.se**2 for one in pairs])))
    at_hand = int(np.mean([one.items for one in pairs]))
    needed = items_for(points, sd)
    visible = _quantiles() * sd / np.sqrt(at_hand)
    verdict: Verdict = "pass" if needed <= at_hand else "warn"
    advice = f"the {at_hand} items are enough"
    if verdict == "warn":
        advice = f"with {at_hand} items only differences from {visible:.2g} are detectable: add items"
    yardstick = f"{at_hand} items; a difference of {points:.3g} of a range of {spread:.3g}"
    numbers = {"points": points, "paired_sd": sd, "at_hand": at_hand, "visible": visible}
    return finding("items_needed", verdict, advice, float(needed), yardstick, numbers)


def items_for(points: float, sd: float) -> int:
    """Items that detect a true difference of `points` with a power of 80 % at 5 %, two-sided.

    Args:
        points: The difference.
        sd: Standard deviation of one item's difference.
    """
    return max(2, int(np.ceil((_quantiles() * sd / points) ** 2)))


def _quantiles() -> float:
    from scipy import stats

    return float(stats.norm.ppf(1 - LEVEL / 2) + stats.norm.ppf(POWER))


def _ratio(f: float) -> float:
    return float(np.sqrt(max(0.0, f - 1)))


def _is_significant(one: Contrast) -> bool:
    from scipy import stats

    return bool(abs(one.difference) > stats.t.ppf(1 - LEVEL / 2, one.clusters - 1) * one.se)


def _non_overlapping(scores: Scores) -> float:
    """Share of pairs whose own 95 % intervals do not overlap."""
    from scipy import stats

    half = []
    for row in scores.values:
        scored = np.flatnonzero(~np.isnan(row))
        se = clustered_se(list(row[scored]), [scores.clusters[k] for k in scored])
        groups = len({scores.clusters[k] for k in scored})
        half.append(np.nan if se is None else float(stats.t.ppf(0.975, groups - 1)) * se)
    means, widths = scores.means, np.array(half)
    first, second = np.triu_indices(len(means), 1)
    return float(np.mean(np.abs(means[first] - means[second]) > widths[first] + widths[second]))
