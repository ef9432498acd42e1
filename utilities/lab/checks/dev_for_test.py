"""Whether dev predicts test over the experts, and the selection bias of the best of many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from utilities.lab.checks.pairs import scored_models, typical_se
from utilities.lab.checks.power import MOST_ITEMS, f_ratio, not_decided
from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.scores import Scores
from utilities.statistics import Estimate, clustered_estimate

__all__ = ["dev_for_test", "dev_for_test_cloud", "expected_maximum", "optimism"]

Floats = NDArray[np.float64]

FEWEST = 5
"""Smallest number of models of a rank correlation: four are in order by chance in 1 of 24 cases."""
WARN, FAIL = 0.7, 0.4
CLOUD_RESAMPLES = 500


def dev_for_test(dev: Scores, test: Scores) -> Finding:
    """Spearman's rank correlation of the experts' dev and test values.

    The interval is over experts (Bonett and Wright, Psychometrika 2000), because few experts carry little information
    about other models, independent of the number of items.
    """
    return _correlation("dev_for_test", dev, test, None)


def dev_for_test_cloud(dev: Scores, test: Scores, seed: int = 0) -> Finding:
    """The same over mixtures of the experts, among which a search selects.

    They are closer together than the experts, so the correlation is lower. They are not an independent sample: the
    interval is over the items of both splits and holds for these mixtures.
    """
    return _correlation("dev_for_test_cloud", dev, test, seed)


def _correlation(check: str, dev: Scores, test: Scores, seed: int | None) -> Finding:
    from scipy import stats

    names = [name for name in dev.models if name in test.models]
    rows = [(dev.model(name), test.model(name)) for name in names]
    rows = [(a, b) for a, b in rows if not (np.isnan(a).all() or np.isnan(b).all())]
    if len(rows) < FEWEST:
        return inapplicable(check, f"{len(rows)} models have scores on dev and test, at least {FEWEST} are needed")
    if why := scored_models(dev).lacking(2) or scored_models(test).lacking(2):
        return inapplicable(check, why)
    on_dev, on_test = (np.stack(side) for side in zip(*rows, strict=True))
    values = np.nanmean(on_dev, 1), np.nanmean(on_test, 1)
    if any(np.ptp(side) == 0 for side in values):
        return inapplicable(check, "all models have the same value on one of the splits, so there are no ranks")
    rho = float(np.clip(stats.spearmanr(*values).statistic, -1, 1))
    if seed is None:
        half = 1.96 * np.sqrt((1 + rho**2 / 2) / (len(rows) - 3))
        # A perfect correlation of few models is limited to half a swap of neighbours.
        most = 1 - 6 / (len(rows) * (len(rows) ** 2 - 1))
        centre = np.arctanh(np.clip(rho, -most, most))
        estimate = Estimate(rho, min(rho, float(np.tanh(centre - half))), max(rho, float(np.tanh(centre + half))))
    else:
        estimate = _over_items(rho, (on_dev, dev.clusters), (on_test, test.clusters), seed)
    reachable = np.sqrt(_reliability(dev) * _reliability(test))
    verdict: Verdict = "pass"
    if estimate.high is not None and estimate.high < FAIL <= reachable:
        verdict = "fail"
    elif rho < WARN or (estimate.low is not None and estimate.low <= 0):
        verdict = "warn"
    advice = {
        "pass": "dev predicts test",
        "warn": "not decided, selection on dev is partly chance: use more dev items, or items more like those of test",
        "fail": "dev does not predict test, and the number of items is not the reason: the items differ in kind",
    }[verdict]
    yardstick = f"1; {reachable:.2f} is the highest that the standard errors allow"
    numbers = {"models": len(rows), "kendall": float(stats.kendalltau(*values).statistic), "reachable": reachable}
    return finding(check, verdict, advice, estimate, yardstick, numbers)


def _over_items(
    rho: float, dev: tuple[Floats, tuple[str, ...]], test: tuple[Floats, tuple[str, ...]], seed: int
) -> Estimate:
    """The interval over the items of both splits, by one bootstrap over the clusters of both."""
    from scipy import stats

    cut = dev[0].shape[1]
    clusters = [f"dev {name}" for name in dev[1]] + [f"test {name}" for name in test[1]]
    both = np.concatenate([dev[0], test[0]], axis=1)

    def correlation(index: NDArray[np.intp]) -> float:
        sides = both[:, index[index < cut]], both[:, index[index >= cut]]
        if any(not side.shape[1] or np.isnan(side).all(1).any() for side in sides):
            return float("nan")
        values = [np.nanmean(side, 1) for side in sides]
        return float("nan") if any(np.ptp(side) == 0 for side in values) else float(stats.spearmanr(*values).statistic)

    estimate = clustered_estimate(correlation, clusters, seed, CLOUD_RESAMPLES, "normal")
    if estimate.low is None or estimate.high is None:
        return estimate
    return Estimate(rho, max(-1.0, estimate.low), min(1.0, estimate.high))


def _reliability(scores: Scores) -> float:
    """Share of the variance of the models' values that is not noise, from 0 to 1."""
    scored = scored_models(scores)
    between, noise = float(np.var(scored.means, ddof=1)), typical_se(scored) ** 2 / 2
    return max(0.0, 1 - noise / between) if between else 0.0


def optimism(scores: Scores, candidates: int) -> Finding:
    """Expected selection bias of the best of `candidates` equally good mixtures on dev.

    The expected maximum of as many independent normal errors, each with the standard error of a paired difference
    divided by sqrt(2). Errors of mixtures are correlated, so this is an upper bound if the scores are of experts. It is
    compared with the range of their true values: the observed range, corrected for noise.

    Args:
        scores: Scores of experts or mixtures.
        candidates: Number of different mixtures that a search evaluates.

    Raises:
        ValueError: Less than one candidate.
    """
    if candidates < 1:
        raise ValueError(f"the best of {candidates} is not defined")
    scored = scored_models(scores)
    if why := scored.lacking(2):
        return inapplicable("optimism", why)
    error = typical_se(scored) / np.sqrt(2)
    if not np.isfinite(error):
        return inapplicable("optimism", "all items are in one cluster, so there is no standard error")
    expected = float(error * expected_maximum(candidates))
    spread = float(np.ptp(scored.means) * np.sqrt(_reliability(scored)))
    f, items = f_ratio(scored.take(scored.shared)), int(scored.shared.size)
    largest = float(np.ptp(scored.means)) * np.sqrt(1 - 1 / max(1.0, f.high)) if f else spread
    verdict: Verdict = "warn" if expected > spread / 2 else "pass"
    advice = "a search's gain on dev is mostly real"
    if expected * np.sqrt(min(1.0, items / MOST_ITEMS)) >= largest:
        verdict, advice = "fail", f"selection bias is the whole gain on dev, and would be with {MOST_ITEMS:,} items"
    elif verdict == "warn":
        advice = not_decided(items, (2 * expected / spread) ** 2 if spread else np.inf) + "; report only test"
    yardstick = f"at most half of {spread:.3g}, the range of these models' true values"
    return finding("optimism", verdict, advice, expected, yardstick, {"candidates": candidates, "se": error})


def expected_maximum(count: int) -> float:
    """Expected maximum of `count` independent standard normal numbers."""
    from scipy import integrate, stats

    def density(x: float) -> float:
        return float(x * count * stats.norm.pdf(x) * stats.norm.cdf(x) ** (count - 1))

    return float(integrate.quad(density, -8, 9, limit=200)[0])
