"""Which items to ask first, learned from what some particles answered to all of them.

Items that all models get right, or all get wrong, tell models apart as little as no items at all. But what the first
particles agree on a later one may not, so such items are asked less often first, not never: they are a stratum, of
which every stage has a random part (Neyman 1934: the best share of a stratum is its size times its spread).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.thrift.paired import LEAST
from harness.thrift.stages import Order
from utilities.core import Evaluation, Score, Split
from utilities.objective import ObjectiveKind, outcome_as
from utilities.tasks import Task

__all__ = ["MODELS", "Scores", "by_variance", "from_hard_to_easy", "mean_scores", "scores_by_item_set"]

Scores = NDArray[np.float64]
MODELS = 4
"""Evaluations from which an order is learned, at least: fewer say of too many items that all agree."""
STRATA = 4
"""Strata of an item set: items on which the models agree, and the others in equal thirds."""


def scores_by_item_set(
    task: Task, split: Split, evaluations: Sequence[Evaluation], objective: ObjectiveKind = "metric"
) -> dict[str, Scores]:
    """The objective's scores [models, items] by item set, nan where there is none."""
    found: dict[str, Scores] = {}
    for name, s in task.item_sets.items():
        items = s.split(split)
        scores = np.full((len(evaluations), len(items)), np.nan)
        at = {(s.part(item), item.id): k for k, item in enumerate(items)}
        for row, evaluation in zip(scores, evaluations, strict=True):
            leaves = {name: evaluation} if not evaluation.parts else evaluation.parts
            for part, leaf in leaves.items():
                for result in leaf.results:
                    k = at.get((part, result.item_id))
                    outcome = outcome_as(result.outcome, objective)
                    if k is not None and isinstance(outcome, Score):
                        row[k] = outcome.value
        found[name] = scores
    return found


def by_variance(scores: Mapping[str, Scores], seed: int) -> dict[str, Order] | None:
    """Orders for a race: strata by how much the models differ on an item, those that differ most asked most at first.

    The spread of an item is drawn towards the mean spread, by as much as one model more would say, so that items on
    which all agreed are asked too. After any number of items each stratum has about its share (divisors of
    Sainte-Laguë), but at least two.

    Args:
        scores: [models, items] by item set.
        seed: Of the order within a stratum.

    Returns:
        An order an item set; None with fewer than four models.
    """
    rng = np.random.default_rng(seed)
    orders = {}
    for name, one in scores.items():
        if len(one) < MODELS:
            return None
        variance = _known(np.ma.masked_invalid(one).var(axis=0))
        strata = _strata(variance, rng)
        spread = np.sqrt((len(one) * variance + variance.mean()) / (len(one) + 1))
        asked = np.empty(variance.size)  # the lower, the earlier
        for stratum in range(int(strata.max()) + 1):
            members = rng.permutation(np.flatnonzero(strata == stratum))
            weight = math.fsum(spread[members])
            ranks = (np.arange(members.size) + 0.5) / weight if weight > 0 else np.arange(members.size) + 0.5
            ranks[:LEAST] = 0.0
            asked[members] = ranks
        mixed = rng.permutation(variance.size)  # equals in random order
        orders[name] = Order(mixed[np.argsort(asked[mixed], kind="stable")].tolist(), strata.tolist())
    return orders


def _strata(variance: Scores, rng: np.random.Generator) -> NDArray[np.intp]:
    """[items]: 0 where all models agree; the others from 1 up, from the lowest variance to the highest."""
    strata = np.zeros(variance.size, dtype=np.intp)
    differ = rng.permutation(np.flatnonzero(variance > 0))
    for k, members in enumerate(np.array_split(differ[np.argsort(variance[differ], kind="stable")], STRATA - 1)):
        strata[members] = k + 1
    return np.asarray(np.unique(strata, return_inverse=True)[1].reshape(-1), dtype=np.intp)


def from_hard_to_easy(scores: Mapping[str, Scores], seed: int) -> dict[str, Order] | None:
    """Orders for exact pruning: the items that the models got worst first, equals at random.

    Its stages are no random samples: bounds hold in any order, estimates would not.

    Args:
        scores: [models, items] by item set.
        seed: Of the order of equals.

    Returns:
        An order an item set; None without any model.
    """
    rng = np.random.default_rng(seed)
    orders = {}
    for name, one in scores.items():
        if not len(one):
            return None
        mean = mean_scores(one)
        mixed = rng.permutation(mean.size)
        orders[name] = Order(mixed[np.argsort(mean[mixed], kind="stable")].tolist(), [0] * mean.size)
    return orders


def mean_scores(scores: Scores) -> Scores:
    """[items]: the mean over models of scores [models, items]."""
    return _known(np.ma.masked_invalid(scores).mean(axis=0))


def _known(found: np.ma.MaskedArray) -> Scores:
    """[items]: what was found of each item; of those that no model has a score of, the mean of the others."""
    return np.asarray(found.filled(float(found.mean()) if found.count() else 0.0), dtype=np.float64)
