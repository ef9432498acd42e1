"""Compares searches and merges on SmolLM2's ten experts, and writes `REPORT-smollm2-evidence.md`.

    python -m harness.embedded_training.smollm2_evidence      # resumable; about three hours on two cores

Two steps. `python run.py compare` with the settings below selects on `LIMIT` dev items of each item set; its folder is
`runs/smollm2-evidence/compare`. Then every adapter that it wrote answers `TEST_LIMIT` test items of each item set: an
item of test costs one answer a model and one of dev an answer an evaluation, so test can have many more.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.compare.compare import CompareOptions, compare
from harness.compare.figure import write_figure
from harness.compare.method import methods
from harness.compare.result import ALL_TASKS, Compared, Measured, Outcome
from harness.compare.statistics import planned, versus
from harness.embedded.smollm2 import NAME
from harness.run_folder.store import write_atomically
from harness.session.evaluator import measured
from harness.session.session import open_session
from harness.session.settings import RunSettings, recommended_settings
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
SEEDS, BUDGET, LIMIT, TEST_LIMIT = 3, 32, 40, 200
FOLDER = Path("runs/smollm2-evidence")
REPORT = Path(__file__).parent / "REPORT-smollm2-evidence.md"
FIGURE = REPORT.with_name("smollm2-evidence.png")


def settings_of(task: str, **more: object) -> RunSettings:
    """The settings of one task, as `run.py compare --family smollm2` makes them."""
    return recommended_settings({"task": task, "family": NAME, **more})


def on_more_items(outcome: Outcome) -> Evaluation:
    """The model that a method chose, on `TEST_LIMIT` test items of each item set; a stored evaluation is reused."""
    name = f"{outcome.task}-{outcome.method}" + ("" if outcome.seed is None else f"-seed{outcome.seed}")
    stored = FOLDER / "test" / f"{name}.json"
    if not stored.exists():
        base = outcome.adapter is None
        more = {} if base else {"experts": (str(FOLDER / "compare" / str(outcome.adapter)),)}
        session = open_session(settings_of(outcome.task, limit=TEST_LIMIT, **more))
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


def selected() -> Compared:
    """The comparison; stored results are reused."""
    options = CompareOptions(tuple(name for name in methods if name in LABELS), SEEDS, BUDGET, contrasts=CONTRASTS)
    return compare([settings_of(task, limit=LIMIT) for task in TASKS], options, FOLDER / "compare")


def tested(compared: Compared) -> Compared:
    """The comparison with every model's value on the larger test set, and the statistics of these values."""
    runs: dict[tuple[str, str], list[Evaluation]] = {}
    outcomes = []
    for one in compared.outcomes:
        evaluation = on_more_items(one)
        runs.setdefault((one.method, one.task), []).append(evaluation)
        outcomes.append(one.model_copy(update={"test": measured(evaluation)}))
    combine = {task: load_task(task, edition="mini", limit=1).combine for task in TASKS}
    seeded = {name for name in LABELS if methods.get(name).seeded}
    found = {
        "outcomes": outcomes,
        "versus": versus(runs, combine, compared.noise_floor, seeded=seeded),
        "contrasts": planned(runs, combine, compared.noise_floor, CONTRASTS, seeded),
    }
    return compared.model_copy(update=found)


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
    """The planned contrasts in points of test value."""
    lines = [f"| default search minus | {' | '.join(TASKS)} | all four | detectable |", "|---" * (len(TASKS) + 3) + "|"]
    for method, reference in CONTRASTS:
        own = {one.task: one for one in compared.contrasts if (one.method, one.reference) == (method, reference)}
        cells = [f"{100 * o.difference:+.1f} ({100 * o.low:+.1f} to {100 * o.high:+.1f})" for o in own.values()]
        smallest = own[ALL_TASKS].detectable
        lines.append(f"| {LABELS[reference]} | {' | '.join(cells)} | {100 * (smallest or np.nan):.1f} |")
    return lines


def report(compared: Compared) -> str:
    """The whole report as markdown."""
    return "\n".join(
        [
            "# Searches on a real model: SmolLM2-135M-Instruct and its ten experts",
            "",
            "Written by `python -m harness.embedded_training.smollm2_evidence`. Values are the harmonic mean of the",
            "accuracies on a task's two item sets (mini editions), ± the standard error over items. Methods choose on",
            f"{LIMIT} dev items of each item set; test has {TEST_LIMIT} of each, on which nothing is chosen. Searches",
            f"have {BUDGET} evaluations of dev and {SEEDS} seeds, in bfloat16. Guessing is right in one of four.",
            "",
            *values(compared),
            "",
            "Points of test value by which the default search is better, with the 95 % interval of the paired",
            "bootstrap over items and seeds. Detectable: the smallest true difference over all four tasks that this",
            "comparison finds with a power of 80 %.",
            "",
            *differences(compared),
            "",
            f"![Gain of each method over the best single expert]({FIGURE.name})",
            "",
        ]
    )


def main() -> None:
    """Computes what is missing, and writes the report."""
    compared = tested(selected())
    write_figure(compared, FIGURE)
    write_atomically(REPORT, report(compared))


if __name__ == "__main__":
    main()
