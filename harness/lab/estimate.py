"""What the judges of a lab are going to be asked, told before the first one is."""

from __future__ import annotations

from collections.abc import Sequence

from harness.lab.probes import REPLICATES, Probes
from harness.session.judge_cost import format_cost_estimate
from utilities.core import Item, Scorer
from utilities.judges.panel import Panel
from utilities.lab import canary_answers, corruptions

__all__ = ["estimate"]


def estimate(panel: Panel, runs: Sequence[Probes], experts: int, others: int, searched: int) -> str:
    """A sentence on judgements, tokens and money; the upper end, for equal answers are judged once.

    Args:
        panel: Who is asked.
        runs: The designs.
        experts: Models whose answers are judged on both splits, and judged again.
        others: Models whose answers are judged on both splits: the base model, and mixtures.
        searched: Evaluations on dev of the searches of one design.
    """
    asked: list[tuple[Scorer, Sequence[Item], int]] = []
    for run in runs:
        for name, s in run.observed.task.item_sets.items():
            items = run.items[name]
            kinds = len(canary_answers(items[:1])) + len(corruptions(items[:1]))
            asked.append((s.scorer, s.dev, experts + others + searched))
            asked.append((s.scorer, s.test, experts + others))
            asked.append((s.scorer, items, kinds + experts * (2 + REPLICATES)))  # padded, and in other words
    return format_cost_estimate(panel, asked, "the lab")
