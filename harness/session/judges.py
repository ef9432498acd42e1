"""Opens the judges of a run and loads the models of the bundled judges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.embedded import BASE, JUDGE, smollm2
from harness.experts.files import folder_hash
from harness.session.settings import EMBEDDED, FAMILIES, RunSettings
from utilities.errors import UserError
from utilities.judges.settings import BUNDLED
from utilities.quiet import silence
from utilities.scorer_by_name import asks_judge
from utilities.task_file import read_task_file
from utilities.tasks import Task

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from harness.local_judge.model import LocalModel
    from utilities.judges.budget import Spent
    from utilities.judges.panel import Panel

__all__ = ["Judges", "open_judges", "unknown_topic_warning"]

CORPUS_SHARE = 0.5
"""Minimum share of questions about the bundled corpus; below it a bundled judge does not know the topic."""


@dataclass(frozen=True)
class Judges:
    """An open panel of judges."""

    panel: Panel

    @property
    def cost(self) -> dict[str, Any]:
        """Their cost so far, with the fields of `harness.run_folder.result.Cost`."""
        return self.panel.spent.to_dict()

    def record_in(self, folder: Path, name: str = "judge_spending") -> None:
        """Continues from the spending recorded in a run folder, and records further spending there.

        Raises:
            UserError: The record cannot be used, or holds spending that the budget excludes.
        """
        self.panel.open_ledger(folder / f"{name}.sqlite")

    def close(self) -> None:
        """Closes the panel's files; connections are closed with their event loop."""
        self.panel.close_files()


def open_judges(settings: RunSettings, *, ask: bool, spent: Spent | None = None) -> Judges | None:
    """The judges that a task's scorers need; None if they need none.

    The embedded judge is the default for the bundled base models.

    Args:
        settings: Settings of the run.
        ask: Whether the judges will be used; if not, weights of bundled judges are not read.
        spent: Their previous cost in the same run.

    Raises:
        UserError: A judge is needed and none is named, or it cannot be used (no key, no price).
    """
    silence(trace=settings.trace)
    task_file, path = read_task_file(settings.task, trust=settings.trust_task)
    edition = task_file.choose(settings.edition, settings.preferred_edition)
    if not asks_judge(task_file.editions[edition], path.parent, settings.utility):
        return None
    judging = settings.judging
    if not judging.judge:
        if settings.base_model not in FAMILIES:
            raise UserError(
                f"task {task_file.name} is rated by a judge: add --judge NAME (with --judge-url URL for a server of"
                " your own), or --judge embedded for the small bundled one"
            )
        judging = judging.model_copy(update={"judge": (EMBEDDED,)})
    from utilities.judges.panel import Bundled, open_panel

    bundled = {}
    for name in BUNDLED.intersection(judging.judge):
        version = ""
        if ask:
            version = "+".join(folder_hash(folder) for folder in _folders(name))
            _bundled_model(name)  # loaded here, so that an error is reported before anything is generated
        bundled[name] = Bundled(partial(_bundled_judge, name), version)
    return Judges(open_panel(judging, bundled=bundled, spent=spent))


def unknown_topic_warning(task: Task, judges: Judges | None, base_model: str) -> str | None:
    """A warning if a bundled judge rates another model's answers than it learned from, or answers to questions that its
    corpus does not cover; None otherwise."""
    if judges is None or not judges.panel.embedded:
        return None
    questions = [item.question for s in task.item_sets.values() if s.scorer.judged for item in s.dev]
    from harness.embedded.on_topic import share_about_corpus

    share, names = share_about_corpus(questions), [judge.name for judge in judges.panel.judges]
    if questions and share >= CORPUS_SHARE and base_model != EMBEDDED and EMBEDDED in names:
        return (
            "the embedded judge learned from short answers of the embedded models; its ratings of other answers"
            " say little: read the answers, or name another judge with --judge"
        )
    if not questions or share >= CORPUS_SHARE:
        return None
    name = next(name for name in names if name in BUNDLED)
    patterns = ", and it rates repeated patterns of words high" if name == EMBEDDED else ""
    return (
        f"the {name} judge does not know this topic: {share:.0%} of the {len(questions)} dev questions name a subject"
        f" of its corpus. Its ratings say nothing here{patterns}; read the answers, or name another judge with --judge"
    )


def _folders(name: str) -> tuple[Path, Path]:
    """Base model and adapter of a bundled judge."""
    if name == EMBEDDED:
        return BASE, JUDGE
    return smollm2.base_folder(), smollm2.JUDGE


def _bundled_judge(name: str, temperature: float) -> BaseChatModel:
    from harness.local_judge.chat_model import LocalChatModel

    return LocalChatModel(local=_bundled_model(name), name=name, temperature=temperature)


@cache
def _bundled_model(name: str) -> LocalModel:
    from harness.local_judge.model import LocalModel

    return LocalModel(*_folders(name))
