"""Rescores the stored responses of a run with another utility; no model is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.run_folder.store import Store
from harness.session.evaluator import StopRules
from harness.session.judges import open_judges
from harness.session.session import load_task_of
from harness.session.settings import stored_settings
from utilities.combine import combine_evaluations
from utilities.core import Evaluation, Item, ItemResult, Split
from utilities.errors import UserError, in_words
from utilities.sync import run_sync
from utilities.tasks import Task

__all__ = ["Rescored", "model_records", "rescore", "scored_anew"]

PREFIX = "rescored-"
"""Prefix of the record names that rescoring writes."""


@dataclass(frozen=True)
class Rescored:
    """Evaluations of one model's stored responses on one split, before and after rescoring."""

    label: str
    split: Split
    stored: Evaluation
    now: Evaluation


def rescore(
    folder: Path, settings: Mapping[str, Any], note: Callable[[str], None] = lambda text: None
) -> list[Rescored]:
    """Rescores all responses that the final tables and `evaluate` stored in a run folder.

    Args:
        folder: The run folder.
        settings: Settings that override those of the run: `utility`, `option`, `combine`.
        note: Receives notes on the judges' servers.

    Raises:
        UserError: No run folder, data that changed since the run, or responses without data that the utility needs.
    """
    store, judges = Store.open(folder), None
    try:
        stored = store.settings().get("settings")
        if stored is None:
            raise UserError(f"{folder} holds a comparison or a sweep; only the responses of a run can be scored again")
        own = {"option": ()} if "utility" in settings else {}  # the run's options belong to the run's utility
        try:
            before, after = stored_settings(stored), stored_settings(stored, **{**own, **settings})
        except ValidationError as error:
            raise UserError(f"settings: {in_words(error)}") from error
        judges = open_judges(after, ask=True)
        task, stored_task = load_task_of(after, judges.panel if judges else None), load_task_of(before)
        done = []
        rules = StopRules(task.name, judges.panel if judges else None, "retry with the same command")
        for name, split in model_records(folder):
            rescored = run_sync(_rescored(store, name, split, task, stored_task, rules))
            utility = re.sub(r"\W+", "-", Path(str(settings.get("utility") or "own")).name)
            if not store.read_only:
                store.save_records(f"{PREFIX}{utility}-{name}", [(one.label, one.now) for one in rescored])
            done += rescored
        if not done:
            raise UserError(f"{folder} has no stored responses: let the run finish, or use `evaluate --out`")
        return done
    finally:
        if judges is not None:
            for text in judges.panel.take_notes():
                note(text)
            judges.close()
        store.close()


def model_records(folder: Path) -> Iterator[tuple[str, Split]]:
    """Names and splits of the records of final models; records of search particles are left out."""
    for path in sorted((folder / "records").glob("*.parquet")):
        split = re.match(r"(?:evaluate_)?(dev|test)(?:_|$)", path.stem)
        if split is not None and not path.stem.startswith(PREFIX):
            yield path.stem, "dev" if split[1] == "dev" else "test"


async def _rescored(
    store: Store, name: str, split: Split, task: Task, before: Task, rules: StopRules
) -> list[Rescored]:
    by_label: dict[str, dict[str, list[ItemResult]]] = {}
    for (label, part), results in (store.records(name) or {}).items():
        by_label.setdefault(label, {})[part] = results
    where = f"{store.folder}, {name}"
    scored = await rules.gather(*(scored_anew(task, split, parts, where) for parts in by_label.values()))
    rules.check_judge(scored)
    rescored = []
    for (label, parts), now in zip(by_label.items(), scored, strict=True):
        stored = {part: Evaluation.of(results) for part, results in parts.items()}
        rescored.append(Rescored(label, split, combine_evaluations(stored, before.combine), now))
    return rescored


async def scored_anew(task: Task, split: Split, parts: Mapping[str, Sequence[ItemResult]], where: str) -> Evaluation:
    """The evaluation of one model's stored responses under a task's scorers.

    Args:
        task: Task with the scorers to apply.
        split: Split that was answered.
        parts: Item set, or "set:group", to the stored results.
        where: Name of the records for messages.

    Raises:
        UserError: An item is no longer in the data.
    """
    now = {}
    for part, results in parts.items():
        item_set = task.item_sets[part.partition(":")[0] or next(iter(task.item_sets))]  # "set:group" if grouped
        answered = [result for result in results if result.response.finish_reason != "unanswered"]
        items = _items({item.id: item for item in item_set.split(split)}, answered, where)
        outcomes = await item_set.scorer.score(items, [result.response for result in answered])
        anew = dict(zip((result.item_id for result in answered), outcomes, strict=True))
        now[part] = Evaluation.of([replace(old, outcome=anew.get(old.item_id, old.outcome)) for old in results])
    return combine_evaluations(now, task.combine)


def _items(items: Mapping[str, Item], results: Sequence[ItemResult], where: str) -> list[Item]:
    try:
        return [items[result.item_id] for result in results]
    except KeyError as error:
        raise UserError(f"{where}: item {error} is not in the data any more; the data changed since the run") from error
