"""Runs the checks of `utilities.lab` on the observations of a design."""

from __future__ import annotations

from harness.lab.observations import Answered, Observations
from harness.session.session import BASE
from harness.session.settings import RunSettings
from utilities.judges.budget import Spent
from utilities.judges.panel_scorer import PanelScorer
from utilities.lab import CHECKS, Finding, Scores, examine, padding, paraphrases, positions, retest
from utilities.lab.material import Material, SearchPlan

__all__ = ["findings", "scores", "search_plan"]


def findings(observed: Observations, settings: RunSettings) -> list[Finding]:
    """One finding per check, in the order of `CHECKS`."""
    found = {one.check: one for one in examine(material(observed, settings), settings.seed)}
    found |= {one.check: one for one in _on_a_part(observed, settings.seed)}
    return [found[check] for check in CHECKS]


def material(observed: Observations, settings: RunSettings) -> Material:
    """Scores of the observations on all dev items."""
    o = observed
    return Material(
        dev=scores(o.experts),
        test=scores({name: one for name, one in o.test.items() if name != BASE}),
        cloud_dev=scores(o.cloud_dev),
        cloud_test=scores(o.cloud_test),
        again=scores(o.again),
        rungs=scores(o.ladder),
        attacked=scores(o.canaries),
        positions=positions(o.experts) if o.experts else None,
        labels=o.labels,
        scored=o.labelled,
        clusters=o.sources,
        plan=search_plan(o, settings),
        absent=o.absent,
    )


def _on_a_part(observed: Observations, seed: int) -> list[Finding]:
    """The checks on answers that were scored again, which use a subset of the dev items if judges score them."""
    o, dev = observed, scores(observed.experts)
    if dev is None:
        return []
    found = []
    if (padded := scores(o.padded)) is not None:
        found.append(padding(_beside(dev, padded), padded, seed))
    if variants := {name: one for name, answers in o.paraphrased.items() if (one := scores(answers)) is not None}:
        own = _beside(dev, next(iter(variants.values())))
        found.append(paraphrases({"": own, **variants}, seed))
    if replicates := [one for answers in o.replicates if (one := scores(answers)) is not None]:
        found.append(retest([_beside(dev, replicates[0]), *replicates], seed))
    return found


def _beside(dev: Scores, part: Scores) -> Scores:
    """The scores restricted to the items of a subset."""
    place = {name: k for k, name in enumerate(dev.items)}
    return dev.take([place[name] for name in part.items])


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
