"""Whether a utility, on these items, can tell the experts apart at all, and how many items it would take."""

from __future__ import annotations

import numpy as np

from utilities.lab.checks.pairs import Contrast, contrasts, scored_models
from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.scores import Scores
from utilities.standard_error import clustered_se
from utilities.statistics import Estimate

__all__ = ["items_for", "items_needed", "separation", "signal_to_noise"]

LEVEL, POWER = 0.05, 0.8
"""Of the test of a difference: how often it sees one that is not there, and one that is."""

SEPARATION_WARN, SEPARATION_FAIL = 0.5, 0.25

SNR_WARN, SNR_FAIL = 2.0, 1.0
"""Standard deviation of the experts' true values over that of their errors: 2 is a reliability of 0.8, 1 of 0.5."""

DEFAULT_POINTS = 0.05
"""Of the range of scores: five points of an accuracy."""


def separation(scores: Scores) -> Finding:
    """Share of expert pairs that are told apart: their paired difference is significant at 5 %, each pair by itself.

    Paired, because both answered the same items, and a search compares nothing else. The published figures are of
    intervals that do not overlap, each model's own, which is stricter; that share is among the numbers.
    """
    known = scored_models(scores)
    if why := known.lacking(2):
        return inapplicable("separation", why)
    found = contrasts(known)
    if not found:
        return inapplicable("separation", "all items are of one cluster, so no standard error can be known")
    apart = np.array([_told_apart(one) for one in found])
    share = float(apart.mean())
    verdict: Verdict = "fail" if share < SEPARATION_FAIL else "warn" if share < SEPARATION_WARN else "pass"
    advice = {
        "pass": "the experts differ by more than the items' noise",
        "warn": "most pairs cannot be told apart: more items (see items needed), or a smoother utility",
        "fail": "on these items the experts look alike: more items, a smoother utility, or experts that differ",
    }[verdict]
    yardstick = f"{LEVEL:.0%} of equal experts; MT-Bench 22.6%, Arena-Hard 87.4% by intervals (Li et al. 2024)"
    numbers = {"pairs": len(found), "told_apart": int(apart.sum()), "non_overlapping": _non_overlapping(known)}
    return finding("separation", verdict, advice, share, yardstick, numbers)


def signal_to_noise(scores: Scores) -> Finding:
    """Standard deviation of the experts' true values over the standard error that each is measured with.

    A two-way analysis of variance: what items share is taken out, and the variance of the experts' means over that of
    their noise is F, which is 1 where nothing but noise is left. The ratio is sqrt(F - 1), the interval is that of F,
    exact for normal errors and a pool that stands for others like it.
    """
    from scipy import stats

    known = scored_models(scores)
    if why := known.lacking(2):
        return inapplicable("signal_to_noise", why)
    shared = known.take(known.shared)
    found = contrasts(shared)
    if not found:
        return inapplicable("signal_to_noise", "all items are of one cluster, so no standard error can be known")
    between = float(np.var(shared.means, ddof=1))
    noise = float(np.mean([one.se**2 for one in found])) / 2
    if noise == 0:
        told = "all experts are scored alike" if between == 0 else "the experts differ by the same on every item"
        return inapplicable("signal_to_noise", f"{told}, so there is no noise to compare with")
    f, models = between / noise, len(shared.models)
    freedom = (models - 1, (models - 1) * (len(set(shared.clusters)) - 1))
    low, high = (_ratio(f / stats.f.ppf(q, *freedom)) for q in (0.975, 0.025))
    value = _ratio(f)
    verdict: Verdict = "fail" if value < SNR_FAIL else "warn" if value < SNR_WARN else "pass"
    advice = {
        "pass": "what differs between experts is mostly real",
        "warn": "a good part of what differs between experts is noise: more items, or a smoother utility",
        "fail": "differences between experts are mostly noise, and a search would follow it: more items first",
    }[verdict]
    numbers = {"signal_sd": value * np.sqrt(noise), "noise_sd": np.sqrt(noise), "reliability": 1 - 1 / max(f, 1.0)}
    yardstick = "2 is a reliability of 0.8, as tests are asked for (Nunnally and Bernstein 1994); 1 is one of 0.5"
    return finding("signal_to_noise", verdict, advice, Estimate(value, low, high), yardstick, numbers)


def items_needed(scores: Scores, points: float | None = None) -> Finding:
    """How many items it takes to tell two experts apart that truly differ by `points`.

    At 5 % and with a power of 80 %, from the paired variance that was observed, the mean over all pairs of experts;
    items that share a cluster count for what they are worth together.

    Args:
        scores: Of the experts.
        points: A difference in the utility's own unit; by default 5 % of the range of its scores.

    Raises:
        ValueError: `points` is not above 0.
    """
    known = scored_models(scores)
    if points is not None and not points > 0:
        raise ValueError(f"a difference is above 0, not {points}")
    if why := known.lacking(2):
        return inapplicable("items_needed", why)
    found = contrasts(known)
    spread = float(np.nanmax(known.values) - np.nanmin(known.values))
    if not found or spread == 0:
        told = "all answers have the same score" if found else "all items are of one cluster"
        return inapplicable("items_needed", f"{told}, so the variance of differences is not known")
    points = DEFAULT_POINTS * spread if points is None else points
    # items x se²: the variance of one item's difference, with the design effect of the clusters in it.
    sd = float(np.sqrt(np.mean([one.items * one.se**2 for one in found])))
    at_hand = int(np.mean([one.items for one in found]))
    needed = items_for(points, sd)
    visible = _quantiles() * sd / np.sqrt(at_hand)
    verdict: Verdict = "pass" if needed <= at_hand else "warn"
    advice = f"the {at_hand} items at hand are enough for it"
    if verdict == "warn":
        advice = f"the {at_hand} items at hand only show differences from {visible:.2g}: add items, or hope for as much"
    yardstick = f"{at_hand} items at hand; a difference of {points:.3g} of a range of {spread:.3g}"
    numbers = {"points": points, "paired_sd": sd, "at_hand": at_hand, "visible": visible}
    return finding("items_needed", verdict, advice, float(needed), yardstick, numbers)


def items_for(points: float, sd: float) -> int:
    """Items that show a true difference of `points` with the power of 80 % at 5 %, two-sided.

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


def _told_apart(one: Contrast) -> bool:
    from scipy import stats

    return bool(abs(one.difference) > stats.t.ppf(1 - LEVEL / 2, one.clusters - 1) * one.se)


def _non_overlapping(scores: Scores) -> float:
    """Share of pairs whose own 95 % intervals do not overlap."""
    half = []
    for row in scores.values:
        known = np.flatnonzero(~np.isnan(row))
        se = clustered_se(list(row[known]), [scores.clusters[k] for k in known])
        half.append(np.nan if se is None else 1.96 * se)
    means, widths = scores.means, np.array(half)
    first, second = np.triu_indices(len(means), 1)
    return float(np.mean(np.abs(means[first] - means[second]) > widths[first] + widths[second]))
