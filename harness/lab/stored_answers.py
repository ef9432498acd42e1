"""Applies designs to the stored answers of runs; no model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.lab.observations import Observations
from harness.run_folder.store import Store
from harness.session.evaluator import StopRules
from harness.session.rescore import model_records, scored_anew
from harness.session.session import BASE
from harness.session.settings import NESTED, RunSettings, run_settings, stored_settings
from utilities.combine import combine_evaluations
from utilities.core import Evaluation, ItemResult, Split
from utilities.errors import UserError, in_words
from utilities.judges.panel import Panel
from utilities.tasks import Task

__all__ = ["Stored", "read_stored"]

Parts = dict[str, list[ItemResult]]
"""Item set, or "set:group", to results."""


class Stored:
    """Stored answers of the experts and the base model from earlier runs.

    Args:
        settings: Settings of the first run.
        answers: (name, split) to the stored results.
        where: Folders, for messages.
    """

    def __init__(self, settings: RunSettings, answers: Mapping[tuple[str, Split], Parts], where: str) -> None:
        self.settings, self._answers, self._where = settings, answers, where

    @property
    def experts(self) -> list[str]:
        """Names of the models with answers, without the base model."""
        return list(dict.fromkeys(name for name, _ in self._answers if name != BASE))

    def over(self, given: Mapping[str, Any]) -> RunSettings:
        """The settings of the run, without its utility, overridden by `given`.

        Raises:
            UserError: A value is invalid.
        """
        stored = self.settings.model_dump(mode="json")
        flat = {name: value for name, value in stored.items() if name not in {*NESTED, "utility", "option", "combine"}}
        for group in NESTED:
            flat |= stored[group]
        return run_settings(flat, given)

    def answered(self, task: Task) -> Task:
        """The task with the dev items that every expert answered: a search does not answer held-out items.

        Raises:
            UserError: No dev item of an item set was answered by every expert.
        """
        each = [
            {result.item_id for results in parts.values() for result in results}
            for (name, split), parts in self._answers.items()
            if split == "dev" and name != BASE
        ]
        common = set.intersection(*each) if each else set()
        sets = {}
        for name, s in task.item_sets.items():
            sets[name] = replace(s, dev=tuple(item for item in s.dev if item.id in common))
            if s.dev and not sets[name].dev:
                raise UserError(
                    f"{self._where}: no dev item of {name} has answers of every expert; use `evaluate --out`"
                )
        return replace(task, item_sets=sets)

    async def fill(self, observed: Observations, store: Store, panel: Panel | None) -> None:
        """Fills `dev` and `test` of the observations with the design's scores of the answers.

        Args:
            observed: Observations of the design.
            store: Store of the design; recorded scores are reused.
            panel: The judges; None without any.

        Raises:
            UserError: The data changed since the answers were stored, or the judges' budget is spent.
        """
        splits: list[tuple[Split, dict[str, Evaluation]]] = [("dev", observed.dev), ("test", observed.test)]
        for split, into in splits:
            if (records := store.records(f"stored-{split}")) is None:
                rules = StopRules(observed.task.name, panel, "retry with the same command")
                names = [name for name, of in self._answers if of == split]
                scored = await rules.gather(
                    *(scored_anew(observed.task, split, self._answers[name, split], self._where) for name in names)
                )
                rules.check_judge(scored)
                store.save_records(f"stored-{split}", list(zip(names, scored, strict=True)))
                records = store.records(f"stored-{split}") or {}
            by_name: dict[str, dict[str, Evaluation]] = {}
            for (name, part), results in records.items():
                by_name.setdefault(name, {})[part] = Evaluation.of(results)
            into |= {name: combine_evaluations(parts, observed.task.combine) for name, parts in by_name.items()}


def read_stored(folders: Sequence[Path]) -> Stored:
    """Reads the stored answers of run folders, of folders of `evaluate --out`, or of labs.

    Raises:
        UserError: No such folder, no answers in it, or folders of different tasks.
    """
    settings: list[RunSettings] = []
    answers: dict[tuple[str, Split], Parts] = {}
    for folder in folders:
        store = Store.open(folder)
        try:
            document = store.settings()
            if "settings" not in document:
                raise UserError(
                    f"{folder} holds a comparison or a sweep; a run's, evaluate's or lab's answers are read"
                )
            settings.append(stored_settings(document["settings"]))
            found = _answers_of_lab(folder) if "lab" in document else _answers_of_run(store, document)
        except ValidationError as error:
            raise UserError(f"{folder / 'settings.yaml'}: {in_words(error)}") from error
        finally:
            store.close()
        if not found:
            raise UserError(f"{folder} has no stored answers: let it finish, or use `evaluate --out`")
        answers = {**found, **answers}
    tasks = {(one.task, one.edition, one.limit, one.data) for one in settings}
    if len(tasks) > 1:
        raise UserError(f"{', '.join(map(str, folders))} are of different tasks, editions or limits")
    return Stored(settings[0], answers, ", ".join(map(str, folders)))


def _answers_of_run(store: Store, document: Mapping[str, object]) -> dict[tuple[str, Split], Parts]:
    """Answers of final models, and of the experts on dev, which are the first particles of a search's iteration 0."""
    answers: dict[tuple[str, Split], Parts] = {}
    experts = document.get("experts")
    names = list(experts) if isinstance(experts, Mapping) else []
    for record, split in model_records(store.folder):
        for (label, part), results in (store.records(record) or {}).items():
            # A search and `evaluate` label their records differently.
            name = BASE if label == "base" else label.removeprefix("expert_") if record == f"{split}_{label}" else label
            if name in {BASE, *names}:  # the winner is left out
                answers.setdefault((name, split), {})[part] = results
    for (label, part), results in (store.records("iter_0000") or {}).items():
        if int(label) < len(names):
            answers.setdefault((names[int(label)], "dev"), {})[part] = results
    return answers


def _answers_of_lab(folder: Path) -> dict[tuple[str, Split], Parts]:
    """Answers that the first design of a lab scored."""
    first = min((folder / "designs").glob("*"), default=folder)
    answers: dict[tuple[str, Split], Parts] = {}
    for path in sorted((first / "records").glob("*.parquet")):
        split: Split = "test" if path.stem.endswith("-test") else "dev"
        for (label, part), results in (Store(first).records(path.stem) or {}).items():
            if label == "base" or label.startswith("expert-"):
                name = BASE if label == "base" else label.removeprefix("expert-")
                answers.setdefault((name, split), {})[part] = results
    return answers
