"""Estimates the judge cost of a lab before the first request."""

from __future__ import annotations

from collections.abc import Sequence

from harness.lab.probes import REPLICATES, Probes
from harness.session.judge_cost import format_cost_estimate
from utilities.core import Item, Scorer
from utilities.judges.panel import Panel
from utilities.lab import canary_answers, corruptions

__all__ = ["estimate"]


def estimate(panel: Panel, runs: Sequence[Probes], experts: int, others: int, searched: int) -> str:
    """One sentence on judge requests, tokens and price; an upper bound, because equal answers are judged once.

    Args:
        panel: The judges.
        runs: The designs.
        experts: Number of models that are judged on both splits and judged repeatedly.
        others: Number of other models that are judged on both splits: the base model and mixtures.
        searched: Number of dev evaluations of the searches with one design.
    """
    requests: list[tuple[Scorer, Sequence[Item], int]] = []
    for run in runs:
        for name, s in run.observed.task.item_sets.items():
            items = run.items[name]
            kinds = len(canary_answers(items[:1])) + len(corruptions(items[:1]))
            requests.append((s.scorer, s.dev, experts + others + searched))
            requests.append((s.scorer, s.test, experts + others))
            requests.append((s.scorer, items, kinds + experts * (2 + REPLICATES)))  # padded and paraphrased too
    return format_cost_estimate(panel, requests, "the lab")
