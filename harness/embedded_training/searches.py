"""Compares searches and merges on the experts of a bundled family, and writes `REPORT-FAMILY-searches.md`.

    python -m harness.embedded_training.searches embedded      # resumable; about an hour on two cores
    python -m harness.embedded_training.searches smollm2       # about two hours

Two steps. `compare` with the settings below selects on `Plan.limit` dev items of each item set; its folder is
`runs/FAMILY-searches/compare`. Then every model that it chose answers `Plan.test_limit` test items of each item set: an
item of test costs one answer a model and one of dev an answer an evaluation, so test can have many more.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.compare.compare import CompareOptions, compare
from harness.compare.figure import write_figure
from harness.compare.method import methods
from harness.compare.result import ALL_TASKS, Compared, Measured, Outcome
from harness.compare.statistics import versus
from harness.embedded import smollm2
from harness.run_folder.store import write_atomically
from harness.session.evaluator import measured
from harness.session.session import open_session
from harness.session.settings import EMBEDDED, RunSettings, recommended_settings
from utilities.core import Evaluation
from utilities.sync import run_sync
from utilities.tasks import load_task

TASKS = ("medical", "legal", "science", "culture")
LABELS = {
    "base": "base model",
    "best_single": "best single expert on dev",
    "data_merge": "one adapter of all experts' data",
    "scaled_soup": "mean of the experts, total chosen on dev",
    "task_arithmetic": "task arithmetic, scale chosen on dev",
    "random": "random mixtures",
    "paper": "published search",
    "swarm": "**default search**",
}
CONTRASTS = (("swarm", "best_single"), ("swarm", "random"), ("swarm", "scaled_soup"), ("swarm", "paper"))
SEEDS = 3


@dataclass(frozen=True)
class Plan:
    """The size of the comparison on one family."""

    family: str
    title: str
    budget: int
    limit: int
    """dev items of each item set."""
    test_limit: int

    @property
    def folder(self) -> Path:
        """Everything that was computed."""
        return Path("runs") / f"{self.family}-searches"

    @property
    def report(self) -> Path:
        """The written report; the figure is beside it."""
        return Path(__file__).parent / f"REPORT-{self.family}-searches.md"

    def settings(self, task: str, **more: object) -> RunSettings:
        """The settings of one task, as the command line would make them."""
        return recommended_settings({"task": task, "family": self.family, "dtype": "bfloat16", **more})


PLANS = {
    plan.family: plan
    for plan in (
        Plan(EMBEDDED, "the embedded model and its ten experts", 60, 100, 400),
        Plan(smollm2.NAME, "SmolLM2-135M-Instruct and its ten experts", 32, 40, 200),
    )
}


def on_more_items(plan: Plan, outcome: Outcome) -> Evaluation:
    """The model that a method chose, on the larger test set; a stored evaluation is reused."""
    name = f"{outcome.task}-{outcome.method}" + ("" if outcome.seed is None else f"-seed{outcome.seed}")
    stored = plan.folder / "test" / f"{name}.json"
    if not stored.exists():
        base = outcome.adapter is None
        more = {} if base else {"experts": (str(plan.folder / "compare" / str(outcome.adapter)),)}
        session = open_session(plan.settings(outcome.task, limit=plan.test_limit, **more))
        engine = session.engine()
        try:
            row = None if base else np.ones(1)
            evaluation = run_sync(session.task(engine.particle(row), "test"))
        finally:
            engine.close()
        stored.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(stored, evaluation.to_json())
        print(f"{name}: {evaluation.value}", flush=True)
    return Evaluation.from_json(stored.read_text(encoding="utf-8"))


def selected(plan: Plan) -> Compared:
    """The comparison; stored results are reused."""
    names = tuple(name for name in methods if name in LABELS)
    options = CompareOptions(names, SEEDS, plan.budget, contrasts=CONTRASTS)
    return compare([plan.settings(task, limit=plan.limit) for task in TASKS], options, plan.folder / "compare")


def tested(plan: Plan, compared: Compared) -> Compared:
    """The comparison with every model's value on the larger test set, and the statistics of these values."""
    runs: dict[tuple[str, str], list[Evaluation]] = {}
    outcomes = []
    for one in compared.outcomes:
        evaluation = on_more_items(plan, one)
        runs.setdefault((one.method, one.task), []).append(evaluation)
        outcomes.append(one.model_copy(update={"test": measured(evaluation)}))
    combine = {task: load_task(task, edition="mini", limit=1).combine for task in TASKS}
    seeded = {name for name in LABELS if methods.get(name).seeded}
    against = versus(runs, combine, compared.noise_floor, seeded=seeded)
    return compared.model_copy(update={"outcomes": outcomes, "versus": against})


