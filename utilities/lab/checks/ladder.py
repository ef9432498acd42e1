"""Whether answers that are worse by construction are scored lower."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.scores import Scores
from utilities.statistics import Estimate, clustered_estimate

__all__ = ["auroc", "ladder"]

Floats = NDArray[np.float64]

RESAMPLES = 500


def ladder(rungs: Scores, seed: int = 0) -> Finding:
    """AUROC of every rung above the next; the value is the lowest of them.

    AUROC is the probability that a random answer of the better rung is scored above a random one of the worse rung, a
    tie counting a half; the numbers include the same for answers to the same item, which removes the difficulty of the
    item. A utility of correct and wrong need not separate two kinds of wrong: neighbours that tie are a warning.
    Neighbours in the wrong order, or a first rung that is not above the last, are a failure.

    Args:
        rungs: Scores of the same items; its models are the rungs, the best first.
        seed: Seed of the bootstrap.
    """
    if len(rungs.models) < 2:
        return inapplicable("ladder", "there are no gold answers to corrupt")
    if why := rungs.lacking(2):
        return inapplicable("ladder", why)
    if empty := [name for name, row in zip(rungs.models, rungs.values, strict=True) if np.isnan(row).all()]:
        return inapplicable("ladder", f"no answer of the rung {empty[0]!r} could be scored")
    numbers: dict[str, float | int | None] = {}
    steps: list[tuple[str, Estimate]] = []
    for k in range(1, len(rungs.models)):
        name = f"{rungs.models[k - 1]} > {rungs.models[k]}"
        steps.append((name, _step(rungs, k - 1, k, seed)))
        numbers[name] = steps[-1][1].value
        numbers[f"{name}, same item"] = _same_item(rungs, k - 1, k)
    ends_step = _step(rungs, 0, len(rungs.models) - 1, seed)
    numbers[f"{rungs.models[0]} > {rungs.models[-1]}"] = ends_step.value
    lowest, at = min(steps, key=lambda step: step[1].value)
    reversed_ = [name for name, step in steps if step.high is not None and step.high < 0.5]
    level = [name for name, step in steps if step.low is None or step.low <= 0.5]
    verdict: Verdict = "pass"
    advice = "worse answers are scored lower"
    if reversed_:
        verdict, advice = "fail", f"the order is reversed ({', '.join(reversed_)}): the utility rewards worse answers"
    elif ends_step.low is None or ends_step.low <= 0.5:
        ends = f"{rungs.models[0]} and {rungs.models[-1]}"
        verdict, advice = "fail", f"{ends} answers have the same scores: the utility does not measure quality"
    elif level:
        verdict, advice = "warn", f"not separated: {', '.join(level)}; partial progress is not rewarded"
    yardstick = f"1; chance 0.5; the lowest is {lowest}"
    return finding("ladder", verdict, advice, at, yardstick, numbers)


def auroc(better: Sequence[float] | Floats, worse: Sequence[float] | Floats) -> float:
    """Probability that a random `better` is above a random `worse`, ties counting a half; nan is left out.

    The area under the ROC curve, by ranks (Mann-Whitney); nan if a side is empty.
    """
    from scipy import stats

    a, b = (np.asarray(side, dtype=np.float64) for side in (better, worse))
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if not a.size or not b.size:
        return float("nan")
    ranks = stats.rankdata(np.concatenate([a, b]))
    return float((ranks[: a.size].sum() - a.size * (a.size + 1) / 2) / (a.size * b.size))


def _step(rungs: Scores, better: int, worse: int, seed: int) -> Estimate:
    a, b = rungs.values[better], rungs.values[worse]
    return clustered_estimate(lambda index: auroc(a[index], b[index]), rungs.clusters, seed, RESAMPLES)


def _same_item(rungs: Scores, better: int, worse: int) -> float:
    difference = rungs.values[better] - rungs.values[worse]
    present = difference[~np.isnan(difference)]
    return float(np.mean((present > 0) + 0.5 * (present == 0))) if present.size else float("nan")
