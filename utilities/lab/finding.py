"""What a check found out, in words and numbers, and what all checks together say about a utility."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from utilities.statistics import Estimate

__all__ = [
    "CHECKS",
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
Fitness = Literal["fit as objective", "fit as report only", "not fit"]


class Closed(BaseModel):
    """A part of `lab.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Finding(Closed):
    """One check of a utility: a row of the lab's table, and of `lab.json`."""

    check: str
    """Name of the check, one of `CHECKS`."""
    title: str
    """What the value is, in a few words."""
    value: float | None = None
    """The statistic; None where the check does not apply."""
    low: float | None = None
    """Lower end of the 95 % interval; None where there is none."""
    high: float | None = None
    """Upper end of the 95 % interval; None where there is none."""
    yardstick: str = ""
    """What good utilities reach, as published or as computed: a constant predictor, two humans, a noiseless one."""
    verdict: Verdict
    """Whether the value is good enough; `not applicable` where the check could not be made."""
    advice: str
    """One sentence: what to do, or why the check does not apply."""
    numbers: dict[str, float | int | None] = Field(default_factory=dict)
    """More figures, by name."""


class Conclusion(Closed):
    """The final word of the lab on one utility."""

    fitness: Fitness
    """Whether a search may optimise it, a report may show it, or neither."""
    reasons: tuple[str, ...]
    """Why it is no better than that, one sentence each; empty for a utility that is fit as objective."""


class Weight(NamedTuple):
    """What a check decides."""

    title: str
    """Of the check, in the table."""
    bars: Literal["everything", "objective", "nothing"] = "objective"
    """What a utility that fails the check must not be: it is not fit at all, is no objective, or is only warned of."""
    needed: bool = False
    """Whether a utility is called fit as objective only where this check was made."""


CHECKS: Mapping[str, Weight] = {
    # A number that half of the models do not get, or get for other items, is neither optimised nor reported.
    "failures": Weight("unscored items", "everything", needed=True),
    "timeouts": Weight("items that ran out of time", "everything"),
    # A utility that people do not agree with measures something else, whoever reads it. The statistics are looked at
    # apart because each is blind to something; the plain share of equal labels is shown for its well-known trap and
    # bars nothing that kappa would not bar.
    "same_label": Weight("same label as the raters", "nothing"),
    "kappa": Weight("Cohen's kappa with the raters", "everything"),
    "quadratic_kappa": Weight("quadratic kappa with the raters", "everything"),
    "spearman": Weight("Spearman correlation with the raters", "everything"),
    "kendall": Weight("Kendall's tau-b with the raters", "everything"),
    "krippendorff": Weight("Krippendorff's alpha with the raters", "everything"),
    # Raters who do not agree among themselves are no fault of the utility.
    "human_human": Weight("agreement of the raters among themselves", "nothing"),
    # Who rates corrupted answers above gold ones has the wrong sign or none.
    "ladder": Weight("gold answers above corrupted ones", "everything"),
    # Noise averages out in a report over enough items; a search picks the luckiest of many and optimises it.
    "noise_floor": Weight("same adapters scored twice"),
    "retest": Weight("verdicts that change when asked again"),
    "separation": Weight("pairs of experts told apart", needed=True),
    "signal_to_noise": Weight("signal to noise over the experts"),
    # How many items a difference needs is for the user to weigh: a search may look for larger ones.
    "items_needed": Weight("items needed for a difference", "nothing"),
    "dev_for_test": Weight("rank correlation of dev and test over experts"),
    "dev_for_test_cloud": Weight("rank correlation of dev and test over mixtures"),
    "optimism": Weight("optimism of the best of many"),
    # A bias that a report can name, a search exploits.
    "length_slope": Weight("correlation of score and length"),
    "prefers_longer": Weight("how often the longer answer wins"),
    "padding": Weight("how often padding an answer raises its score"),
    "position": Weight("preference for the first place"),
    "paraphrases": Weight("ranks of the experts under other prompts"),
    "attacks": Weight("canaries against honest answers"),
    # A saturated utility still says that all is well (or lost); it leaves a search nothing to climb.
    "saturation": Weight("answers that share one score"),
    # What it costs is a reason for another budget, not a defect of the number.
    "cost": Weight("cost of a whole search", "nothing"),
}
"""Every check, in the order of the table, and what failing it bars a utility from."""


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
    """The finding of a check that was made; ends of intervals and figures that are not finite are None."""
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
    """What all findings together say: a veto is a veto, and what was not shown is not assumed.

    A check that does not apply vetoes nothing, but without those that are marked `needed` in `CHECKS` a utility is at
    most fit as report: nobody has shown that a search can see differences through it.
    """
    failed = [finding for finding in findings if finding.verdict == "fail"]
    barred = [f for f in failed if CHECKS[f.check].bars == "everything"]
    vetoed = [f for f in failed if CHECKS[f.check].bars == "objective"]
    made = {finding.check for finding in findings if finding.verdict != "not applicable"}
    missing = [name for name, weight in CHECKS.items() if weight.needed and name not in made]
    reasons = [f"{finding.title}: {finding.advice}" for finding in (*barred, *vetoed)]
    reasons += [f"{CHECKS[name].title}: not shown, and nothing is an objective without it" for name in missing]
    fitness: Fitness = "not fit" if barred else "fit as report only" if reasons else "fit as objective"
    return Conclusion(fitness=fitness, reasons=tuple(reasons))
