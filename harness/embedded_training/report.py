"""Measures the embedded family on the four domains and writes `REPORT.md`.

    python -m harness.embedded_training.report     # resumable; over an hour on 2 cores that compute in bfloat16

The searches are those of `python run.py compare` with default settings, stored in `runs/embedded-report`. dev selects,
test is read once per seed, and the statements at the end are computed from the tables. Everything is computed in
bfloat16, except for the seconds, which are those of the default precision.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.compare.compare import CompareOptions, compare
from harness.compare.result import ALL_TASKS, Compared, Measured, Versus
from harness.embedded import WEIGHTS
from harness.run_folder.store import write_atomically
from harness.session.session import Session, open_session
from harness.session.settings import RunSettings
from utilities.core import Evaluation, Split
from utilities.tasks import read_task_file

DOMAINS = ("medical", "legal", "science", "culture")
METHODS = (
    *("base", "best_single", "scaled_soup", "task_arithmetic", "ties", "random", "cma", "paper"),
    *("swarm_third", "swarm", "oracle"),
)
REFERENCES = ("best_single", "scaled_soup", "task_arithmetic", "ties", "random", "cma", "paper")
"""What the default search is planned to be compared with."""
SEEDS, BUDGET = 3, 120
RUNS = Path("runs/embedded-report")
REPORT = Path(__file__).parent / "REPORT.md"
SPLITS: tuple[Split, ...] = ("dev", "test")

Cells = tuple[float, float, float, float]
"""dev, its error, test, its error."""


def settings_of(domain: str, **more: object) -> RunSettings:
    """The default settings of a task, as the command line would make them."""
    from harness.session.settings import run_settings

    described, _ = read_task_file(domain)
    layer = {"task": domain, "engine": "local", "device": "cpu", "dtype": "bfloat16", **more}
    return run_settings(described.editions["mini"].settings, layer)


def compared() -> Compared:
    """The searches on all domains; stored results are reused."""
    contrasts = tuple(("swarm", reference) for reference in REFERENCES)
    options = CompareOptions(METHODS, SEEDS, BUDGET, contrasts=contrasts)
    return compare([settings_of(domain) for domain in DOMAINS], options, RUNS / "compare")


def evaluate(session: Session, row: Sequence[float] | None, name: str) -> Cells:
    """A mixture, or the base model, on both splits; stored results are reused."""
    cells: list[float] = []
    for split in SPLITS:
        stored = RUNS / f"{session.task.name}-{name}-{split}.json"
        if not stored.exists():
            engine = session.engine()
            try:
                particle = engine.particle(None if row is None else np.asarray(row, dtype=np.float64))
                write_atomically(stored, asyncio.run(session.task(particle, split)).to_json())
            finally:
                engine.close()
        evaluation = Evaluation.from_json(stored.read_text(encoding="utf-8"))
        cells += [np.nan if value is None else value for value in (evaluation.value, evaluation.se)]
    return (cells[0], cells[1], cells[2], cells[3])


@dataclass(frozen=True)
class Domain:
    """The measurements of one domain."""

    models: dict[str, Cells]
    """Base model, experts, uniform soup and the expert of all data; errors are standard errors over items."""
    searches: dict[str, Cells]
    """Methods that draw random numbers; errors are standard deviations over seeds."""
    best: str
    """The initial expert with the highest dev value."""

    @property
    def base(self) -> float:
        """The base model on test."""
        return self.models[BASE_MODEL][2]


BASE_MODEL, SOUP, MERGED = "base model", "uniform soup", "expert of all data"


def measure(domain: str, searches: Compared) -> Domain:
    """All models of one domain."""
    session = open_session(settings_of(domain))
    names = session.pool.names
    rows = {name: np.eye(len(names))[k] for k, name in enumerate(names)}
    models = {BASE_MODEL: evaluate(session, None, "base")}
    models |= {name: evaluate(session, list(row), f"expert-{name}") for name, row in rows.items()}
    models[SOUP] = evaluate(session, [1 / len(names)] * len(names), "soup")
    merged = open_session(settings_of(domain, experts=(str(WEIGHTS / "data_merge"),)))
    models[MERGED] = evaluate(merged, [1.0], "data_merge")
    by_seeds = {
        method: _over_seeds(searches, domain, method) for method in METHODS if method not in ("base", "best_single")
    }
    best = next(one for one in searches.outcomes if one.task == domain and one.method == "best_single")
    return Domain(models, by_seeds, str(best.note))


def _over_seeds(searches: Compared, domain: str, method: str) -> Cells:
    """Mean and standard deviation over seeds; the error over items of a method that draws no random number."""
    own = [one for one in searches.outcomes if one.task == domain and one.method == method]
    cells: list[float] = []
    for split in SPLITS:
        all_seeds: list[Measured] = [getattr(one, split) for one in own]
        values = [one.value for one in all_seeds if one.value is not None]
        error = np.std(values, ddof=1) if len(values) > 1 else all_seeds[0].se
        cells += [float(np.mean(values)), np.nan if error is None else float(error)]
    return (cells[0], cells[1], cells[2], cells[3])


def seconds_of_an_evaluation(domain: str) -> float:
    """Median wall time of one particle's dev evaluation, one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    session = open_session(settings_of(domain, dtype="float32"))
    engine, taken = session.engine(), []
    try:
        for k in range(5):
            particle, start = engine.particle(np.eye(len(session.pool.names))[k]), time.perf_counter()
            asyncio.run(session.task(particle, "dev"))
            taken.append(time.perf_counter() - start)
    finally:
        engine.close()
        torch.set_num_threads(before)
    return float(np.median(taken))


