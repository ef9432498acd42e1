"""Whether a judge that compares two answers prefers a place."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from utilities.core import Evaluation, Score
from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.material import Positions
from utilities.lab.scores import ENOUGH_ITEMS
from utilities.statistics import clustered_estimate

__all__ = ["position", "positions"]

BIAS_WARN, BIAS_FAIL = 0.05, 0.1
FLIPS_WARN, FLIPS_FAIL = 0.35, 0.45
"""GPT-4 flips 35 % of its verdicts when the answers change places (Zheng et al. 2023, table 2), a coin 50 %."""


def position(verdicts: Positions, seed: int = 0) -> Finding:
    """How much better an answer fares when it stands first: mean verdict there, minus mean verdict as the second.

    From -1 (the second place always wins) to 1. Verdicts that flip without a favourite place have no bias and are no
    judgement either; their share is among the numbers and can decide.
    """
    gain = np.asarray(verdicts.ahead) - np.asarray(verdicts.behind)
    known = np.flatnonzero(~np.isnan(gain))
    if known.size < ENOUGH_ITEMS:
        return inapplicable("position", f"{known.size} pairs were judged in both orders, {ENOUGH_ITEMS} are needed")
    gain, clusters = gain[known], [verdicts.clusters[k] for k in known]
    found = clustered_estimate(lambda index: float(gain[index].mean()), clusters, seed)
    flips = float(np.mean(gain != 0))
    verdict: Verdict = "pass"
    if abs(found.value) > BIAS_FAIL or flips > FLIPS_FAIL:
        verdict = "fail"
    elif abs(found.value) > BIAS_WARN or flips > FLIPS_WARN:
        verdict = "warn"
    place = "first" if found.value > 0 else "second"
    advice = {
        "pass": "the order matters little; still ask in both",
        "warn": f"the {place} place helps, or verdicts depend on the order: ask in both orders and average",
        "fail": f"{flips:.0%} of the verdicts hang on the order, mostly for the {place} place: another judge or prompt",
    }[verdict]
    yardstick = f"0; verdicts that depend on the order: GPT-4 {FLIPS_WARN:.0%} (Zheng et al. 2023), a coin 50%"
    return finding("position", verdict, advice, found, yardstick, {"flips": flips, "pairs": int(known.size)})


def positions(evaluations: Mapping[str, Evaluation]) -> Positions | None:
    """The verdicts in both orders that the scorer `pairwise` has left in its records; None where there are none."""
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
    """Which place each judgement of the notes preferred, with the answer first and second."""
    try:
        judgements = json.loads(notes)["judgements"]
        said = [judgement.get("raw") for judgement in judgements]
    except (ValueError, KeyError, TypeError, AttributeError):  # notes of another scorer
        return []
    places = {"first", "second", "tie"}
    return [(raw[0], raw[1]) for raw in said if isinstance(raw, list) and len(raw) == 2 and set(raw) <= places]
