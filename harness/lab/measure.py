"""Measurements of designs that need models: experts and mixtures on dev and test, and experts on dev again.

Every evaluation is recorded in the folder of its design, so an interrupted lab can be resumed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.engines.base import Engine
from harness.lab.cached_engine import CachingEngine
from harness.lab.observations import Observations, whole_evaluations
from harness.run_folder.store import Store
from harness.session.evaluator import Evaluator, StopRules, reversed_dev
from harness.session.session import BASE, Session
from harness.swarm.update import Row, Rows
from utilities.core import Evaluation, Usage

__all__ = ["Progress", "DesignRun", "random_mixtures", "measure"]

Progress = Callable[[str], None]
"""Called with a message after every step."""


@dataclass
class DesignRun:
    """A design with everything needed to measure it."""

    observed: Observations
    session: Session
    """Session whose task is scored by the design."""
    store: Store
    """Store of this design."""
    checkpoint: dict[str, Any]
    """State of this design."""
    save: Callable[[], None]
    """Saves `checkpoint`."""

    def evaluator(self, engine: Engine) -> Evaluator:
        """An evaluator that scores with this design."""
        rules = StopRules(self.session.task.name, self.session.panel, "retry with the same command")
        return Evaluator(self.session, engine, self.store, rules, (), self.checkpoint, self.save)


def random_mixtures(experts: int, size: int, seed: int) -> Rows:
    """Random mixtures of two experts each, [size, experts], like the crossovers in a swarm's initial population.

    A single expert is mixed with the base model.
    """
    rng = np.random.default_rng([seed, 8])  # independent of the search's random numbers
    rows = np.zeros((size, experts))
    for row in rows:
        share = rng.uniform()
        first, *second = rng.permutation(experts)[:2]
        row[first] = share
        row[second] = 1 - share
    return rows


async def measure(runs: Sequence[DesignRun], engine: Engine, cloud: int, seed: int, progress: Progress) -> None:
    """Evaluates experts and random mixtures on both splits, and the experts on dev again, under every design.

    Args:
        runs: The designs, with the same pool and items; their observations are filled.
        engine: Answers the prompts.
        cloud: Number of random mixtures; may be 0.
        seed: Seed of the mixtures.
        progress: Called after every evaluation.

    Raises:
        UserError: The judges' budget is spent; finished evaluations are recorded.
    """
    caching = CachingEngine(engine)
    evaluators = [run.evaluator(caching) for run in runs]
    names = runs[0].session.pool.names
    rows: dict[str, Row | None] = {BASE: None, **dict(zip(names, np.eye(len(names)), strict=True))}
    between = {f"mixture {k + 1}": row for k, row in enumerate(random_mixtures(len(names), cloud, seed))}
    total, done = 2 * len(runs) * (len(rows) + len(between)), 0
    results: dict[tuple[int, str, str], Evaluation] = {}

    async def answer(name: str, row: Row | None) -> None:
        nonlocal done
        record = "base" if row is None else f"expert-{name}" if name in rows else name.replace(" ", "-")
        for k, evaluator in enumerate(evaluators):  # sequential, so that designs share cached answers
            for split in ("dev", "test"):
                evaluation = await evaluator.recorded(evaluator.record_name(record, split), record, row, split)
                results[k, name, split] = _with_requests(evaluation, f"{record}-{split}", runs[k].checkpoint)
                done += 1
                label = runs[k].observed.design.label
                evaluator.publish(done, {f"{split}/{label}/{name}": evaluation.value})
                progress(f"{done} of {total} evaluations of experts and mixtures")

    await asyncio.gather(*(answer(name, row) for name, row in {**rows, **between}.items()))
    evaluators[0].rules.check_scored([results[k, name, "dev"] for k in range(len(runs)) for name in names])
    for k, run in enumerate(runs):
        o = run.observed
        o.dev, o.test = ({name: results[k, name, split] for name in rows} for split in ("dev", "test"))
        o.cloud_dev, o.cloud_test = ({name: results[k, name, split] for name in between} for split in ("dev", "test"))
        if cloud < 3:
            o.absent["dev_for_test_cloud"] = "fewer than 3 mixtures of experts were asked for (--cloud)"
    caching.forget()
    for run in runs:
        await _measure_again(run, engine)
        progress(f"{run.observed.design.label}: the experts measured again")


def _with_requests(evaluation: Evaluation, record: str, checkpoint: dict[str, Any]) -> Evaluation:
    """The evaluation with its number of requests, which records do not store, and without times, which vary."""
    counts = checkpoint.setdefault("requests", {})
    requests = counts.setdefault(record, evaluation.usage.requests or evaluation.n + evaluation.n_unscored)
    return replace(evaluation, usage=Usage(requests=requests))


async def _measure_again(run: DesignRun, engine: Engine) -> None:
    """Evaluates the experts again concurrently in reversed item order, which gives different batches."""
    o, session = run.observed, run.session
    reversed_task = reversed_dev(session.task)
    evaluator = run.evaluator(engine)
    record = f"{session.task.name}-again-dev"
    if (records := run.store.records(record)) is None:
        models = [evaluator.model(evaluator.expert_row(name)) for name in evaluator.experts]
        start = time.perf_counter()
        answered = await evaluator.rules.gather(*(reversed_task(model, "dev") for model in models))
        evaluator.rules.check_judge(answered)
        run.checkpoint["seconds_of_one"] = (time.perf_counter() - start) / len(models)
        pairs = zip(evaluator.experts, answered, strict=True)
        run.store.save_records(record, [(f"again-{name}", _reversed(one)) for name, one in pairs])
        run.save()
        records = run.store.records(record) or {}
    o.again = {
        name: evaluation
        for label, evaluation in whole_evaluations(records).items()
        for name in [label.removeprefix("again-")]
    }
    o.seconds = run.checkpoint.get("seconds_of_one")


def _reversed(evaluation: Evaluation) -> Evaluation:
    """The evaluation with its items in reversed order."""
    parts = {name: _reversed(part) for name, part in evaluation.parts.items()}
    return replace(evaluation, results=evaluation.results[::-1], parts=parts)
