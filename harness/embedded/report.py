"""Measures the embedded family on the four domains and writes `REPORT.md`.

    python -m harness.embedded.report                  # everything, an hour and a half on 2 cores; resumable
    python -m harness.embedded.report medical legal    # the runs of these domains alone, no report

Every number comes from ordinary runs with default settings, kept in `runs/embedded-report`; dev chooses, test is read
once a run, and the verdicts at the end are computed from the tables.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.adapt import adapt
from harness.embedded import WEIGHTS
from harness.events import Bus
from harness.preparation import Prepared, prepare, provenance
from harness.result import Result
from harness.settings import RunSettings
from harness.store import Store, write_atomically
from utilities.core import Evaluation, Split
from utilities.errors import UserError
from utilities.statistics import Difference, difference_over_runs
from utilities.tasks import read_task_file

DOMAINS = ("medical", "legal", "science", "culture")
SEEDS = range(5)
RUNS = Path("runs/embedded-report")
REPORT = Path(__file__).parent / "REPORT.md"
SPLITS: tuple[Split, ...] = ("dev", "test")


def settings_of(domain: str, seed: int = 0, **more: object) -> RunSettings:
    """The default settings of a task, as the command line would make them; float32 on every device."""
    from harness.settings import run_settings

    described, _ = read_task_file(domain)
    layer = {"task": domain, "seed": seed, "dtype": "float32", **more}
    return run_settings(described.editions["mini"].settings, layer)


def run_seed(domain: str, seed: int) -> tuple[Store, Result]:
    """One ordinary search, finished before or now."""
    folder = RUNS / f"{domain}-seed{seed}"
    prepared = prepare(settings_of(domain, seed))
    if (folder / "settings.yaml").exists():
        store = Store.open(folder)
    else:
        document = {"settings": prepared.settings.model_dump(mode="json"), **provenance(prepared)}
        store = Store.create(folder, document)
        # Base and experts are the same under every seed: what the first run measured of them is not measured again.
        for path in (RUNS / f"{domain}-seed{SEEDS[0]}" / "records").glob("*_[be]*.parquet"):
            if path.stem.endswith("_base") or "_expert_" in path.stem:
                shutil.copy(path, folder / "records")
    path = folder / "result.json"
    try:
        if not path.exists():
            adapt(prepared, store, Bus())
    finally:
        store.close()
    return store, Result.model_validate_json(path.read_bytes())


def evaluate(prepared: Prepared, row: Sequence[float], path: Path) -> dict[Split, Evaluation]:
    """A mixture on both splits, evaluated before or now."""
    found: dict[Split, Evaluation] = {}
    engine = None
    for split in SPLITS:
        kept = path.with_name(f"{path.name}-{split}.json")
        if not kept.exists():
            engine = engine or prepared.engine()
            particle = engine.particle(np.asarray(row, dtype=np.float64))
            evaluation = asyncio.run(prepared.task(particle, split))
            write_atomically(kept, evaluation.to_json())
        found[split] = Evaluation.from_json(kept.read_text(encoding="utf-8"))
    if engine is not None:
        engine.close()
    return found


@dataclass(frozen=True)
class Domain:
    """What was measured on one domain."""

    runs: list[Result]
    soup: dict[Split, Evaluation]
    merged: dict[Split, Evaluation]
    gain: Difference
    """Mean winner over the seeds minus the best initial expert (chosen on dev), on test."""

    def row(self, name: str) -> tuple[float, float, float, float]:
        """dev, its standard error, test, its standard error of a row of the final table, equal in all runs."""
        row = next(row for row in self.runs[0].rows if row.name == name)
        values = (row.dev, row.dev_se, row.test, row.test_se)
        return tuple(float("nan") if v is None else v for v in values)  # type: ignore[return-value]

    @property
    def best(self) -> str:
        """The initial expert that is best on dev."""
        return self.runs[0].best_initial

    def winners(self, split: str) -> list[float]:
        """The winners' values."""
        found = [run.winner.dev if split == "dev" else run.winner.test for run in self.runs]
        return [float("nan") if value is None else value for value in found]


def measure(domain: str) -> Domain:
    """All runs of one domain."""
    done = [run_seed(domain, seed) for seed in SEEDS]
    prepared = prepare(settings_of(domain))
    merged = prepare(settings_of(domain, experts=(str(WEIGHTS / "data_merge"),)))
    count = len(prepared.pool.names)
    soup = evaluate(prepared, [1 / count] * count, RUNS / f"{domain}-soup")
    everything = evaluate(merged, [1.0], RUNS / f"{domain}-data_merge")
    best = done[0][1].best_initial
    winners = [_recorded(prepared, store, "winner") for store, _ in done]
    expert = _recorded(prepared, done[0][0], f"expert_{best}")
    gain = difference_over_runs(winners, [expert], prepared.task.combine)
    if gain is None:
        raise UserError(f"{domain}: fewer than two items were scored by all")
    return Domain([result for _, result in done], soup, everything, gain)


def _recorded(prepared: Prepared, store: Store, name: str) -> Evaluation:
    evaluation = store.evaluation(f"test_{name}", prepared.task.combine)
    if evaluation is None:
        raise UserError(f"{store.folder} has no records of {name}")
    return evaluation


