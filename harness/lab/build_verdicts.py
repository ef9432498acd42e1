"""Runs the lab on every built-in utility with the embedded models, and writes the verdicts to `utilities/lab`.

    python -m harness.lab.build_verdicts [NAME ...]

Each utility is tested on a matching bundled task; utilities of the same task are tested together on the same answers.
Labs are stored in `runs/verdicts`, so that an interrupted one is resumed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from harness.display.console import open_console
from harness.lab.lab import LabOptions, examine_designs, project_version
from harness.lab.result import Examination
from harness.run_folder.store import write_atomically
from harness.session.settings import run_settings
from utilities.core import scorer_registry
from utilities.lab.verdicts import VERDICTS, StoredVerdict, read_verdicts, verdicts_text
from utilities.registry import unknown_name
from utilities.task_file import read_task_file

__all__ = ["CASES", "UNTRIED", "Case", "part_of_task", "verdicts_of"]


@dataclass(frozen=True)
class Case:
    """Utilities to test on one task."""

    task: str
    designs: tuple[str, ...]
    item_set: str | None = None
    """The item set to use; None uses all."""
    domain: str | None = None
    """The domain of the items to use; None uses all."""
    limit: int = 200
    settings: tuple[tuple[str, str], ...] = ()


CASES = (
    Case(
        "medical",
        ("multiple_choice", "gold_logprob,prompt=plain,answer_by=text"),
        limit=100,  # of each of two item sets
        settings=(("combine", "mean"),),  # log-probabilities are below zero
    ),
    Case("abstain_mmlu", ("abstain",)),
    Case(
        "gsm8k",
        ("numeric", "regex,pattern=(\\d+),prompt=plain,max_tokens=4", "legacy_number,prompt=plain,max_tokens=4"),
    ),
    Case("nlgraph", ("exact_match",)),
    Case("nlgraph", ("yes_no,prompt=plain,max_tokens=4",), domain="connectivity"),
    Case("mmlu", ("multiple_choice_generated,prompt=lettered", "legacy_letter,prompt=lettered"), item_set="letters"),
    Case("reward_general", ("reward", "token_f1,prompt=plain,max_tokens=32"), limit=100),
    Case("electric_vehicles", ("topic_interest", "factuality,k=2,prompt=plain,max_tokens=40")),
    Case("look_up", ("conversation",), limit=100),
)
UNTRIED = {
    "pairwise": "the embedded judge cannot compare two answers: run the lab with a judge of your own",
    "toxicity": "no classifier comes with the project: run the lab with a classifier of your own",
}
"""Built-in utilities that the embedded models cannot test, with the reason."""


def part_of_task(case: Case, folder: Path) -> str:
    """The task of a case: a bundled name, or a task file with the selected items."""
    if case.item_set is None and case.domain is None:
        return case.task
    task_file, path = read_task_file(case.task)
    sets = task_file.editions["mini"].item_sets
    name = case.item_set or next(iter(sets))
    item_set = sets[name].model_dump(mode="json", exclude_defaults=True)
    items = json.loads((path.parent / "data" / item_set.pop("file")).read_text(encoding="utf-8"))
    item_set["items"] = {
        split: [item for item in items[split] if case.domain in {None, item["domain"]}] for split in ("dev", "test")
    }
    part: dict[str, Any] = {"name": f"{case.task}_{case.domain or name}", "title": task_file.title}
    part |= {"editions": {"mini": {"settings": task_file.editions["mini"].settings, "item_sets": {name: item_set}}}}
    file = folder / f"{part['name']}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(part, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return str(file)


def verdicts_of(found: Examination) -> dict[str, StoredVerdict]:
    """Scorer to its verdict from a lab."""
    return {
        one.utility: StoredVerdict(
            fitness=one.conclusion.fitness,
            because=tuple(reason.partition(": ")[0] for reason in one.conclusion.reasons),
            warned=tuple(finding.title for finding in one.findings if finding.verdict == "warn"),
            task=found.task,
            options=tuple(one.options),
            dev_items=found.dev_items,
            test_items=found.test_items,
            made=found.made,
            version=found.version,
        )
        for one in found.designs
    }


def main(names: Sequence[str], out: Path = Path("runs/verdicts"), path: Path = VERDICTS) -> Mapping[str, StoredVerdict]:
    """Updates the verdicts of the named utilities, or of all if none is named.

    Raises:
        UserError: A name is not a built-in utility.
    """
    console = open_console(stderr=True)
    for name in names:
        if name not in scorer_registry:
            raise unknown_name("utility", name, scorer_registry)
    verdicts = {name: one for name, one in read_verdicts(path).items() if name in scorer_registry}
    for case in CASES:
        if names and not set(names) & {design.partition(",")[0] for design in case.designs}:
            continue
        flat = {"task": part_of_task(case, out), "limit": case.limit, **dict(case.settings)}
        task_file = read_task_file(str(flat["task"]))[0]
        settings = run_settings(task_file.editions["mini"].settings, flat)
        folder = out / task_file.name
        examination, _ = examine_designs(
            settings, LabOptions(case.designs), folder, lambda text: console.print(text, markup=False)
        )
        verdicts |= verdicts_of(examination)
        for name, one in verdicts_of(examination).items():
            console.print(f"{name}: {one.fitness}", style="bold")
    for name, why in UNTRIED.items():
        if not names or name in names:
            verdicts[name] = StoredVerdict(
                fitness="no verdict", because=(why,), made=date.today().isoformat(), version=project_version()
            )
    write_atomically(path, verdicts_text(verdicts))
    return verdicts


if __name__ == "__main__":
    main(sys.argv[1:])
