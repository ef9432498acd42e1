"""Cost of one evaluation and of a full search."""

from __future__ import annotations

from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.material import SearchPlan
from utilities.lab.scores import Scores

__all__ = ["cost"]


def cost(scores: Scores, plan: SearchPlan) -> Finding:
    """Seconds of a full search, with requests, tokens and dollars among the numbers, against the plan's limits.

    Every figure is the measured cost per model times the evaluations of the search. A cache of judgements makes a
    search cheaper: equal answers are judged once.
    """
    models = len(scores.models)
    if not models:
        return inapplicable("cost", "no model was evaluated, so the cost is unknown")
    seconds = (scores.usage.seconds if plan.wall_seconds is None else plan.wall_seconds) / models
    judges = plan.judges
    usd = judges.usd if judges else 0.0
    each: dict[str, float | None] = {
        "requests": scores.usage.requests / models,
        "answer_tokens": scores.tokens / models,
        "judge_requests": judges.requests / models if judges else 0,
        "judge_tokens": judges.tokens / models if judges else 0,
        "usd": None if usd is None else usd / models,
        "seconds": seconds,
    }
    total = {name: None if one is None else one * plan.evaluations for name, one in each.items()}
    limits = {"judge_tokens": plan.tokens_limit, "usd": plan.usd_limit}
    over = [
        f"{amount} of {allowed:,.6g} {name.replace('_', ' ')}"
        for name, allowed in limits.items()
        if allowed is not None and (taken := total[name]) is not None and taken > allowed
        for amount in [f"{taken:,.6g}"]
    ]
    verdict: Verdict = "pass"
    advice = f"{plan.evaluations} evaluations are within the limits"
    if over:
        verdict = "fail"
        advice = f"a search of {plan.evaluations} evaluations exceeds the limits: {', '.join(over)}"
    elif usd is None:
        verdict = "warn"
        advice = "the price of the judge is unknown, so dollars are not counted; set --judge-price"
    elif not any(limit is not None for limit in limits.values()):
        advice = f"{plan.evaluations} evaluations assumed; no limit is set"
    numbers = {f"evaluation_{name}": one for name, one in each.items()}
    numbers |= {f"search_{name}": one for name, one in total.items()}
    return finding(
        "cost",
        verdict,
        advice,
        total["seconds"] or 0.0,
        f"seconds; one evaluation takes {seconds:.3g}",
        {**numbers, "evaluations": plan.evaluations},
    )