def table(domains: Mapping[str, Domain]) -> list[str]:
    """The table of all models on all domains."""
    lines = ["| model | " + " | ".join(f"{domain} dev | test" for domain in domains) + " |"]
    lines.append("|---" * (1 + 2 * len(domains)) + "|")
    labels = {
        "scaled_soup": "uniform soup, total chosen on dev",
        "task_arithmetic": "task arithmetic, scale chosen on dev",
        "ties": "TIES, scale chosen on dev",
        "paper": "published search",
        "random": "random mixtures",
        "cma": "CMA-ES",
        "swarm_third": "default search, a third",
    }
    labels |= {"swarm": "**default search**", "oracle": "default search on test (what there was to find)"}
    every = {domain: one.models | one.searches for domain, one in domains.items()}
    for name in next(iter(every.values())):
        cells = [
            f"{d:.3f} ± {d_se:.3f} | {t:.3f} ± {t_se:.3f}" for d, d_se, t, t_se in (e[name] for e in every.values())
        ]
        lines.append(f"| {labels.get(name, name)} | {' | '.join(cells)} |")
    return lines


def against(searches: Compared, method: str, reference: str, task: str) -> Versus:
    """The difference of two methods on one task, or over all; in the other direction if only that was computed."""
    for one in searches.versus:
        if (one.method, one.reference, one.task) == (method, reference, task):
            return one
        if (one.method, one.reference, one.task) == (reference, method, task):
            return one.model_copy(update={"difference": -one.difference, "low": -one.high, "high": -one.low})
    raise LookupError(f"{method} and {reference} were not compared on {task}")


def differences(searches: Compared) -> list[str]:
    """The default search against the best single expert and against the other searches."""
    lines = ["| against | " + " | ".join([*DOMAINS, "all four"]) + " |", "|---" * (len(DOMAINS) + 2) + "|"]
    for reference in REFERENCES:
        own = [against(searches, "swarm", reference, task) for task in (*DOMAINS, ALL_TASKS)]
        cells = [f"{100 * one.difference:+.1f} ({100 * one.low:+.1f} to {100 * one.high:+.1f})" for one in own]
        lines.append(f"| {reference} | {' | '.join(cells)} |")
    return lines


