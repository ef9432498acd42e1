"""Answers without a score: how many, why, and whether some models have more of them than others."""

from __future__ import annotations

import numpy as np

from utilities.core import UNSCORED_LIMIT, Reason
from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.scores import Scores

__all__ = ["failures", "timeouts"]

NOTABLE = 0.02
"""Share of unscored answers that is worth a look, well inside the limit."""


def failures(scores: Scores) -> Finding:
    """Share of answers without a score, over all models; the worst model decides the verdict.

    Past the limit of `Evaluation` a model's value is not comparable, and a search treats it as missing. Below it, a
    utility that fails on some models more than on others can still be gamed: what is unscored leaves the mean.
    """
    missing = np.isnan(scores.values)
    if not missing.size:
        return inapplicable("failures", "there is no answer")
    by_model = missing.mean(1)
    share, worst = float(missing.mean()), float(by_model.max())
    model = scores.models[int(by_model.argmax())]
    why = ", ".join(f"{reason} {count}" for reason, count in sorted(scores.reasons.items(), key=lambda one: -one[1]))
    told = f" ({why})" if why else ""
    verdict: Verdict = "pass"
    advice = "nothing to do" if not share else f"few answers are unscored{told}"
    if worst > UNSCORED_LIMIT:
        verdict = "fail"
        advice = f"{model} has no score on {worst:.0%} of its answers{told}: mend the utility, or give it what it needs"
    elif worst > NOTABLE:
        verdict = "warn"
        advice = f"look at what could not be scored{told}, {worst:.0%} of the answers of {model}: it leaves the mean"
    return finding(
        "failures",
        verdict,
        advice,
        share,
        f"at most {UNSCORED_LIMIT:.0%} of any model's answers, else its value is not comparable",
        {"worst_model": worst, "best_model": float(by_model.min()), "answers": missing.size, **scores.reasons},
    )


def timeouts(scores: Scores) -> Finding:
    """Share of answers that were not scored in time, over all models.

    A function that passed its limit a few times is not called again in that evaluation, so the share says how much was
    lost and not how often the function is slow.
    """
    if not scores.values.size:
        return inapplicable("timeouts", "there is no answer")
    late = scores.reasons.get(Reason.TIME.value, 0)
    share = late / scores.values.size
    verdict: Verdict = "fail" if share > UNSCORED_LIMIT else "warn" if late else "pass"
    advice = {
        "pass": "nothing to do",
        "warn": "some answers take too long to score: raise time_limit_s, or make the utility faster on them",
        "fail": "scoring takes longer than it is given: make the utility faster, or raise time_limit_s",
    }[verdict]
    return finding("timeouts", verdict, advice, share, f"at most {UNSCORED_LIMIT:.0%}", {"answers": late})
