"""What only a model can tell of designs: the experts on dev and test, one of them twice, and mixtures between them.

Every evaluation is recorded in the folder of its design, so a lab that was ended goes on where it stood.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from harness.comparison.bench import Bench
from harness.engines.base import Engine
from harness.laboratory.observed import Cost, Observed
from harness.laboratory.remembering import RememberingEngine
from harness.preparation import BASE, Prepared
from harness.store import Store
from harness.swarm.update import Row, Rows
from utilities.core import Evaluation
from utilities.judges.judged import PanelScorer

__all__ = ["Progress", "Subject", "cloud_rows", "evaluation_cost", "measure"]

Progress = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and how much there is."""


@dataclass
class Subject:
    """A design with all that it takes to measure it."""

    observed: Observed
    prepared: Prepared
    """Its task is scored by the design."""
    store: Store
    """Of this design alone."""
    checkpoint: dict[str, Any]
    save: Callable[[], None]
    """Saves `checkpoint`."""

    def bench(self, engine: Engine) -> Bench:
        """Where it is evaluated."""
        return Bench(self.prepared, engine, (), self.store, self.checkpoint, self.save)


def cloud_rows(experts: int, size: int, seed: int) -> Rows:
    """Particles between two experts each, [size, experts], as the initial population of a swarm has them.

    A single expert is mixed with the base model.
    """
    rng = np.random.default_rng([seed, 8])  # not the numbers that the search draws
    rows = np.zeros((size, experts))
    for row in rows:
        share = rng.uniform()
        first, *second = rng.permutation(experts)[:2]
        row[first] = share
        row[second] = 1 - share
    return rows


async def measure(subjects: Sequence[Subject], engine: Engine, cloud: int, seed: int, progress: Progress) -> None:
    """Fills `models`, `tested`, `cloud`, `cloud_tested`, `again` and `cost` of every subject's observations.

    Args:
        subjects: The designs, all of one pool and the same items.
        engine: Answers.
        cloud: Particles between experts; 0 for none.
        seed: Seed of the cloud.
        progress: Is told of every evaluation.

    Raises:
        UserError: The judges' budget is spent; what was finished is recorded.
    """
    remembering = RememberingEngine(engine)
    benches = [subject.bench(remembering) for subject in subjects]
    names = subjects[0].prepared.pool.names
    rows: dict[str, Row | None] = {BASE: None, **dict(zip(names, np.eye(len(names)), strict=True))}
    between = {f"cloud-{k:02d}": row for k, row in enumerate(cloud_rows(len(names), cloud, seed))}
    total, done = 2 * len(subjects) * (len(rows) + len(between)), 0
    found: dict[tuple[int, str, str], Evaluation] = {}

    async def answer(name: str, row: Row | None) -> None:
        nonlocal done
        record = name if name in between else "base" if row is None else f"expert-{name}"
        for k, bench in enumerate(benches):  # one after another: the next one finds the answers of this one
            for split in ("dev", "test"):
                found[k, name, split], _ = await bench.recorded(record, split, row)
                done += 1
                progress("evaluations of experts and mixtures", done, total)

    await asyncio.gather(*(answer(name, row) for name, row in {**rows, **between}.items()))
    for k, subject in enumerate(subjects):
        o = subject.observed
        o.models, o.tested = ({name: found[k, name, split] for name in rows} for split in ("dev", "test"))
        o.cloud, o.cloud_tested = ({name: found[k, name, split] for name in between} for split in ("dev", "test"))
        if not between:
            o.missing["cloud"] = "no mixtures of experts were asked for (--cloud 0)"
    for subject in subjects:
        await _measure_again(subject, engine, progress)
    remembering.forget()


async def _measure_again(subject: Subject, engine: Engine, progress: Progress) -> None:
    """The best expert once more, its items turned round and another expert beside it, in batches of another kind."""
    o, prepared = subject.observed, subject.prepared
    names = prepared.pool.names
    ranked = sorted(names, key=lambda name: -_or(o.models[name].value))
    best, other = ranked[0], ranked[1 % len(ranked)]
    turned = replace(
        prepared.task, item_sets={name: replace(s, dev=s.dev[::-1]) for name, s in prepared.task.item_sets.items()}
    )
    bench = subject.bench(engine)
    record = f"{prepared.task.name}-again-dev"
    second = subject.store.evaluation(record, prepared.task.combine)
    if second is None:
        progress("measuring the best expert again", 0, 1)
        rows = [bench.whole_row(bench.expert_row(name)) for name in (best, other)]
        start = time.perf_counter()
        second, *_ = await asyncio.gather(*(turned(bench.model(row), "dev") for row in rows))
        subject.checkpoint["evaluation_seconds"] = (time.perf_counter() - start) / len(rows)
        bench.stop_without_budget()
        subject.store.save_records(record, [(best, second)])
        subject.save()
    o.again = (best, o.models[best], second)
    o.cost = evaluation_cost(o, subject.checkpoint.get("evaluation_seconds", 0.0))


def _or(value: float | None) -> float:
    return -np.inf if value is None else value


def evaluation_cost(observed: Observed, seconds: float) -> Cost:
    """What one evaluation on dev costs; of judges about, and as if none had been asked before."""
    known = next(iter(observed.models.values()))
    results = [result for leaf in known.leaves.values() for result in leaf.results]
    judgements, judge_tokens, usd = judged_cost(observed)
    return Cost(
        evaluations=1,
        requests=len(results),
        tokens=sum(result.response.tokens for result in results),
        seconds=seconds,
        judge_requests=judgements,
        judge_tokens=judge_tokens,
        usd=usd,
    )


def judged_cost(observed: Observed, split: Literal["dev", "test"] = "dev") -> tuple[int, int, float | None]:
    """About how many judgements, tokens and dollars the judges of one evaluation take; zeros without judges."""
    judgements, tokens, usd = 0, 0, 0.0
    for s in observed.task.item_sets.values():
        if isinstance(s.scorer, PanelScorer) and s.scorer.judge is not None:
            of_set, tokens_of_set = s.scorer.cost(s.split(split))
            judgements, tokens = judgements + of_set, tokens + tokens_of_set
            prices = [judge.price for judge in s.scorer.judge.judges]
            if None in prices:
                return judgements, tokens, None
            usd += sum(price.usd(tokens_of_set, 0) for price in prices if price) / len(prices)
    return judgements, tokens, usd


def told(answers: Mapping[str, Evaluation]) -> dict[str, float | None]:
    """The values by name."""
    return {name: one.value for name, one in answers.items()}
