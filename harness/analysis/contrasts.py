"""Paired differences between variants of a search on test, over items, seeds and tasks; and what they say of claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.analysis.result import Claim, Line, Verdict, measured, not_measured, verdict
from harness.analysis.variants import ABLATIONS, DROPPED, FULL, SEARCHES, WARM
from harness.run_folder.read import BASE
from utilities.core import Evaluation
from utilities.statistics import Combine, Pair, resampled_difference

__all__ = ["BEST_EXPERT", "Cell", "contrast", "study_claims"]

BEST_EXPERT = "best initial expert"


@dataclass
class Cell:
    """The test evaluations of one task and seed by name of the model, and the evaluations of each search."""

    task: str
    combine: Combine
    test: dict[str, Evaluation] = field(default_factory=dict)
    evaluations: dict[str, int] = field(default_factory=dict)


def contrast(cells: Sequence[Cell], of: str, to: str) -> Line | None:
    """The mean over tasks of the test difference between two models; None if it was not measured or has no interval.

    Args:
        cells: All tasks and seeds.
        of: Start of the models' names; several of a cell (choices of experts) are further runs.
        to: The same of the models that are subtracted; their mean value becomes the line's control.
    """
    pairs, controls, count = [], [], 0
    for task in dict.fromkeys(cell.task for cell in cells):
        own = [cell for cell in cells if cell.task == task]
        runs, others = (
            [e for cell in own for name, e in cell.test.items() if name.startswith(start) and e.value is not None]
            for start in (of, to)
        )
        if runs and others:
            pairs.append(Pair(runs, others, own[0].combine))
            controls.append(float(np.mean([other.value for other in others])))
            count += len(runs)
    drawn = resampled_difference(pairs) if pairs else None
    if drawn is None:
        return None
    value, low, high = drawn.difference
    return Line(
        label=f"{of.strip(', ')} - {to.strip(', ')}",
        value=value,
        low=low,
        high=high,
        control=float(np.mean(controls)),
        n=count,
    )


def study_claims(cells: Sequence[Cell], only: Sequence[str]) -> list[Claim]:
    """What the variants say about claims of the paper, one for each analysis that needs them."""
    return [_claim(cells, name) for name in (*SEARCHES, "transfer") if name in only]


def _claim(cells: Sequence[Cell], analysis: str) -> Claim:
    lines = [line for of, to in _pairs(cells, analysis) if (line := contrast(cells, of, to)) is not None]
    if not lines:
        return not_measured(analysis, "no variant and its control both have a value on test")
    first = lines[0]
    decision = verdict(first.low, first.high, wanted=-1 if analysis in ("ablation", "dual-use") else 1)
    shown = [f"{line.label} {line.text} points" for line in lines]
    if analysis == "drop":
        decision = _within(first, 0.06)
        full = sum(cell.evaluations[FULL] for cell in cells)
        saved = {line.label.partition(" - ")[0]: line for line in lines}
        share = {name: 1 - sum(cell.evaluations[name] for cell in cells) / full for name in saved}
        shown = [f"{name}: {share[name]:.0%} fewer evaluations, {line.text} points" for name, line in saved.items()]
    searched = Counter(cell.task for cell in cells)
    if min(searched.values()) < 2:  # as in a comparison: its interval does not cover other seeds
        decision = "not decided"
    relative = f"{100 * first.value / first.control:+.1f} %" if first.control else "no"
    sentence = f"On test, {first.n} searches: {'; '.join(shown)}. Relative to its control the first is {relative}."
    return measured(analysis, sentence, decision, f"{first.text} points ({relative})", lines)


def _within(line: Line, share: float) -> Verdict:
    """Whether a loss is smaller than a share of the control's value."""
    allowed = share * (line.control or 0.0)
    return verdict(*(None if end is None else end + allowed for end in (line.low, line.high)))


def _pairs(cells: Sequence[Cell], analysis: str) -> list[tuple[str, str]]:
    """The models that are compared; the first pair decides the claim."""
    names = list(dict.fromkeys(name for cell in cells for name in cell.test))
    if analysis == "diversity":
        pools = {name.partition(",")[0]: int(name.split()[0]) for name in names if " of each" in name}
        ordered = sorted(pools, key=lambda pool: -pools[pool])
        return [(f"{pool},", "1 distinct,") for pool in ordered[:-1]]
    return {
        "weak-to-strong": [("without the best expert", BEST_EXPERT), ("without the better half", BEST_EXPERT)],
        "drop": [
            (f"{kind} {share:g}", FULL) for share in DROPPED[::-1] for kind in ("drop_particle", "drop_iteration")
        ],
        "ablation": [(name, FULL) for name in sorted(ABLATIONS, key=lambda name: name != "no randomness")],
        "modularity": [(WARM, FULL), (WARM, "without the best expert"), (WARM, BEST_EXPERT)],
        "transfer": [("winner of ", BEST_EXPERT), ("winner of ", FULL), ("winner of ", BASE)],
        "dual-use": [("reversed utility", BASE), ("reversed utility", FULL)],
    }[analysis]