def seconds_of_an_evaluation(domain: str) -> float:
    """Median wall time of one particle's dev evaluation, one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    prepared = prepare(settings_of(domain))
    engine, taken = prepared.engine(), []
    try:
        for k in range(5):
            particle, start = engine.particle(np.eye(len(prepared.pool.names))[k]), time.perf_counter()
            asyncio.run(prepared.task(particle, "dev"))
            taken.append(time.perf_counter() - start)
    finally:
        engine.close()
        torch.set_num_threads(before)
    return float(np.median(taken))


def table(found: Mapping[str, Domain]) -> list[str]:
    """The table of all models on all domains."""

    def cells(name: str, of: Mapping[str, tuple[float, float, float, float]]) -> str:
        told = [f"{dev:.3f} ± {dev_se:.3f} | {test:.3f} ± {test_se:.3f}" for dev, dev_se, test, test_se in of.values()]
        return f"| {name} | {' | '.join(told)} |"

    def both(evaluations: Mapping[Split, Evaluation]) -> tuple[float, float, float, float]:
        values = [v for split in SPLITS for v in (evaluations[split].value, evaluations[split].se)]
        return tuple(float("nan") if v is None else v for v in values)  # type: ignore[return-value]

    def swarm(one: Domain) -> tuple[float, float, float, float]:
        dev, test = one.winners("dev"), one.winners("test")
        return float(np.mean(dev)), float(np.std(dev, ddof=1)), float(np.mean(test)), float(np.std(test, ddof=1))

    lines = ["| model | " + " | ".join(f"{domain} dev | test" for domain in found) + " |"]
    lines.append("|---" * (1 + 2 * len(found)) + "|")
    names = [row.name for row in next(iter(found.values())).runs[0].rows if row.kind != "winner"]
    lines += [cells(name, {domain: one.row(name) for domain, one in found.items()}) for name in names]
    lines.append(cells("uniform soup", {domain: both(one.soup) for domain, one in found.items()}))
    lines.append(cells("expert of all data", {domain: both(one.merged) for domain, one in found.items()}))
    lines.append(cells("swarm, 5 seeds", {domain: swarm(one) for domain, one in found.items()}))
    return lines


def verdicts(found: Mapping[str, Domain], seconds: Mapping[str, float]) -> list[str]:
    """What the family is meant to show, and whether it does."""
    base = {d: one.row("base model")[2] for d, one in found.items()}
    best = {d: one.row(one.best)[2] for d, one in found.items()}
    everything = {d: one.merged["test"].value or 0.0 for d, one in found.items()}
    gains = {d: one.gain for d, one in found.items()}
    mean = float(np.mean([gain.value for gain in gains.values()]))
    certain = sum(gain.low > 0 for gain in gains.values())

    def told(values: Mapping[str, float]) -> str:
        return ", ".join(f"{domain} {value:.3f}" for domain, value in values.items())

    room = {d: everything[d] - best[d] for d in found}
    checks = [
        (all(0.35 <= v <= 0.65 for v in base.values()), f"base model between 0.35 and 0.65: {told(base)}"),
        (all(v <= 0.80 for v in best.values()), f"best single expert at most 0.80: {told(best)}"),
        (
            all(best[d] - base[d] >= 0.05 for d in found),
            f"best single expert 5 points above the base: {told({d: best[d] - base[d] for d in found})}",
        ),
        (all(v >= 0.10 for v in room.values()), f"room above the best single expert, 10 points: {told(room)}"),
        (
            len({one.best for one in found.values()}) > 1,
            "no expert is best everywhere: " + ", ".join(f"{d} {one.best}" for d, one in found.items()),
        ),
        (certain >= 3, f"the swarm's gain is certain on 3 of 4 domains: on {certain}"),
        (mean >= 0.03, f"and 3 points on average: {100 * mean:+.1f} points"),
        (
            all(v <= 1.5 for v in seconds.values()),
            "one particle's dev evaluation at most 1.5 s on one core: "
            + ", ".join(f"{d} {v:.2f} s" for d, v in seconds.items()),
        ),
    ]
    return [f"- {'yes' if passed else '**no**'}: {text}" for passed, text in checks]


def report(found: Mapping[str, Domain], seconds: Mapping[str, float]) -> str:
    """The whole report as markdown."""
    gains = [
        f"| {domain} | {one.best} | {one.gain.value:+.4f} | {one.gain.low:+.4f} to {one.gain.high:+.4f} |"
        f" {np.mean(one.winners('dev')) - np.mean(one.winners('test')):+.4f} |"
        for domain, one in found.items()
    ]
    first = next(iter(found.values())).runs[0]
    return "\n".join(
        [
            "# What the embedded family can do",
            "",
            "Written by `python -m harness.embedded.report` from ordinary runs with default settings",
            f"({first.iterations} iterations, {first.evaluations} evaluations at seed 0). Values are the harmonic mean",
            "of the accuracies on a domain's two item sets. ± is the standard error over items, clustered by fact; for",
            "the swarm it is the standard deviation over seeds. Guessing is right in one of four.",
            "",
            *table(found),
            "",
            "## What the search adds",
            "",
            "Mean test value of the winners minus the test value of the initial expert that is best on dev, with",
            "the 95 % interval of the paired bootstrap over facts and seeds, and how much higher dev is than test.",
            "",
            "| domain | best on dev | gain | 95 % interval | winners' dev - test |",
            "|---|---|---|---|---|",
            *gains,
            "",
            "## What the family is meant to show",
            "",
            *verdicts(found, seconds),
            "",
        ]
    )


def write_report() -> None:
    """Runs what is not there yet, and writes `REPORT.md`."""
    found = {domain: measure(domain) for domain in DOMAINS}
    seconds = {domain: seconds_of_an_evaluation(domain) for domain in DOMAINS}
    REPORT.write_text(report(found, seconds), encoding="utf-8")


if __name__ == "__main__":
    for named in sys.argv[1:]:
        for one_seed in SEEDS:
            run_seed(named, one_seed)
    if not sys.argv[1:]:
        write_report()
