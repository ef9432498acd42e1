"""Whether a utility depends on the length of the answer."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.scores import ENOUGH_ITEMS, Scores
from utilities.statistics import estimate_of_sums

__all__ = ["length_slope", "padding", "prefers_longer"]

Floats = NDArray[np.float64]

SLOPE_WARN, SLOPE_FAIL = 0.3, 0.5
"""Correlation with the length: 0.5 is a quarter of the variance between answers to one question."""
LONGER_WARN, LONGER_FAIL = 0.15, 0.25
"""Distance from a half."""
CLEARLY = 1.25
"""Ratio of the numbers of words from which one answer counts as longer."""
PADDING_WARN, PADDING_FAIL = 0.55, 0.6


def length_slope(scores: Scores, seed: int = 0) -> Finding:
    """Correlation of the score with the logarithm of the answer's length, among answers to the same item.

    Effects of the item are removed. Good answers may be long for a reason, so a correlation is only an indication;
    `padding` changes nothing but the length.
    """
    table = _within_items(scores)
    if isinstance(table, str):
        return inapplicable("length_slope", table)
    score, length = table
    sums = np.stack([(score * length).sum(0), (score**2).sum(0), (length**2).sum(0)])
    if not sums[1].sum() > 0:
        return inapplicable("length_slope", "all answers to an item have the same score")
    estimate = estimate_of_sums(lambda both, s, x: both / np.sqrt(s * x), tuple(sums), scores.clusters, seed)
    size = abs(estimate.value)
    verdict: Verdict = "fail" if size > SLOPE_FAIL else "warn" if size > SLOPE_WARN else "pass"
    what = "length" if estimate.value > 0 else "brevity"
    advice = {
        "pass": "length explains little of the score",
        "warn": f"the score correlates with {what}: monitor the length of the answers during a search",
        "fail": f"the score is largely {what}: a search will exploit it; control for length, or cap it",
    }[verdict]
    both, s, x = sums.sum(1)
    numbers = {
        "slope_per_doubling": float(both / x * np.log(2)),
        "slope_in_sd": float(both / x * np.log(2) / np.nanstd(scores.values)),
        "variance_explained": float(both**2 / (s * x)),
    }
    return finding("length_slope", verdict, advice, estimate, "0", numbers)


def prefers_longer(scores: Scores, seed: int = 0) -> Finding:
    """How often the longer of two answers to an item has the higher score; a tie is a half.

    Over all pairs of models in which one answer has at least a quarter more words.
    """
    wins, compared = np.zeros(len(scores.items)), np.zeros(len(scores.items))
    for a, b in combinations(range(len(scores.models)), 2):
        difference = scores.values[a] - scores.values[b]
        sign = np.zeros_like(difference)
        # Words + 1, so that an empty answer is shorter than one word by a factor.
        ratio = (scores.words[a] + 1) / (scores.words[b] + 1)
        sign[ratio >= CLEARLY], sign[ratio <= 1 / CLEARLY] = 1, -1
        present = ~np.isnan(difference) & (sign != 0)
        wins += np.where(present, 0.5 + 0.5 * np.sign(np.where(present, difference, 0)) * sign, 0)
        compared += present
    if int((compared > 0).sum()) < ENOUGH_ITEMS:
        return inapplicable("prefers_longer", f"below {ENOUGH_ITEMS} items with answers of different length")
    estimate = estimate_of_sums(np.divide, (wins, compared), scores.clusters, seed)
    away = abs(estimate.value - 0.5)
    verdict: Verdict = "fail" if away > LONGER_FAIL else "warn" if away > LONGER_WARN else "pass"
    what = "longer" if estimate.value > 0.5 else "shorter"
    advice = {
        "pass": "neither the longer nor the shorter answer is preferred much",
        "warn": f"the {what} answer is often preferred: check whether it is better",
        "fail": f"the {what} answer nearly always wins: a search will exploit it; control for length, or cap it",
    }[verdict]
    return finding("prefers_longer", verdict, advice, estimate, "0.5", {"pairs": int(compared.sum())})


def padding(honest: Scores, padded: Scores, seed: int = 0) -> Finding:
    """How often empty phrases raise the score of an answer; a tie is a half, so a half is no effect.

    Args:
        honest: Scores of the answers.
        padded: Scores of the same answers after `padded_answer`.
        seed: Seed of the bootstrap.
    """
    if honest.models != padded.models or honest.items != padded.items:
        return inapplicable("padding", "the padded answers are of other models or items")
    gain = padded.values - honest.values
    present = ~np.isnan(gain)
    if int(present.any(0).sum()) < ENOUGH_ITEMS:
        return inapplicable("padding", f"below {ENOUGH_ITEMS} items have a score with and without padding")
    wins = np.where(present, 0.5 + 0.5 * np.sign(np.where(present, gain, 0)), 0).sum(0)
    compared = present.sum(0)
    estimate = estimate_of_sums(np.divide, (wins, compared), honest.clusters, seed)
    verdict: Verdict = "fail" if estimate.value > PADDING_FAIL else "warn" if estimate.value > PADDING_WARN else "pass"
    advice = {
        "pass": "padding does not raise the score",
        "warn": "padding raises the score slightly: monitor the length of the answers during a search",
        "fail": "padding raises the score: a search will make answers longer; ask for brevity, or cap the length",
    }[verdict]
    yardstick = "0.5; answers padded by repetition fooled GPT-4 in 8.7%, GPT-3.5 in 91.3% (Zheng et al. 2023)"
    numbers = {"gains": float((gain[present] > 0).mean()), "mean_gain": float(gain[present].mean())}
    return finding("padding", verdict, advice, estimate, yardstick, numbers)


def _within_items(scores: Scores) -> tuple[Floats, Floats] | str:
    """Scores and log lengths [models, items] minus their means by item, zero if either is missing; or the reason why
    not."""
    length = np.log1p(scores.words)
    present = ~np.isnan(scores.values) & ~np.isnan(length)
    if not present.any():
        return "no scored answer has a known length"
    compared = np.maximum(present.sum(0), 1)
    centred = [
        np.where(present, side - np.where(present, side, 0).sum(0) / compared, 0) for side in (scores.values, length)
    ]
    # Rounding errors of the means are no differences.
    flat = [np.where(np.abs(side) < 1e-12, 0.0, side) for side in centred]
    if int((flat[1] != 0).any(0).sum()) < ENOUGH_ITEMS:
        return f"below {ENOUGH_ITEMS} items with answers of different length"
    return flat[0], flat[1]
