"""Measures the embedded family on the four domains and writes `REPORT.md`.

    python -m harness.embedded_training.report     # resumable; minutes on one core that computes in bfloat16

The searches on it are in another report (`harness.embedded_training.searches`). The statements at the end are computed
from the tables. Everything is computed in bfloat16, except for the seconds, which are those of the default precision.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.embedded import WEIGHTS
from harness.run_folder.store import write_atomically
from harness.session.session import Session, open_session
from harness.session.settings import RunSettings
from utilities.core import Evaluation, Split
from utilities.task_file import read_task_file

DOMAINS = ("medical", "legal", "science", "culture")
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

    @property
    def best(self) -> str:
        """The initial expert with the highest dev value."""
        experts = [name for name in self.models if name not in (BASE_MODEL, SOUP, MERGED)]
        return max(experts, key=lambda name: self.models[name][0])

    @property
    def base(self) -> float:
        """The base model on test."""
        return self.models[BASE_MODEL][2]


BASE_MODEL, SOUP, MERGED = "base model", "uniform soup", "expert of all data"


def measure(domain: str) -> Domain:
    """All models of one domain."""
    session = open_session(settings_of(domain))
    names = session.pool.names
    rows = {name: np.eye(len(names))[k] for k, name in enumerate(names)}
    models = {BASE_MODEL: evaluate(session, None, "base")}
    models |= {name: evaluate(session, list(row), f"expert-{name}") for name, row in rows.items()}
    models[SOUP] = evaluate(session, [1 / len(names)] * len(names), "soup")
    merged = open_session(settings_of(domain, experts=(str(WEIGHTS / "data_merge"),)))
    models[MERGED] = evaluate(merged, [1.0], "data_merge")
    return Domain(models)


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
    every = {domain: one.models for domain, one in domains.items()}
    for name in next(iter(every.values())):
        cells = [
            f"{d:.3f} ± {d_se:.3f} | {t:.3f} ± {t_se:.3f}" for d, d_se, t, t_se in (e[name] for e in every.values())
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def verdicts(domains: Mapping[str, Domain], seconds: Mapping[str, float]) -> list[str]:
    """The properties that the family should have, and whether it has them."""
    base = {d: one.base for d, one in domains.items()}
    best = {d: one.models[one.best][2] for d, one in domains.items()}
    everything = {d: one.models[MERGED][2] for d, one in domains.items()}

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
        (
            all(v <= 1.5 for v in seconds.values()),
            "one particle's dev evaluation at most 1.5 s on one core: "
            + ", ".join(f"{d} {v:.2f} s" for d, v in seconds.items()),
        ),
    ]
    return [f"- {'yes' if passed else '**no**'}: {text}" for passed, text in checks]


def report(domains: Mapping[str, Domain], seconds: Mapping[str, float]) -> str:
    """The whole report as markdown."""
    return "\n".join(
        [
            "# What the embedded family can do",
            "",
            "Written by `python -m harness.embedded_training.report`. Values are the harmonic mean of the",
            "accuracies on a domain's two item sets. ± is the standard error over items, clustered by fact.",
            "Guessing is right in one of four. The searches are in [another report](REPORT-embedded-searches.md).",
            "",
            *table(domains),
            "",
            "## Properties that the family should have",
            "",
            *verdicts(domains, seconds),
            "",
        ]
    )


def write_report() -> None:
    """Measures what is missing, and writes `REPORT.md`."""
    domains = {domain: measure(domain) for domain in DOMAINS}
    seconds = {domain: seconds_of_an_evaluation(domain) for domain in DOMAINS}
    REPORT.write_text(report(domains, seconds), encoding="utf-8")


if __name__ == "__main__":
    write_report()
