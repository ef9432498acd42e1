"""`lab --search`: which design, as the objective of a search, gives the best test value by the task's own scorer?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from harness.compare.budgeted_search import default_search
from harness.engines.base import Engine
from harness.lab.measure import DesignRun, Progress
from harness.lab.result import Found, Searched
from harness.session.evaluator import measured
from utilities.core import Evaluation
from utilities.statistics import difference_over_runs

__all__ = ["search_with_each"]


async def search_with_each(
    runs: Sequence[DesignRun],
    referee: DesignRun,
    engine: Engine,
    budget: int,
    seeds: Sequence[int],
    progress: Progress,
) -> list[Searched]:
    """Searches with every design as the objective, with equal budgets, and evaluates every winner once on test.

    Args:
        runs: The designs.
        referee: The task with its own scorers, which evaluates every winner.
        engine: Answers the prompts.
        budget: Number of full dev evaluations per search.
        seeds: Seeds, one search each.
        progress: Called after every search.

    Returns:
        The designs, the best on test first; designs with a winner without a test value last.

    Raises:
        UserError: A search found no mixture with a value, or the judges' budget is spent.
    """
    evaluator = referee.evaluator(engine)
    trials: dict[str, list[Found]] = {}
    tests: dict[str, list[Evaluation]] = {}
    for run in runs:
        label = run.observed.design.label
        trials[label], tests[label] = [], []
        for seed in seeds:
            winner = await _winner(run, engine, budget, seed)
            row = np.array(winner["row"])
            record = f"winner-of-{run.store.folder.name}-{seed}"
            test = await evaluator.recorded(evaluator.record_name(record, "test"), record, row, "test")
            tests[label].append(test)
            evaluator.publish(seed, {f"test/search with {label}": test.value})
            trials[label].append(
                Found(
                    seed=seed,
                    objective=winner["objective"],
                    test=measured(test),
                    coefficients=evaluator.coefficients(row),
                    evaluations=winner["evaluations"],
                    seconds=winner["seconds"],
                )
            )
            progress(f"{label}: search with seed {seed} done")
    return _ranked(trials, tests, referee.session.task.combine)


async def _winner(run: DesignRun, engine: Engine, budget: int, seed: int) -> dict[str, Any]:
    """The best row on dev under one design; read from the checkpoint if it is there."""
    winners = run.checkpoint.setdefault("winners", {})
    if str(seed) not in winners:
        evaluator = run.evaluator(engine)
        swarm = run.session.settings.swarm
        result = await default_search(evaluator, f"search-{seed}", swarm, budget, seed)
        (summary,) = (await evaluator.batch([result.row])).summaries
        winners[str(seed)] = {
            "row": result.row.tolist(),
            "objective": summary.value,
            "evaluations": result.cost.evaluations,
            "seconds": result.cost.seconds,
        }
        run.save()
    winner: dict[str, Any] = winners[str(seed)]
    return winner


def _ranked(
    trials: Mapping[str, Sequence[Found]], tests: Mapping[str, Sequence[Evaluation]], combine: Callable[..., Any]
) -> list[Searched]:
    means = {
        label: fmean(values) if len(values := [e.value for e in of if e.value is not None]) == len(of) else None
        for label, of in tests.items()
    }
    valid = {label: mean for label, mean in means.items() if mean is not None}
    best = max(valid, key=valid.__getitem__, default=None)
    ranked = []
    for label in sorted(trials, key=lambda label: -valid.get(label, -np.inf)):
        gap = None
        if best is not None and label in valid and label != best:
            gap = difference_over_runs(tests[best], tests[label], combine)
        ranked.append(
            Searched(
                design=label,
                trials=list(trials[label]),
                test=means[label],
                behind=0.0 if label == best else gap and gap.value,
                low=gap and gap.low,
                high=gap and gap.high,
            )
        )
    return ranked
