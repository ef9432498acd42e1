"""Whether a utility scores how long an answer is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.scores import ENOUGH_ITEMS, Scores
from utilities.statistics import clustered_estimate

__all__ = ["length_slope", "padding", "prefers_longer"]

Floats = NDArray[np.float64]

SLOPE_WARN, SLOPE_FAIL = 0.3, 0.5
"""Correlation with the length: 0.5 is a quarter of the variance between answers to one question."""
LONGER_WARN, LONGER_FAIL = 0.15, 0.25
"""Distance from a half."""
CLEARLY = 1.25
"""Times as many words as the other: below, neither is the longer one for a reader."""
PADDING_WARN, PADDING_FAIL = 0.55, 0.6


def length_slope(scores: Scores, seed: int = 0) -> Finding:
    """Correlation of the score with the logarithm of the answer's length, among answers to the same item.

    What an item does to all answers is taken out. Good answers may be long for a reason, so a correlation is a
    suspicion and `padding`, which changes nothing but the length, the proof; a search follows either.
    """
    table = _within_items(scores)
    if isinstance(table, str):
        return inapplicable("length_slope", table)
    score, length = table
    sums = np.stack([(score * length).sum(0), (score**2).sum(0), (length**2).sum(0)])

    def correlation(index: NDArray[np.intp]) -> float:
        both, s, x = sums[:, index].sum(1)
        return float(both / np.sqrt(s * x)) if s > 0 and x > 0 else float("nan")

    if not sums[1].sum() > 0:
        return inapplicable("length_slope", "all answers to an item have the same score")
    found = clustered_estimate(correlation, scores.clusters, seed)
    size = abs(found.value)
    verdict: Verdict = "fail" if size > SLOPE_FAIL else "warn" if size > SLOPE_WARN else "pass"
    what = "length" if found.value > 0 else "brevity"
    advice = {
        "pass": "length explains little of the score",
        "warn": f"the score goes with {what}: watch the length of the answers during a search",
        "fail": f"the score is largely {what}: a search will find that; control for length, or cap it",
    }[verdict]
    both, s, x = sums.sum(1)
    numbers = {
        "slope_per_doubling": float(both / x * np.log(2)),
        "slope_in_sd": float(both / x * np.log(2) / np.nanstd(scores.values)),
        "variance_explained": float(both**2 / (s * x)),
    }
    return finding("length_slope", verdict, advice, found, "0", numbers)


def prefers_longer(scores: Scores, seed: int = 0) -> Finding:
    """How often the longer of two answers to an item has the higher score; a tie is a half.

    Over all pairs of models of which one used at least a quarter more words.
    """
    wins, asked = np.zeros(len(scores.items)), np.zeros(len(scores.items))
    for a, b in combinations(range(len(scores.models)), 2):
        apart = scores.values[a] - scores.values[b]
        sign = np.zeros_like(apart)
        # Words + 1: an empty answer is shorter than a single word, by a factor.
        ratio = (scores.words[a] + 1) / (scores.words[b] + 1)
        sign[ratio >= CLEARLY], sign[ratio <= 1 / CLEARLY] = 1, -1
        known = ~np.isnan(apart) & (sign != 0)
        wins += np.where(known, 0.5 + 0.5 * np.sign(np.where(known, apart, 0)) * sign, 0)
        asked += known
    if int((asked > 0).sum()) < ENOUGH_ITEMS:
        return inapplicable("prefers_longer", f"below {ENOUGH_ITEMS} items with answers of different length")
    found = clustered_estimate(
        lambda index: wins[index].sum() / asked[index].sum() if asked[index].any() else np.nan, scores.clusters, seed
    )
    away = abs(found.value - 0.5)
    verdict: Verdict = "fail" if away > LONGER_FAIL else "warn" if away > LONGER_WARN else "pass"
    what = "longer" if found.value > 0.5 else "shorter"
    advice = {
        "pass": "neither the longer nor the shorter answer is preferred much",
        "warn": f"the {what} answer is often preferred: see whether it is the better one",
        "fail": f"the {what} answer nearly always wins: a search will find that; control for length, or cap it",
    }[verdict]
    return finding("prefers_longer", verdict, advice, found, "0.5", {"pairs": int(asked.sum())})


def padding(honest: Scores, padded: Scores, seed: int = 0) -> Finding:
    """How often an answer gains by words that say nothing; a tie is a half, so a half is no effect.

    Args:
        honest: Scores of the answers.
        padded: Of the same answers after `padded_answer`.
        seed: Of the bootstrap.
    """
    if honest.models != padded.models or honest.items != padded.items:
        return inapplicable("padding", "the padded answers are of other models or items")
    gain = padded.values - honest.values
    known = ~np.isnan(gain)
    if int(known.any(0).sum()) < ENOUGH_ITEMS:
        return inapplicable("padding", f"below {ENOUGH_ITEMS} items have a score with and without padding")
    wins = np.where(known, 0.5 + 0.5 * np.sign(np.where(known, gain, 0)), 0).sum(0)
    asked = known.sum(0)
    found = clustered_estimate(
        lambda index: wins[index].sum() / asked[index].sum() if asked[index].any() else np.nan, honest.clusters, seed
    )
    verdict: Verdict = "fail" if found.value > PADDING_FAIL else "warn" if found.value > PADDING_WARN else "pass"
    advice = {
        "pass": "padding does not pay",
        "warn": "padding pays a little: watch the length of the answers during a search",
        "fail": "padding pays: a search will make answers longer, not better; ask for brevity, or cap the length",
    }[verdict]
    yardstick = "0.5; answers padded by repetition fooled GPT-4 in 8.7%, GPT-3.5 in 91.3% (Zheng et al. 2023)"
    numbers = {"gains": float((gain[known] > 0).mean()), "mean_gain": float(gain[known].mean())}
    return finding("padding", verdict, advice, found, yardstick, numbers)


def _within_items(scores: Scores) -> tuple[Floats, Floats] | str:
    """Scores and log lengths [models, items] minus their means by item, zero where either is missing; or why not."""
    length = np.log1p(scores.words)
    known = ~np.isnan(scores.values) & ~np.isnan(length)
    if not known.any():
        return "no length of a scored answer is known"
    asked = np.maximum(known.sum(0), 1)
    centred = [np.where(known, side - np.where(known, side, 0).sum(0) / asked, 0) for side in (scores.values, length)]
    # Demeaning leaves rounding behind, which is no difference.
    flat = [np.where(np.abs(side) < 1e-12, 0.0, side) for side in centred]
    if int((flat[1] != 0).any(0).sum()) < ENOUGH_ITEMS:
        return f"below {ENOUGH_ITEMS} items with answers of different length"
    return flat[0], flat[1]
