"""What may be concluded from a comparison: differences with intervals, what is a tie, ranks over tasks, optimism.

Seeds that are not comparable (`Evaluation.problem`) are left out of every mean here; the tables name them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.compare.result import ALL_TASKS, Compared, Outcome, Ranking, Verdict, Versus
from utilities.core import Evaluation
from utilities.statistics import Combine, Pair, Resampled, resampled_difference

__all__ = [
    "LEVEL",
    "REFERENCES",
    "Runs",
    "Summary",
    "critical_difference",
    "holm",
    "ranking",
    "shown_reference",
    "summary",
    "versus",
]

Runs = Mapping[tuple[str, str], Sequence[Evaluation]]
"""Test evaluations by (method, task): one a seed, or one alone for a method that draws no random number."""

REFERENCES = ("best_single", "base", "uniform_soup", "swarm")
"""What every method is held against: the things that cost nothing, and this project's own method."""

LEVEL = 0.05


def versus(
    runs: Runs,
    combine: Mapping[str, Combine],
    noise_floor: Mapping[str, float],
    references: Sequence[str] = REFERENCES,
    seed: int = 0,
) -> list[Versus]:
    """Every method against every reference, on each task and, where there are several, over all of them.

    Intervals and p come from one paired bootstrap over clusters of items and over seeds. A permutation test was not
    taken: swapping the two sides of an item asks whether *these* runs differ, an interval over seeds whether the
    *methods* do, and the two would contradict each other in one table.

    The family of Holm's correction is all methods against one reference on one task. With 2000 resamples no p is
    below 0.001, so a family of more than 50 can find no difference at all.

    Beside the references stands the best method of each task (by test), so that ties with it can be marked. It was
    picked by the very values it is compared on, which flatters it: of ten equal methods some seems worse than the best
    in 9 % of simulations, where it should be 5 %.

    Over all tasks the noise floor is the mean of theirs, and only methods that were measured on every task take part.
    The mean of the differences has a meaning where the tasks have one scale; `ranking` needs none.

    Args:
        runs: What was measured on test.
        combine: For every task, how its item sets become the one number.
        noise_floor: Task to the difference that a value measured twice may show; a missing task has none.
        references: Methods; those that were not measured are passed over.
        seed: Of the bootstrap.

    Raises:
        ValueError: Two methods were evaluated on different items of one task.
    """
    values = _means(runs)
    grouped = {(task,): task for task in combine} | ({tuple(combine): ALL_TASKS} if len(combine) > 1 else {})
    found: list[Versus] = []
    for tasks, name in grouped.items():
        methods = _on_every(values, tasks)
        if not methods:
            continue
        best = max(methods, key=lambda method: np.mean([values[method, task] for task in tasks]))
        floor = float(np.mean([noise_floor.get(task, 0.0) for task in tasks]))
        for reference in dict.fromkeys([*references, best]):
            if reference in methods:
                others = [method for method in methods if method != reference]
                differences = {
                    method: resampled_difference(
                        [Pair(_usable(runs[method, t]), _usable(runs[reference, t]), combine[t]) for t in tasks], seed
                    )
                    for method in others
                }
                found += _family(differences, reference, name, floor)
    return found


def _family(differences: Mapping[str, Resampled | None], reference: str, task: str, floor: float) -> list[Versus]:
    known = {method: found for method, found in differences.items() if found is not None}
    family = []
    for (method, found), p_holm in zip(known.items(), holm([one.p for one in known.values()]), strict=True):
        value, low, high = found.difference
        verdict: Verdict = "better" if value > 0 else "worse"
        if p_holm >= LEVEL or abs(value) <= floor:
            verdict = "tie"
        family.append(
            Versus(
                method=method,
                reference=reference,
                task=task,
                difference=value,
                low=low,
                high=high,
                p=found.p,
                p_holm=p_holm,
                verdict=verdict,
            )
        )
    return family


