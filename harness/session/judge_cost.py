"""An estimate of what judges will cost, made before the first request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from utilities.judges.canary import canaries
from utilities.judges.panel_scorer import PanelScorer

if TYPE_CHECKING:
    from harness.session.session import Session
    from utilities.core import Item, Scorer
    from utilities.judges.panel import Panel

__all__ = ["estimate", "format_cost_estimate"]

FINAL_MODELS = 3
"""Models that `report_only` scorers score on test: base model, best initial expert and winner."""

WINNER_CANDIDATES = 3
"""Evaluations on dev to select a winner that may be a mean of mixtures: of the mean, of the best mixture, and of the
selected one."""


def estimate(session: Session) -> str | None:
    """One sentence on the judge requests of a search; None if the task needs no judge.

    An upper bound: equal rows and repeated answers cost nothing, `patience` may end a search early, and monitored items
    are scored only if the best row changed.
    """
    if session.judges is None:
        return None
    task, swarm, panel = session.task, session.settings.swarm, session.judges.panel
    evaluations = max(swarm.particles, len(session.columns)) + swarm.particles * swarm.iterations
    evaluations += 1 + WINNER_CANDIDATES * (swarm.winner == "top-k-mean")  # 1 is the base model
    tested = len(session.pool.names) + 2
    requests: list[tuple[Scorer, Sequence[Item], int]] = []
    for item_set in task.item_sets.values():
        requests += [(item_set.scorer, item_set.dev, evaluations), (item_set.scorer, item_set.test, tested)]
    requests += [(one.scorer, task.item_sets[one.of].test, FINAL_MODELS) for one in task.report_only.values()]
    if session.monitor_set is not None:  # the best initial expert, the best of each iteration, and the winner
        requests += [(s.scorer, s.dev, swarm.iterations + 3) for s in session.monitor_set.item_sets.values()]
    if task.judged and (every := session.settings.judging.canary_every):
        judged = next(s for s in task.item_sets.values() if s.scorer.judged)
        items = tuple(judged.dev[k % len(judged.dev)] for k in range(len(canaries())))
        requests.append((judged.scorer, items, swarm.iterations // every + 1))
    return format_cost_estimate(panel, requests, "the search")


def format_cost_estimate(panel: Panel, requests: Sequence[tuple[Scorer, Sequence[Item], int]], stage: str) -> str:
    """One sentence on the requests to judges, their tokens and their price.

    Args:
        panel: The judges.
        requests: A scorer, the items whose answers it scores, and the number of models that answer them; scorers
            without a judge are skipped.
        stage: What stops if the budget is exceeded, such as "the search".
    """
    costs = [(models, *scorer.cost(items)) for scorer, items, models in requests if isinstance(scorer, PanelScorer)]
    count = sum(models * one for models, one, _ in costs)
    tokens = sum(models * one for models, _, one in costs)
    text = f"judge cost estimate ({', '.join(judge.name for judge in panel.judges)}): {count:,} requests"
    text += f" x ~{tokens / max(1, count):,.0f} tokens = {tokens:,} tokens"
    prices = [judge.price for judge in panel.judges]
    if None in prices:
        text += ", price unknown"
    else:  # counts all tokens as prompt tokens, which most are
        text += f", ${sum(price.usd(tokens, 0) for price in prices if price) / len(prices):,.2f}"
    limit = panel.budget.tokens
    if limit is not None and tokens > limit:
        text += f"; exceeds --budget-tokens {limit:,}: {stage} will stop early"
    return text
