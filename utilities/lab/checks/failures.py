"""Answers without a score: their share, the reasons, and differences between models."""

from __future__ import annotations

import numpy as np

from utilities.core import UNSCORED_LIMIT, Reason
from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.scores import Scores

__all__ = ["failures", "timeouts"]

NOTABLE = 0.02
"""Share of unscored answers that causes a warning."""


def failures(scores: Scores) -> Finding:
    """Share of answers without a score, over all models; the worst model decides the verdict.

    Above the limit of `Evaluation` a model's value is not comparable, and a search treats it as missing. Below it, a
    utility that fails more often on some models can still be gamed, because unscored items are left out of the mean.
    """
    missing = np.isnan(scores.values)
    if not missing.size:
        return inapplicable("failures", "there is no answer")
    by_model = missing.mean(1)
    share, worst = float(missing.mean()), float(by_model.max())
    model = scores.models[int(by_model.argmax())]
    why = ", ".join(f"{reason} {count}" for reason, count in sorted(scores.reasons.items(), key=lambda one: -one[1]))
    detail = f" ({why})" if why else ""
    verdict: Verdict = "pass"
    advice = "nothing to do" if not share else f"few answers are unscored{detail}"
    if worst > UNSCORED_LIMIT:
        verdict = "fail"
        advice = f"{model} has no score on {worst:.0%} of its answers{detail}: fix the utility or its inputs"
    elif worst > NOTABLE:
        verdict = "warn"
        advice = f"{worst:.0%} of the answers of {model} are unscored{detail} and left out of its mean: check them"
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

    A function that exceeded its limit a few times is not called again in that evaluation, so the share counts lost
    items, not slow calls.
    """
    if not scores.values.size:
        return inapplicable("timeouts", "there is no answer")
    late = scores.reasons.get(Reason.TIME.value, 0)
    share = late / scores.values.size
    verdict: Verdict = "fail" if share > UNSCORED_LIMIT else "warn" if late else "pass"
    advice = {
        "pass": "nothing to do",
        "warn": "some answers exceed the time limit: raise time_limit_s, or make the utility faster",
        "fail": "scoring exceeds its time limit: make the utility faster, or raise time_limit_s",
    }[verdict]
    return finding("timeouts", verdict, advice, share, f"at most {UNSCORED_LIMIT:.0%}", {"answers": late})