def optimism(domains: Mapping[str, Domain]) -> list[str]:
    """Selection bias: dev minus test of the searches, corrected for the difference in difficulty of the splits.

    The correction is the mean of dev minus test over the models that were not selected.
    """
    harder = {
        domain: float(np.mean([dev - test for name, (dev, _, test, _) in one.models.items() if name != MERGED]))
        for domain, one in domains.items()
    }
    lines = ["| search | " + " | ".join([*domains, "mean"]) + " |", "|---" * (len(domains) + 2) + "|"]
    for method in ("paper", "random", "cma", "swarm_third", "swarm"):
        own = [
            dev - test - harder[domain] for domain, one in domains.items() for dev, _, test, _ in [one.searches[method]]
        ]
        lines.append(
            f"| {method} | " + " | ".join(f"{100 * value:+.1f}" for value in [*own, float(np.mean(own))]) + " |"
        )
    return lines


def verdicts(domains: Mapping[str, Domain], seconds: Mapping[str, float], searches: Compared) -> list[str]:
    """The properties that the family should have, and whether it has them."""
    base = {d: one.base for d, one in domains.items()}
    best = {d: one.models[one.best][2] for d, one in domains.items()}
    everything = {d: one.models[MERGED][2] for d, one in domains.items()}
    gains = {d: against(searches, "swarm", "best_single", d) for d in domains}
    mean = float(np.mean([gain.difference for gain in gains.values()]))
    certain = sum(gain.low > 0 for gain in gains.values())

    def listed(values: Mapping[str, float]) -> str:
        return ", ".join(f"{domain} {value:.3f}" for domain, value in values.items())

    room = {d: everything[d] - best[d] for d in domains}
    checks = [
        (all(0.35 <= v <= 0.65 for v in base.values()), f"base model between 0.35 and 0.65: {listed(base)}"),
        (all(v <= 0.80 for v in best.values()), f"best single expert at most 0.80: {listed(best)}"),
        (
            all(best[d] - base[d] >= 0.05 for d in domains),
            f"best single expert 5 points above the base: {listed({d: best[d] - base[d] for d in domains})}",
        ),
        (all(v >= 0.10 for v in room.values()), f"room above the best single expert, 10 points: {listed(room)}"),
        (
            len({one.best for one in domains.values()}) > 1,
            "no expert is best everywhere: " + ", ".join(f"{d} {one.best}" for d, one in domains.items()),
        ),
        (certain >= 3, f"the swarm's gain is significant on 3 of 4 domains: on {certain}"),
        (mean >= 0.03, f"and 3 points on average: {100 * mean:+.1f} points"),
        (
            all(v <= 1.5 for v in seconds.values()),
            "one particle's dev evaluation at most 1.5 s on one core: "
            + ", ".join(f"{d} {v:.2f} s" for d, v in seconds.items()),
        ),
    ]
    return [f"- {'yes' if passed else '**no**'}: {text}" for passed, text in checks]


def report(domains: Mapping[str, Domain], searches: Compared, seconds: Mapping[str, float]) -> str:
    """The whole report as markdown."""
    return "\n".join(
        [
            "# What the embedded family can do",
            "",
            "Written by `python -m harness.embedded_training.report`. Values are the harmonic mean of the",
            "accuracies on a domain's two item sets. ± is the standard error over items, clustered by fact;",
            "for methods that draw random numbers it is the",
            f"standard deviation over {SEEDS} seeds. Each search has {BUDGET} evaluations of dev, the third has",
            f"{BUDGET // 3}. Guessing is right in one of four.",
            "",
            *table(domains),
            "",
            "## What the search adds",
            "",
            "Points of test value of the default search beyond the initial expert that is best on dev, and beyond",
            "merges whose scale is chosen on dev, random mixtures, CMA-ES and the published search at the same budget,",
            "with the 95 % interval of the paired bootstrap over facts and seeds.",
            "",
            *differences(searches),
            "",
            "Selection bias in points: dev minus test of the searches, minus the mean of dev minus test over the",
            "models that were not selected:",
            "",
            *optimism(domains),
            "",
            "## Properties that the family should have",
            "",
            *verdicts(domains, seconds, searches),
            "",
        ]
    )


def write_report() -> None:
    """Runs what is missing, and writes `REPORT.md`."""
    searches = compared()
    domains = {domain: measure(domain, searches) for domain in DOMAINS}
    seconds = {domain: seconds_of_an_evaluation(domain) for domain in DOMAINS}
    REPORT.write_text(report(domains, searches, seconds), encoding="utf-8")


if __name__ == "__main__":
    write_report()
