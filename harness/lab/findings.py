"""Runs the checks of `utilities.lab` on the observations of a design."""

from __future__ import annotations

from harness.lab.observations import Answered, Observations
from harness.session.session import BASE
from harness.session.settings import RunSettings
from utilities.judges.budget import Spent
from utilities.judges.panel_scorer import PanelScorer
from utilities.lab import Finding, Scores, examine, positions
from utilities.lab.material import Material, SearchPlan

__all__ = ["findings", "scores", "search_plan"]


def findings(observed: Observations, settings: RunSettings) -> list[Finding]:
    """One finding per check, in the order of `CHECKS`."""
    o = observed
    paraphrased = {name: one for name, answers in o.paraphrased.items() if (one := scores(answers)) is not None}
    material = Material(
        dev=scores(o.experts),
        test=scores({name: one for name, one in o.test.items() if name != BASE}),
        cloud_dev=scores(o.cloud_dev),
        cloud_test=scores(o.cloud_test),
        again=scores(o.again),
        replicates=[one for answers in o.replicates if (one := scores(answers)) is not None],
        rungs=scores(o.ladder),
        attacked=scores(o.canaries),
        padded=scores(o.padded),
        paraphrased=paraphrased,
        positions=positions(o.experts) if o.experts else None,
        labels=o.labels,
        scored=o.labelled,
        clusters=o.sources,
        plan=search_plan(o, settings),
        absent=o.absent,
    )
    return examine(material, settings.seed)


def scores(answered: Answered) -> Scores | None:
    """Scores of all item sets together; None if there are no answers."""
    return Scores.of(answered) if answered else None


def search_plan(observed: Observations, settings: RunSettings) -> SearchPlan:
    """A search with the swarm settings, with the cost of evaluating all experts."""
    swarm, experts, judges = settings.swarm, len(observed.experts), _judged_cost(observed)
    return SearchPlan(
        evaluations=swarm.particles * (swarm.iterations + 1),
        wall_seconds=None if observed.seconds is None else observed.seconds * experts,
        judges=None if judges is None else _times(judges, experts),
        tokens_limit=settings.judging.budget_tokens,
        usd_limit=settings.judging.budget_usd,
    )


def _judged_cost(observed: Observations) -> Spent | None:
    """Estimated judge cost of one evaluation on dev with an empty cache; None without judges."""
    spent: Spent | None = None
    for s in observed.task.item_sets.values():
        if isinstance(s.scorer, PanelScorer) and s.scorer.judge is not None:
            judgements, tokens = s.scorer.cost(s.dev)
            prices = [judge.price for judge in s.scorer.judge.judges]
            usd = None if None in prices else sum(p.usd(tokens, 0) for p in prices if p) / len(prices)
            spent = spent or Spent()
            spent.requests += judgements
            spent.prompt_tokens += tokens
            spent.usd = None if spent.usd is None or usd is None else spent.usd + usd
    return spent


def _times(spent: Spent, evaluations: int) -> Spent:
    usd = None if spent.usd is None else spent.usd * evaluations
    return Spent(spent.requests * evaluations, 0, spent.prompt_tokens * evaluations, 0, usd)
