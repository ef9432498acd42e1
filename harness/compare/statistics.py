"""Statistics of a comparison: differences with intervals, ties, ranks over tasks, selection bias.

Seeds that are not comparable (`Evaluation.problem`) are left out of all means; the tables list them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
    "detectable",
    "holm",
    "planned",
    "ranking",
    "shown_reference",
    "summary",
    "versus",
]

Runs = Mapping[tuple[str, str], Sequence[Evaluation]]
"""Test evaluations by (method, task): one per seed, or a single one for deterministic methods."""

REFERENCES = ("best_single", "base", "uniform_soup", "swarm")
"""Methods that every method is compared with: methods without search cost, and the default search."""

LEVEL, POWER = 0.05, 0.8


def versus(
    runs: Runs,
    combine: Mapping[str, Combine],
    noise_floor: Mapping[str, float],
    references: Sequence[str] = REFERENCES,
    seed: int = 0,
    seeded: Collection[str] = (),
) -> list[Versus]:
    """Compares every method with every reference, on each task and, if there are several, over all tasks.

    Intervals and p values come from one paired bootstrap over clusters of items and over seeds. A permutation test
    is not used: it tests whether *these* runs differ, an interval over seeds whether the *methods* differ, and the two
    could contradict each other in one table.

    The family of Holm's correction is all methods against one reference on one task. With 2000 resamples p is at least
    0.001, so no difference can be significant in a family of more than 50.

    The best method of each task (by test) is added to the references, so that ties with it can be marked. It is
    selected by the values it is compared on, so its value is biased upwards: with ten equal methods, some method seems
    worse than the best in 9 % of simulations instead of 5 %.

    Over all tasks, the noise floor is the mean of the tasks' floors, and only methods measured on every task are
    compared. The mean difference is meaningful if all tasks have the same scale; `ranking` does not require that.

    Args:
        runs: Test evaluations.
        combine: Combination of the item sets of every task.
        noise_floor: Task to the difference between repeated measurements; 0 if a task is missing.
        references: Methods to compare with; those that were not measured are skipped.
        seed: Seed of the bootstrap.
        seeded: Methods that draw random numbers: with one seed, a difference to them is not decided.

    Raises:
        ValueError: Two methods were evaluated on different items of one task.
    """
    values = _means(runs)
    single = _single_seed(runs, seeded)
    pairs: list[Versus] = []
    for tasks, name in _groups(combine):
        methods = _on_every(values, tasks)
        if not methods:
            continue
        best = max(methods, key=lambda method: np.mean([values[method, task] for task in tasks]))
        floor = _mean_floor(noise_floor, tasks)
        for reference in dict.fromkeys([*references, best]):
            if reference in methods:
                family = [(method, reference) for method in methods if method != reference]
                pairs += _family(_differences(runs, family, tasks, combine, seed), name, floor, single)
    return pairs


def planned(
    runs: Runs,
    combine: Mapping[str, Combine],
    noise_floor: Mapping[str, float],
    contrasts: Sequence[tuple[str, str]],
    seeded: Collection[str] = (),
    seed: int = 0,
) -> list[Versus]:
    """The planned contrasts (method, reference) on each task, and over all tasks; the rest is as in `versus`.

    Holm's correction is over the contrasts of one task. Few planned comparisons find smaller differences than a table
    of all methods.
    """
    values, single = _means(runs), _single_seed(runs, seeded)
    pairs: list[Versus] = []
    for tasks, name in _groups(combine):
        methods = _on_every(values, tasks)
        family = [pair for pair in contrasts if set(pair) <= set(methods)]
        differences = _differences(runs, family, tasks, combine, seed)
        pairs += _family(differences, name, _mean_floor(noise_floor, tasks), single)
    return pairs


def _groups(combine: Mapping[str, Combine]) -> list[tuple[tuple[str, ...], str]]:
    """Each task, and all tasks together if there are several, with the name of the group."""
    return [((task,), task) for task in combine] + ([(tuple(combine), ALL_TASKS)] if len(combine) > 1 else [])


def _mean_floor(noise_floor: Mapping[str, float], tasks: Sequence[str]) -> float:
    return float(np.mean([noise_floor.get(task, 0.0) for task in tasks]))


def _single_seed(runs: Runs, seeded: Collection[str]) -> set[str]:
    """Methods that draw random numbers and have one run on a task."""
    return {method for (method, _), own in runs.items() if method in seeded and len(own) < 2}


def _differences(
    runs: Runs, pairs: Sequence[tuple[str, str]], tasks: Sequence[str], combine: Mapping[str, Combine], seed: int
) -> dict[tuple[str, str], Resampled]:
    """The difference of each (method, reference) that has one."""
    found = {
        (method, reference): resampled_difference(
            [Pair(_usable(runs[method, t]), _usable(runs[reference, t]), combine[t]) for t in tasks], seed
        )
        for method, reference in pairs
    }
    return {pair: one for pair, one in found.items() if one is not None}


def detectable(se: float, comparisons: int) -> float:
    """The smallest true difference that is found with a power of 80 % among so many comparisons (Bonferroni)."""
    from scipy import stats

    return float(se * (stats.norm.ppf(1 - LEVEL / (2 * comparisons)) + stats.norm.ppf(POWER)))


def _family(
    differences: Mapping[tuple[str, str], Resampled], task: str, floor: float, single: Collection[str]
) -> list[Versus]:
    family = []
    corrected = holm([one.p for one in differences.values()])
    for ((method, reference), found), p_holm in zip(differences.items(), corrected, strict=True):
        value, low, high = found.difference
        verdict: Verdict = "better" if value > 0 else "worse"
        if p_holm >= LEVEL or abs(value) <= floor or {method, reference} & set(single):
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
                detectable=detectable(found.se, len(differences)),
            )
        )
    return family


def shown_reference(compared: Compared) -> str | None:
    """The reference of tables and figures: the first of `REFERENCES` that was measured."""
    measured = {outcome.method for outcome in compared.outcomes}
    return next((reference for reference in REFERENCES if reference in measured), None)


def holm(p: Sequence[float]) -> list[float]:
    """P values of a family after Holm's step-down correction (Scandinavian Journal of Statistics 1979), in order."""
    order = np.argsort(p)
    stepped = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    return [float(q) for q in np.minimum(1.0, np.maximum.accumulate(stepped))[np.argsort(order)]]


