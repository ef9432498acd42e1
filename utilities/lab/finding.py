"""The result of a check, and the conclusion of all checks about a utility."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from utilities.statistics import Estimate

__all__ = [
    "CHECKS",
    "NOT_DECIDED",
    "Closed",
    "Conclusion",
    "Finding",
    "Fitness",
    "Verdict",
    "Weight",
    "finding",
    "inapplicable",
    "overall",
]

Verdict = Literal["pass", "warn", "fail", "not applicable"]
Fitness = Literal["fit as objective", "not decided", "fit as report only", "not fit"]

NOT_DECIDED = "not decided"
"""Begins the advice of a check that needs more items."""


class Closed(BaseModel):
    """A part of `lab.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Finding(Closed):
    """One check of a utility: a row of the lab's table, and of `lab.json`."""

    check: str
    """Name of the check, one of `CHECKS`."""
    title: str
    """Description of the value."""
    value: float | None = None
    """The statistic; None if the check does not apply."""
    low: float | None = None
    """Lower end of the 95 % interval, or None."""
    high: float | None = None
    """Upper end of the 95 % interval, or None."""
    yardstick: str = ""
    """Reference values: published ones, or those of a constant predictor, two humans, a noiseless utility."""
    verdict: Verdict
    """Whether the value is good enough; `not applicable` if the check could not be made."""
    advice: str
    """One sentence: advice, or why the check does not apply."""
    numbers: dict[str, float | int | None] = Field(default_factory=dict)
    """More figures, by name."""


class Conclusion(Closed):
    """The conclusion of the lab about one utility."""

    fitness: Fitness
    """Whether a search may optimise it, a report may show it, or neither."""
    reasons: tuple[str, ...]
    """The reasons, one sentence each; empty for a utility that is fit as objective."""


class Weight(NamedTuple):
    """The consequence of a failed check."""

    title: str
    """Title of the check in tables."""
    bars: Literal["everything", "objective", "nothing"] = "objective"
    """What a utility that fails the check is not fit for: anything, an objective, or nothing (a warning only)."""
    needed: bool = False
    """Whether a utility is fit as objective only if this check was made."""


CHECKS: Mapping[str, Weight] = {
    # A value that models have on different items is neither optimised nor reported.
    "failures": Weight("unscored items", "everything", needed=True),
    "timeouts": Weight("items over the time limit", "everything"),
    # A utility that does not agree with people measures something else. Each statistic has blind spots, so each
    # counts; the share of equal labels is shown only for comparison, because it ignores chance agreement.
    "same_label": Weight("same label as the raters", "nothing"),
    "kappa": Weight("Cohen's kappa with the raters", "everything"),
    "quadratic_kappa": Weight("quadratic kappa with the raters", "everything"),
    "spearman": Weight("Spearman correlation with the raters", "everything"),
    "kendall": Weight("Kendall's tau-b with the raters", "everything"),
    "krippendorff": Weight("Krippendorff's alpha with the raters", "everything"),
    # Disagreement between raters is not a fault of the utility.
    "human_human": Weight("agreement between raters", "nothing"),
    # A utility that rates corrupted answers above gold ones has the wrong sign or none.
    "ladder": Weight("gold answers above corrupted ones", "everything"),
    # Noise averages out in a report over enough items; a search selects the maximum of many noisy values.
    "noise_floor": Weight("repeated evaluation of the same adapters"),
    "retest": Weight("verdicts that change when repeated"),
    "separation": Weight("separable pairs of experts", needed=True),
    "signal_to_noise": Weight("signal-to-noise ratio over the experts"),
    # Whether a difference is large enough is the user's decision.
    "items_needed": Weight("items needed for a difference", "nothing"),
    "dev_for_test": Weight("rank correlation of dev and test over experts"),
    "dev_for_test_cloud": Weight("rank correlation of dev and test over mixtures"),
    "optimism": Weight("selection bias of the best of many"),
    # A report can state a bias; a search exploits it.
    "length_slope": Weight("correlation of score and length"),
    "prefers_longer": Weight("how often the longer answer wins"),
    "padding": Weight("how often padding an answer raises its score"),
    "position": Weight("preference for the first position"),
    "paraphrases": Weight("rank agreement under reworded prompts"),
    "attacks": Weight("canaries against honest answers"),
    # A saturated utility can be reported; it leaves a search nothing to improve.
    "saturation": Weight("answers that share one score"),
    # Cost is not a defect of the utility.
    "cost": Weight("cost of a full search", "nothing"),
}
"""Every check, in the order of tables, and the consequence of failing it."""


def inapplicable(check: str, why: str, yardstick: str = "") -> Finding:
    """The finding of a check that cannot be made.

    Args:
        check: Its name.
        why: One sentence.
        yardstick: As in `Finding`.
    """
    return Finding(check=check, title=CHECKS[check].title, yardstick=yardstick, verdict="not applicable", advice=why)


def finding(
    check: str,
    verdict: Verdict,
    advice: str,
    value: Estimate | float,
    yardstick: str = "",
    numbers: Mapping[str, float | int | None] | None = None,
) -> Finding:
    """The finding of a check that was made; numbers that are not finite become None."""
    one = value if isinstance(value, Estimate) else Estimate(value, None, None)
    return Finding(
        check=check,
        title=CHECKS[check].title,
        value=_finite(one.value),
        low=_finite(one.low),
        high=_finite(one.high),
        yardstick=yardstick,
        verdict=verdict,
        advice=advice,
        numbers={name: _finite(number) for name, number in (numbers or {}).items()},
    )


def _finite(number: float | None) -> float | int | None:
    if number is None or not math.isfinite(number):
        return None
    return int(number) if isinstance(number, (int, np.integer)) else float(number)


def overall(findings: Sequence[Finding]) -> Conclusion:
    """The conclusion of all findings. One failed check is enough to decide.

    A check that does not apply decides nothing, but without the checks that are marked `needed` in `CHECKS` a utility
    is at most fit as report: it was not shown that a search can detect differences with it. If no check failed, but
    these items do not show that the experts differ by more than noise, nothing is decided.
    """
    failed = [finding for finding in findings if finding.verdict == "fail"]
    barred = [f for f in failed if CHECKS[f.check].bars == "everything"]
    vetoed = [f for f in failed if CHECKS[f.check].bars == "objective"]
    made = {finding.check for finding in findings if finding.verdict != "not applicable"}
    missing = [name for name, weight in CHECKS.items() if weight.needed and name not in made]
    reasons = [f"{finding.title}: {finding.advice}" for finding in (*barred, *vetoed)]
    reasons += [f"{CHECKS[name].title}: not measured, which an objective needs" for name in missing]
    fitness: Fitness = "not fit" if barred else "fit as report only" if reasons else "fit as objective"
    noise = [f for f in findings if f.check == "signal_to_noise" and f.advice.startswith(NOT_DECIDED)]
    if noise and not reasons:
        fitness, reasons = "not decided", [f"{finding.title}: {finding.advice}" for finding in noise]
    return Conclusion(fitness=fitness, reasons=tuple(reasons))
