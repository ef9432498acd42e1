"""The judges of a run: which they are, the bundled one's process, and what they are going to cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.embedded import BASE, JUDGE
from harness.experts.pool import folder_hash
from harness.session.settings import EMBEDDED, RunSettings
from utilities.errors import UserError
from utilities.judges.canary import canaries
from utilities.judges.panel_scorer import PanelScorer
from utilities.tasks import asks_judge, read_task_file

if TYPE_CHECKING:
    from harness.local_judge.server import JudgeProcess
    from harness.session.session import Prepared
    from utilities.core import Item, Scorer
    from utilities.judges.budget import Spent
    from utilities.judges.panel import Panel

__all__ = ["Judges", "estimate", "open_judges", "told_estimate"]

BESIDE = 3
"""Models that are measured beside their value: base, best initial and winner."""

FINALISTS = 3
"""Evaluations on dev after a search whose winner may be the centre of the best: of the centre, the best, the winner."""

NOWHERE = "http://127.0.0.1:9/v1"
"""Where the embedded judge would be, while nobody is going to ask it."""


@dataclass
class Judges:
    """An open panel, and the process of the embedded judge where it is one of them."""

    panel: Panel
    _process: JudgeProcess | None = field(default=None, repr=False)

    @property
    def cost(self) -> dict[str, Any]:
        """What they have cost so far, as `harness.run_folder.result.Cost` has it."""
        return self.panel.spent.to_dict()

    def record_in(self, folder: Path, name: str = "judge_spending") -> None:
        """Continues from the spending that a run folder has recorded, and records there what the judges cost.

        Raises:
            UserError: The record cannot be used, or holds spending that the budget excludes.
        """
        self.panel.open_ledger(folder / f"{name}.sqlite")

    def close(self) -> None:
        """Ends the process, and closes the panel's files."""
        self.panel.close_files()
        if self._process is not None:
            self._process.close()


def open_judges(settings: RunSettings, *, ask: bool, spent: Spent | None = None) -> Judges | None:
    """The judges that a task's scorers need; None where they need none.

    The embedded judge is the default where the embedded model is used.

    Args:
        settings: Of the run.
        ask: Whether somebody is going to ask them: else the embedded judge is not started.
        spent: What they have cost before, as part of the same run.

    Raises:
        UserError: A judge is needed and none is named, or it cannot be asked (no key, no price).
    """
    described, path = read_task_file(settings.task)
    edition = described.choose(settings.edition, settings.preferred_edition)
    if not asks_judge(described.editions[edition], path.parent, settings.utility):
        return None
    judging = settings.judging
    if not judging.judge:
        if settings.base_model != EMBEDDED:
            raise UserError(
                f"task {described.name} is rated by a judge: add --judge NAME (with --judge-url URL for a server of"
                " your own), or --judge embedded for the small bundled one"
            )
        judging = judging.model_copy(update={"judge": (EMBEDDED,)})
    from utilities.judges.panel import open_panel

    if EMBEDDED not in judging.judge:
        return Judges(open_panel(judging, spent=spent))
    if not ask:
        return Judges(open_panel(judging, embedded_url=NOWHERE, spent=spent))
    from harness.local_judge.server import JudgeProcess

    process = JudgeProcess()
    try:
        version = f"{folder_hash(BASE)}+{folder_hash(JUDGE)}"
        panel = open_panel(judging, embedded_url=process.url, embedded_version=version, spent=spent)
        return Judges(panel, process)
    except BaseException:
        process.close()
        raise


def estimate(prepared: Prepared) -> str | None:
    """What the judges of a search will be asked, in a sentence; None where the task has none.

    The upper end: equal rows and repeated answers cost nothing, `patience` may end a search early, and hold-out items
    are looked at only where the best has changed.
    """
    if prepared.judges is None:
        return None
    task, swarm, panel = prepared.task, prepared.settings.swarm, prepared.judges.panel
    searched = max(swarm.particles, len(prepared.columns)) + swarm.particles * swarm.iterations
    searched += 1 + FINALISTS * (swarm.winner == "top-k-mean")  # the base model for the table, and who might win
    tested = len(prepared.pool.names) + 2
    asked: list[tuple[Scorer, Sequence[Item], int]] = [(s.scorer, s.dev, searched) for s in task.item_sets.values()]
    asked += [(s.scorer, s.test, tested) for s in task.item_sets.values()]
    asked += [(one.scorer, task.item_sets[one.of].test, BESIDE) for one in task.report_only.values()]
    if prepared.monitor_set is not None:  # of the best initial expert, of each iteration's best, and of the winner
        asked += [(s.scorer, s.dev, swarm.iterations + 3) for s in prepared.monitor_set.item_sets.values()]
    if task.judged and (every := prepared.settings.judging.canary_every):
        judged = next(s for s in task.item_sets.values() if s.scorer.judged)
        bad = tuple(judged.dev[k % len(judged.dev)] for k in range(len(canaries())))
        asked.append((judged.scorer, bad, swarm.iterations // every + 1))
    return told_estimate(panel, asked, "the search")


def told_estimate(panel: Panel, asked: Sequence[tuple[Scorer, Sequence[Item], int]], what: str) -> str:
    """What judges are going to be asked, in a sentence.

    Args:
        panel: Who is asked.
        asked: A scorer, the items that it judges answers to, and how many models answer them; scorers that ask no judge
            are passed over.
        what: What stops where the budget ends.
    """
    costs = [(models, *scorer.cost(items)) for scorer, items, models in asked if isinstance(scorer, PanelScorer)]
    judgements = sum(models * one for models, one, _ in costs)
    tokens = sum(models * one for models, _, one in costs)
    told = f"judges: {', '.join(judge.name for judge in panel.judges)}; about {judgements:,} judgements"
    told += f" of {tokens / max(1, judgements):,.0f} tokens, {tokens:,} tokens in all"
    prices = [judge.price for judge in panel.judges]
    if None in prices:
        told += ", price unknown"
    else:  # as if all were prompt, which is most of it
        usd = sum(price.usd(tokens, 0) for price in prices if price) / len(prices)
        told += f", about ${usd:,.2f}" if usd else ", which cost nothing"
    budget = panel.budget
    if budget.tokens is not None and tokens > budget.tokens:
        told += f"; the budget of {budget.tokens:,} tokens will not last, and {what} stops where it ends"
    return told