def ranking(runs: Runs, tasks: Sequence[str]) -> Ranking:
    """Mean ranks over tasks, Friedman's test and, from 3 tasks on, Nemenyi's critical difference (Demšar 2006).

    Values are means over seeds; ties share their mean rank. Friedman's p is the chi-square approximation, which is
    inaccurate for few tasks. If it is not significant, all methods form one clique and pairs are not tested.
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
        equal = bool((table == table[:, :1]).all())  # ranks are undefined
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
    """The largest groups of two or more methods whose mean ranks span at most the critical difference."""
    names, cliques, end = list(ranks), [], 1
    for start, name in enumerate(names):
        last = sum(rank <= ranks[name] + difference for rank in ranks.values())
        if last > max(end, start + 1):
            cliques.append(names[start:last])
            end = last
    return cliques


@dataclass(frozen=True)
class Summary:
    """One method on one task, over its seeds."""

    dev: float | None
    test: float | None
    se: float | None
    """Standard error of `test` over items and seeds; None if that of a seed is unknown."""
    optimism: float | None
    """Dev minus test value.

    Dev and test have different items, so methods without selection have a gap too; only the excess over the base
    model's gap is selection bias.
    """
    evaluations: float
    """Cost of one run: mean over seeds, like the next two fields."""
    tokens: float
    seconds: float
    problems: tuple[str, ...]
    """The reasons why seeds are left out of `test`."""


def summary(outcomes: Sequence[Outcome]) -> Summary:
    """Means over the outcomes of one method on one task, for seeds that have a value.

    All seeds answer the same items, so the standard error over items does not shrink with more seeds; the error from
    the spread of the seeds does: se² = (mean se over items)² + variance of the seeds / number of seeds. Each seed's
    value contains item noise, so this overestimates the standard error.
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
    """(method, task) to the mean over seeds; entries without a comparable seed are left out."""
    usable = {key: [e.value for e in evaluations if e.value is not None] for key, evaluations in runs.items()}
    return {key: float(np.mean(values)) for key, values in usable.items() if values}


def _on_every(values: Mapping[tuple[str, str], float], tasks: Sequence[str]) -> list[str]:
    """Methods that have a value on all tasks, in order."""
    methods = dict.fromkeys(method for method, _ in values)
    return [method for method in methods if all((method, task) in values for task in tasks)]
