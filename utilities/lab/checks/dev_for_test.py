"""Whether what dev says of the experts holds on test, and how much the best of many looks better than it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from utilities.lab.checks.pairs import scored_models, typical_se
from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.scores import Scores
from utilities.statistics import Estimate, clustered_estimate

__all__ = ["dev_for_test", "dev_for_test_cloud", "expected_maximum", "optimism"]

Floats = NDArray[np.float64]

FEWEST = 5
"""Models a rank correlation needs: four are in order by chance in 1 of 24 cases."""
WARN, FAIL = 0.7, 0.4
CLOUD_RESAMPLES = 500


def dev_for_test(dev: Scores, test: Scores) -> Finding:
    """Spearman's rank correlation of the experts' dev and test values.

    The interval is over experts (Bonett and Wright, Psychometrika 2000): few experts say little about other models,
    however many items they answered.
    """
    return _correlation("dev_for_test", dev, test, None)


def dev_for_test_cloud(dev: Scores, test: Scores, seed: int = 0) -> Finding:
    """The same over particles that are interpolated between the experts, among which a search really chooses.

    They lie closer together than the experts, so the correlation is lower. They are no independent sample: the interval
    is over the items of both splits and holds for these particles.
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
        # A perfect correlation of few models is no certainty: it stands for all within half a swap of neighbours.
        most = 1 - 6 / (len(rows) * (len(rows) ** 2 - 1))
        centre = np.arctanh(np.clip(rho, -most, most))
        estimate = Estimate(rho, min(rho, float(np.tanh(centre - half))), max(rho, float(np.tanh(centre + half))))
    else:
        estimate = _over_items(rho, (on_dev, dev.clusters), (on_test, test.clusters), seed)
    verdict: Verdict = "pass"
    if rho < FAIL:
        verdict = "fail"
    elif rho < WARN or (estimate.low is not None and estimate.low <= 0):
        verdict = "warn"
    advice = {
        "pass": "what is better on dev is better on test",
        "warn": "choosing on dev chooses partly by chance: more dev items, or items more like those of test",
        "fail": "dev does not speak for test: the items differ in kind, are too few, or the utility is mostly noise",
    }[verdict]
    reachable = np.sqrt(_reliability(dev) * _reliability(test))
    yardstick = f"1; {reachable:.2f} is what the standard errors would leave of a perfect agreement"
    numbers = {"models": len(rows), "kendall": float(stats.kendalltau(*values).statistic), "reachable": reachable}
    return finding(check, verdict, advice, estimate, yardstick, numbers)


def _over_items(
    rho: float, dev: tuple[Floats, tuple[str, ...]], test: tuple[Floats, tuple[str, ...]], seed: int
) -> Estimate:
    """The interval over the items of both splits, from one bootstrap that draws clusters of either."""
    from scipy import stats

    cut = dev[0].shape[1]
    clusters = [f"dev {name}" for name in dev[1]] + [f"test {name}" for name in test[1]]
    both = np.concatenate([dev[0], test[0]], axis=1)

    def drawn(index: NDArray[np.intp]) -> float:
        sides = both[:, index[index < cut]], both[:, index[index >= cut]]
        if any(not side.shape[1] or np.isnan(side).all(1).any() for side in sides):
            return float("nan")
        values = [np.nanmean(side, 1) for side in sides]
        return float("nan") if any(np.ptp(side) == 0 for side in values) else float(stats.spearmanr(*values).statistic)

    found = clustered_estimate(drawn, clusters, seed, CLOUD_RESAMPLES, "normal")
    if found.low is None or found.high is None:
        return found
    return Estimate(rho, max(-1.0, found.low), min(1.0, found.high))


def _reliability(scores: Scores) -> float:
    """Share of the variance of the models' values that is not noise, 0 to 1."""
    known = scored_models(scores)
    between, noise = float(np.var(known.means, ddof=1)), typical_se(known) ** 2 / 2
    return max(0.0, 1 - noise / between) if between else 0.0


def optimism(scores: Scores, candidates: int) -> Finding:
    """By how much the best of `candidates` equally good mixtures is expected to look better on dev than it is.

    The expected maximum of as many normal errors, each with the standard error that remains after what the items share
    is taken out. Mixtures lie closer together than the experts and err alike, so this is an upper bound where the
    scores are of experts. It is weighed against the range of their true values, for which a search is made: the range
    that was seen, less what noise adds to it.

    Args:
        scores: Of experts, or of particles.
        candidates: Different mixtures that a search evaluates.

    Raises:
        ValueError: Less than one candidate.
    """
    if candidates < 1:
        raise ValueError(f"the best of {candidates} is not defined")
    known = scored_models(scores)
    if why := known.lacking(2):
        return inapplicable("optimism", why)
    error = typical_se(known) / np.sqrt(2)
    if not np.isfinite(error):
        return inapplicable("optimism", "all items are of one cluster, so no standard error can be known")
    expected = float(error * expected_maximum(candidates))
    spread = float(np.ptp(known.means) * np.sqrt(_reliability(known)))
    verdict: Verdict = "fail" if expected >= spread else "warn" if expected > spread / 2 else "pass"
    advice = {
        "pass": "the gain that a search shows on dev is mostly real",
        "warn": "a good part of the gain on dev will be luck: more dev items, and believe only test",
        "fail": "luck alone promises as much as the best expert has over the worst: more dev items before any search",
    }[verdict]
    yardstick = f"at most half of {spread:.3g}, the range of these models' true values"
    return finding("optimism", verdict, advice, expected, yardstick, {"candidates": candidates, "se": error})


def expected_maximum(count: int) -> float:
    """Of `count` independent standard normal numbers."""
    from scipy import integrate, stats

    def density(x: float) -> float:
        return float(x * count * stats.norm.pdf(x) * stats.norm.cdf(x) ** (count - 1))

    return float(integrate.quad(density, -8, 9, limit=200)[0])