def values(compared: Compared) -> list[str]:
    """The table of dev and test values, means over seeds."""
    lines = [f"| method | {' | '.join(f'{task} dev | test' for task in TASKS)} |", "|---" * (1 + 2 * len(TASKS)) + "|"]
    for method, label in LABELS.items():
        cells = []
        for task in TASKS:
            own = [one for one in compared.outcomes if (one.method, one.task) == (method, task)]
            cells += [_mean([one.dev for one in own]), _mean([one.test for one in own])]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def _mean(seeds: Sequence[Measured]) -> str:
    """The mean over seeds, and the standard error over items (its mean over seeds)."""
    present = [(one.value, one.se) for one in seeds if one.value is not None and one.se is not None]
    return "{:.3f} ± {:.3f}".format(*np.mean(present, axis=0)) if present else "-"


def differences(compared: Compared) -> list[str]:
    """The default search minus every other method, in points of test value."""
    lines = [f"| default search minus | {' | '.join(TASKS)} | all four | detectable |", "|---" * (len(TASKS) + 3) + "|"]
    for method in LABELS:
        own = {one.task: one for one in compared.versus if (one.method, one.reference) == (method, "swarm")}
        if own:
            cells = [f"{-100 * o.difference:+.1f} ({-100 * o.high:+.1f} to {-100 * o.low:+.1f})" for o in own.values()]
            smallest = own[ALL_TASKS].detectable
            lines.append(f"| {LABELS[method]} | {' | '.join(cells)} | {100 * (smallest or np.nan):.1f} |")
    return lines


def report(plan: Plan, compared: Compared) -> str:
    """The whole report as markdown."""
    return "\n".join(
        [
            f"# Searches on {plan.title}",
            "",
            f"Written by `python -m harness.embedded_training.searches {plan.family}`. Values are the harmonic mean of",
            "the accuracies on a task's two item sets (mini editions), ± the standard error over items. Methods choose",
            f"on {plan.limit} dev items of each item set; test has at most {plan.test_limit} of each, on which nothing",
            f"is chosen. Searches have {plan.budget} evaluations of dev and {SEEDS} seeds, in bfloat16. Guessing is",
            "right in one of four.",
            "",
            *values(compared),
            "",
            "Points of test value by which the default search is better, with the 95 % interval of the paired",
            "bootstrap over items and seeds. Detectable: the smallest true difference over all four tasks that this",
            "comparison finds with a power of 80 % among its comparisons.",
            "",
            *differences(compared),
            "",
            f"![Gain of each method over the best single expert]({plan.report.stem}.png)",
            "",
        ]
    )


def main() -> None:
    """Computes what is missing, and writes the report."""
    plan = PLANS.get(sys.argv[1] if len(sys.argv) == 2 else "")
    if plan is None:
        sys.exit(f"usage: python -m harness.embedded_training.searches {{{','.join(PLANS)}}}")
    compared = tested(plan, selected(plan))
    write_figure(compared, plan.report.with_suffix(".png"))
    write_atomically(plan.report, report(plan, compared))


if __name__ == "__main__":
    main()
