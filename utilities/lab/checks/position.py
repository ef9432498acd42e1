"""Whether a judge that compares two answers prefers a position."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from utilities.core import Evaluation, Score
from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.material import Positions
from utilities.lab.scores import ENOUGH_ITEMS
from utilities.statistics import estimate_of_sums

__all__ = ["position", "positions"]

BIAS_WARN, BIAS_FAIL = 0.05, 0.1
FLIPS_WARN, FLIPS_FAIL = 0.35, 0.45
"""GPT-4 flips 35 % of its verdicts when the answers are swapped (Zheng et al. 2023, table 2), chance is 50 %."""


def position(verdicts: Positions, seed: int = 0) -> Finding:
    """Position bias: mean verdict of an answer in the first position, minus its mean verdict in the second.

    From -1 (the second position always wins) to 1. Verdicts can flip without a preferred position; their share is among
    the numbers and can decide.
    """
    gain = np.asarray(verdicts.ahead) - np.asarray(verdicts.behind)
    present = np.flatnonzero(~np.isnan(gain))
    if present.size < ENOUGH_ITEMS:
        return inapplicable("position", f"{present.size} pairs were judged in both orders, {ENOUGH_ITEMS} are needed")
    gain, clusters = gain[present], [verdicts.clusters[k] for k in present]
    estimate = estimate_of_sums(np.divide, (gain, np.ones_like(gain)), clusters, seed)
    flips = float(np.mean(gain != 0))
    verdict: Verdict = "pass"
    if abs(estimate.value) > BIAS_FAIL or flips > FLIPS_FAIL:
        verdict = "fail"
    elif abs(estimate.value) > BIAS_WARN or flips > FLIPS_WARN:
        verdict = "warn"
    place = "first" if estimate.value > 0 else "second"
    advice = {
        "pass": "the order matters little; still use both orders",
        "warn": f"the {place} position is favoured, or verdicts depend on the order: use both orders and average",
        "fail": f"{flips:.0%} of the verdicts depend on the order, mostly for the {place} position: change the judge",
    }[verdict]
    yardstick = f"0; verdicts that depend on the order: GPT-4 {FLIPS_WARN:.0%} (Zheng et al. 2023), chance 50%"
    return finding("position", verdict, advice, estimate, yardstick, {"flips": flips, "pairs": int(present.size)})


def positions(evaluations: Mapping[str, Evaluation]) -> Positions | None:
    """The verdicts in both orders in the records of the scorer `pairwise`; None if there are none."""
    ahead, behind, clusters = [], [], []
    for evaluation in evaluations.values():
        for part, leaf in evaluation.leaves.items():
            for result in leaf.results:
                for first, second in _both_orders(result.outcome.notes if isinstance(result.outcome, Score) else ""):
                    ahead.append({"first": 1.0, "second": 0.0}.get(first, 0.5))
                    behind.append({"first": 0.0, "second": 1.0}.get(second, 0.5))
                    alone = result.cluster == result.item_id
                    clusters.append(f"{part}/{result.item_id}" if alone and part else result.cluster)
    return Positions(np.array(ahead), np.array(behind), tuple(clusters)) if ahead else None


def _both_orders(notes: str) -> list[tuple[str, str]]:
    """Which position each judgement in the notes preferred, with the answer first and second."""
    try:
        judgements = json.loads(notes)["judgements"]
        replies = [judgement.get("raw") for judgement in judgements]
    except (ValueError, KeyError, TypeError, AttributeError):  # notes of another scorer
        return []
    places = {"first", "second", "tie"}
    return [(raw[0], raw[1]) for raw in replies if isinstance(raw, list) and len(raw) == 2 and set(raw) <= places]