def shown_reference(compared: Compared) -> str | None:
    """What tables and figures hold the methods against: the first of `REFERENCES` that was measured."""
    measured = {outcome.method for outcome in compared.outcomes}
    return next((reference for reference in REFERENCES if reference in measured), None)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics 1979): p values of a family, in their order."""
    order = np.argsort(p)
    stepped = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    return [float(q) for q in np.minimum(1.0, np.maximum.accumulate(stepped))[np.argsort(order)]]


def ranking(runs: Runs, tasks: Sequence[str]) -> Ranking:
    """Mean ranks over tasks, Friedman's test and, from 3 tasks on, Nemenyi's critical difference (Demšar 2006).

    Values are means over seeds; equal ones share their rank. Friedman's p is the chi-square approximation, which is
    rough for few tasks. Where it sees no difference, all methods are one clique: then pairs are not looked at.
    """
    from scipy import stats

    values = _means(runs)
    methods = _on_every(values, tasks)
    left_out = [method for method in dict.fromkeys(name for name, _ in runs) if method not in methods]
    notes = [f"not measured on every task: {', '.join(left_out)}"] if left_out else []
    if not methods:
        return Ranking(
            mean_rank={}, critical_difference=None, cliques=[], friedman_p=None, note="; ".join(notes) or None
        )
    table = np.asarray([[values[method, task] for method in methods] for task in tasks])
    mean_rank = stats.rankdata(-table, axis=1).mean(0)
    ranks = {methods[k]: float(mean_rank[k]) for k in np.argsort(mean_rank, kind="stable")}
    difference, cliques, p = None, [], None
    if len(tasks) < 3 or len(methods) < 3:
        notes.append(f"no critical difference: {len(tasks)} tasks and {len(methods)} methods, it takes 3 of each")
    else:
        equal = bool((table == table[:, :1]).all())  # no ranks to test
        p = 1.0 if equal else float(stats.friedmanchisquare(*table.T).pvalue)
        difference = critical_difference(len(methods), len(tasks))
        cliques = _cliques(ranks, difference)
        if p >= LEVEL:
            cliques = [list(ranks)]
            notes.append(f"Friedman's test sees no difference between the methods (p = {p:.2f})")
    return Ranking(
        mean_rank=ranks,
        critical_difference=difference,
        cliques=cliques,
        friedman_p=p,
        note="; ".join(notes) or None,
    )


def critical_difference(methods: int, tasks: int) -> float:
    """Nemenyi's critical difference of two mean ranks at 5 %: q sqrt(k (k + 1) / 6 N), Demšar 2006, section 3.2.2.

    q is the studentized range with infinite degrees of freedom, divided by the square root of 2 (Demšar's table 5).
    """
    from scipy import stats

    q = stats.studentized_range.ppf(1 - LEVEL, methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * tasks)))


def _cliques(ranks: Mapping[str, float], difference: float) -> list[list[str]]:
    """The largest groups whose mean ranks, in order, span no more than the difference; a method alone is none."""
    names, found, end = list(ranks), [], 1
    for start, name in enumerate(names):
        last = sum(rank <= ranks[name] + difference for rank in ranks.values())
        if last > max(end, start + 1):
            found.append(names[start:last])
            end = last
    return found


@dataclass(frozen=True)
class Summary:
    """One method on one task, over its seeds."""

    dev: float | None
    test: float | None
    se: float | None
    """Standard error of `test` over items and seeds; None where some seed's is not known."""
    optimism: float | None
    """Dev minus test: what choosing on dev has made look better than it is.

    Dev and test are different items, so a method that chooses nothing has one too; only what goes beyond that of the
    base model comes from choosing.
    """
    evaluations: float
    """Mean over seeds, as the two that follow: what the method costs once."""
    tokens: float
    seconds: float
    problems: tuple[str, ...]
    """Why seeds are left out of `test`."""


def summary(outcomes: Sequence[Outcome]) -> Summary:
    """Means over the outcomes of one method on one task; of seeds that have a value.

    The seeds answered the same items, so the items' part of the standard error does not shrink with more seeds; the
    spread of the seeds does: se² = (mean se over items)² + variance of the seeds / their number. As every seed's value
    has noise of its own in it, this errs on the wide side.
    """
    test = [o.test.value for o in outcomes if o.test.value is not None]
    dev = [o.dev.value for o in outcomes if o.dev.value is not None]
    errors = [o.test.se for o in outcomes if o.test.value is not None and o.test.se is not None]
    gaps = [o.dev.value - o.test.value for o in outcomes if o.dev.value is not None and o.test.value is not None]
    se = None
    if test and len(errors) == len(test):
        spread = np.var(test, ddof=1) / len(test) if len(test) > 1 else 0.0
        se = float(np.sqrt(np.square(np.mean(errors)) + spread))
    return Summary(
        dev=_mean(dev),
        test=_mean(test),
        se=se,
        optimism=_mean(gaps),
        evaluations=float(np.mean([o.evaluations for o in outcomes])),
        tokens=float(np.mean([o.tokens for o in outcomes])),
        seconds=float(np.mean([o.seconds for o in outcomes])),
        problems=tuple(
            o.test.problem if o.seed is None else f"seed {o.seed}: {o.test.problem}" for o in outcomes if o.test.problem
        ),
    )


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _usable(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    return [evaluation for evaluation in evaluations if evaluation.value is not None]


def _means(runs: Runs) -> dict[tuple[str, str], float]:
    """(method, task) to the mean over seeds; without those of which no seed is comparable."""
    usable = {key: [e.value for e in evaluations if e.value is not None] for key, evaluations in runs.items()}
    return {key: float(np.mean(values)) for key, values in usable.items() if values}


def _on_every(values: Mapping[tuple[str, str], float], tasks: Sequence[str]) -> list[str]:
    """Methods that have a value on every one of the tasks, in the order given."""
    methods = dict.fromkeys(method for method, _ in values)
    return [method for method in methods if all((method, task) in values for task in tasks)]
