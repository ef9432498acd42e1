"""Monitors a judged objective during a search; `harness.run.overoptimisation` evaluates the observations.

The global best answers hold-out instructions that the search never uses, deterministic text features of its answers are
computed, and every few iterations the judge rates answers that are bad by construction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.run.overoptimisation import Observation, ObservationLog
from harness.run_folder.events import Bus, Note, Watched
from harness.session.evaluator import Evaluator
from utilities.core import Evaluation, Response, Score
from utilities.judges.canary import canaries
from utilities.judges.evidence import Evidence
from utilities.judges.factuality import Factuality
from utilities.judges.text_features import TextFeatures, text_features, topic_vocabulary
from utilities.tasks import ItemSet, Task

__all__ = ["OveroptimisationMonitor"]

Row = NDArray[np.float64]
NEAREST = 3
"""Passages of evidence per instruction whose words count as words of the topic."""


class OveroptimisationMonitor:
    """The over-optimisation monitor of one search.

    Args:
        evaluator: Evaluates the held-out instructions; its task is judged.
        bus: Receives observations and warnings.
        saved: `state()` of an interrupted search.
    """

    def __init__(self, evaluator: Evaluator, bus: Bus, saved: Mapping[str, Any] | None = None) -> None:
        self.evaluator, self.session, self.bus = evaluator, evaluator.session, bus
        self.watch = ObservationLog.from_dict(saved["watch"]) if saved else None
        self.best: float | None = saved["best"] if saved else None
        self._vocabulary = topic_vocabulary(_texts(evaluator.task))

    def state(self) -> dict[str, Any] | None:
        """The state for a resumed search; None before the first observation."""
        return {"watch": self.watch.to_dict(), "best": self.best} if self.watch else None

    async def observe(self, iteration: int, rows: Sequence[Row], found: Sequence[Evaluation]) -> None:
        """Checks the canaries if they are due, and observes a new global best if an iteration has one.

        Args:
            iteration: Number of the iteration; 0 for the initial experts and their crossovers.
            rows: The evaluated rows.
            found: The evaluations, in the same order.
        """
        values = [-np.inf if evaluation.value is None else evaluation.value for evaluation in found]
        tested = await self._canaries(iteration)
        if self.watch is None:
            experts = len(self.session.columns)
            first = int(np.argmax(values[:experts]))
            initial = await self._observation(rows[first], found[first])
            self.watch = ObservationLog.begin(initial, found[:experts])
            if caution := self.watch.caution():
                self.bus(Note(text=f"hold-out: {caution}"))
        best = int(np.argmax(values)) if values else -1
        improved = best >= 0 and values[best] > (-np.inf if self.best is None else self.best)
        if improved:
            self.best = values[best]
            self.watch.note(iteration, await self._observation(rows[best], found[best]), self.session.task.combine)
        if tested:
            self.watch.note_canaries(iteration, tested)
        if improved or tested:
            self._report(iteration, tested, improved)

    async def observe_winner(self, iteration: int, row: Row, found: Evaluation) -> None:
        """Observes a winner that is not a row of the search, regardless of its value.

        Args:
            iteration: Number of the last iteration plus 1.
            row: The winner's row.
            found: Its evaluation on the dev items that the objective uses.
        """
        if self.watch is not None:
            self.watch.note(iteration, await self._observation(row, found), self.session.task.combine)
            self._report(iteration, {}, improved=True)

    async def _observation(self, row: Row, objective: Evaluation) -> Observation:
        monitor_set = self.session.monitor_set
        hold_out = None
        if monitor_set is not None:
            (hold_out,) = await self.evaluator.rules.gather(monitor_set(self.evaluator.model(row), "dev"))
        return Observation(objective, hold_out, self._text_features(self.session.task, objective))

    def _text_features(self, task: Task, evaluation: Evaluation) -> TextFeatures:
        items = {item.id: item for s in task.item_sets.values() for item in s.dev}
        results = [result for leaf in evaluation.leaves.values() for result in leaf.results]
        return text_features([items[r.item_id] for r in results], [r.response for r in results], self._vocabulary)

    async def _canaries(self, iteration: int) -> dict[str, float]:
        """The judge's ratings of the canaries; items change with the iteration, because ratings are cached."""
        every = self.session.settings.judging.canary_every
        if not every or iteration % every:
            return {}
        judged = [s for s in self.session.task.item_sets.values() if s.scorer.judged]
        return await self._rated(judged[0], iteration)

    async def _rated(self, item_set: ItemSet, iteration: int) -> dict[str, float]:
        bad = canaries()
        items = [item_set.dev[(iteration + k) % len(item_set.dev)] for k in range(len(bad))]
        answers = [Response(canary.text(item)) for canary, item in zip(bad, items, strict=True)]
        (outcomes,) = await self.evaluator.rules.gather(item_set.scorer.score(items, answers))
        return {c.name: o.value for c, o in zip(bad, outcomes, strict=True) if isinstance(o, Score)}

    def _report(self, iteration: int, tested: Mapping[str, float], improved: bool) -> None:
        assert self.watch is not None  # noqa: S101 - set by observe()
        last = self.watch.looks[-1] if self.watch.looks else None
        initial = self.watch.initial.hold_out
        warnings = [self.watch.diverged()] if improved else []
        if tested and (fooled := self.watch.fooled()):
            warnings.append(f"the judge rates bad answers above the median honest one: {', '.join(fooled)}")
        warning = "; ".join(text for text in warnings if text) or None
        self.bus(
            Watched(
                iteration=iteration,
                objective=last.objective if last else None,
                hold_out=last.hold_out if last else None,
                initial_hold_out=initial.value if initial else None,
                text_features=asdict(last.text_features) if last and last.text_features else {},
                canaries=dict(tested),
                warning=warning,
            )
        )
        if warning is not None:
            self.bus(Note(text=warning))


def _texts(task: Task) -> Iterator[str]:
    """Texts about the topic: instructions, reference answers, and the evidence passages most similar to them."""
    sources = [one.scorer.evidence for one in task.report_only.values() if isinstance(one.scorer, Factuality)]
    evidence = [source for source in sources if isinstance(source, Evidence)]  # a user's own search may be paid
    for item in (item for s in task.item_sets.values() for item in s.dev):
        yield from (item.question, item.answer or "")
        yield from (passage.text for corpus in evidence for passage in corpus.search(item.question, NEAREST))
