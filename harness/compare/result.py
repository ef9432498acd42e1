"""Schema of `compare.json`: value, cost and significance of every method on every task."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from harness.run_folder.result import Measured

__all__ = ["ALL_TASKS", "Absent", "Compared", "Measured", "Outcome", "Ranking", "Verdict", "Versus"]

ALL_TASKS = "all"
"""Used in place of a task's name for statistics over all tasks."""

Verdict = Literal["better", "worse", "tie"]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Outcome(_Closed):
    """One method, one task, one seed."""

    method: str
    task: str
    seed: int | None
    """None: the method draws no random number; it was measured once, and that holds for every seed."""
    dev: Measured
    """The split that the method chose on, if it chose anything."""
    test: Measured
    """Read once, at the end."""
    evaluations: int
    """Full dev evaluations that choosing took; 0 for methods that choose nothing."""
    items: int
    """Answers to single items that choosing took."""
    tokens: int
    """Tokens generated for them."""
    seconds: float
    """Wall seconds of this method, from the experts to its result; the test split is not counted."""
    coefficients: dict[str, float] | None
    """Expert to its coefficient, where the result is such a sum; "group: expert" where groups of modules differ."""
    adapter: str | None
    """Folder of the result, relative to the compare folder; None where the method yields no adapter."""
    records: str
    """File with the per-item test results, relative to the compare folder."""
    note: str | None


class Absent(_Closed):
    """A method that has no outcome on a task."""

    method: str
    task: str
    reason: str
    """Why it does not apply, or how it failed."""


class Versus(_Closed):
    """A method against a reference on the same test items; higher is better."""

    method: str
    reference: str
    task: str
    """A task, or `all`: the mean difference over all tasks, where both were measured on every one."""
    difference: float
    """Method minus reference, both the mean over their seeds."""
    low: float
    """Lower end of the 95 % interval over items and seeds."""
    high: float
    p: float
    """Two-sided, of no difference."""
    p_holm: float
    """The same after Holm's correction over all methods that are compared with this reference on this task."""
    verdict: Verdict
    """`tie` where `p_holm` is 0.05 or more, where the difference lies within the noise floor, and where one of the two
    draws random numbers and was run with one seed only."""
    detectable: float | None = None
    """The smallest true difference that this comparison would find with a power of 80 %."""


class Ranking(_Closed):
    """Methods by their mean rank over the tasks (Demšar, "Statistical Comparisons of Classifiers", JMLR 2006)."""

    mean_rank: dict[str, float]
    """Method to its mean rank, the best first; 1 is best. Only methods that were measured on every task."""
    critical_difference: float | None
    """Mean ranks that lie further apart than this differ (Nemenyi, 5 %); None with fewer than 3 tasks."""
    cliques: list[list[str]]
    """Largest groups of methods that do not differ, the best first; empty without a critical difference."""
    friedman_p: float | None
    """Of all methods being equally good; None where the test has no meaning."""
    note: str | None
    """What is missing here and why."""


class Compared(_Closed):
    """Everything that `compare` found; while it runs, what it has found so far."""

    tasks: list[str]
    methods: list[str]
    """As they were asked for, those that are absent included."""
    seeds: list[int]
    budget: int
    """Full dev evaluations that a method may use."""
    engine: str
    model: str
    """Base model, as it was asked for."""
    outcomes: list[Outcome]
    absent: list[Absent]
    noise_floor: dict[str, float]
    """Task to the difference of a value that is measured twice; two values that are no further apart are a tie."""
    versus: list[Versus]
    """Every method against every reference, and against the best of each task. A pair is missing where one of the two
    has no value (its outcomes say why), or where they have fewer than two independent items in common."""
    contrasts: list[Versus] = []
    """The planned comparisons of `--contrasts`; Holm's correction is over those of a task."""
    ranking: Ranking | None
    """None while the comparison runs."""
    seconds: float
    """Wall time of the whole comparison, all its parts where it was resumed."""
