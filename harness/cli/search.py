"""What the verbs of the command line do, once their settings are known."""

from __future__ import annotations

import asyncio
import json as jsonlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from harness.display.console import open_console, print_json
from harness.display.live import evaluation_table, make_screen, measure_means, number, print_result
from harness.run.adapt import adapt
from harness.run.final_test import overlap_note, problem
from harness.run_folder import result as schema
from harness.run_folder.events import Bus, Note
from harness.run_folder.store import Store
from harness.session.rescore import rescore
from harness.session.session import BASE, Prepared, changed_inputs, prepare, provenance
from harness.session.settings import RunSettings, stored_settings
from utilities.core import Evaluation, Item
from utilities.errors import UserError
from utilities.judges.budget import Spent

__all__ = ["run_evaluate", "run_resume", "run_score", "run_search", "run_validate"]

Display = Literal["auto", "plain", "none"]


def _console(json: bool) -> Console:
    return open_console(stderr=json)


def run_search(
    settings: RunSettings, out: Path, name: str | None, display: Display, json: bool, spent: Spent | None = None
) -> None:
    """Search from the beginning, in a new run folder; `spent` is what its judges have cost already."""
    folder = out / name if name else _free_folder(out, settings)
    Store.check_new(folder)  # before experts and data are read
    settings = settings.anywhere()
    prepared = prepare(settings, start=True, spent=spent)
    try:
        document = {"settings": settings.model_dump(mode="json"), **provenance(prepared)}
        _run(prepared, Store.create(folder, document), display, json)
    finally:
        prepared.close()


def run_resume(folder: Path, display: Display, json: bool, budget: Mapping[str, Any] | None = None) -> None:
    """Continues the run of a folder with the settings it began with, and where asked with another budget for judges."""
    store = Store.open(folder)
    try:
        _resume(store, folder, display, json, budget or {})
    finally:
        store.close()


def _resume(store: Store, folder: Path, display: Display, json: bool, budget: Mapping[str, Any]) -> None:
    if (folder / "result.json").exists():
        try:
            result = schema.Result.model_validate_json((folder / "result.json").read_bytes())
        except ValueError as error:
            raise UserError(f"{folder / 'result.json'} is damaged; without it, the run is finished again") from error
        console = _console(json)
        console.print(f"{folder} is finished already.", markup=False)
        _show(result, console, display, json)
        return
    document = store.settings()
    for kind, what in (("compare", "comparison"), ("sweep", "sweep"), ("lab", "lab")):
        if kind in document:
            raise UserError(f"{folder} holds a {what}: the command that began it, given again, continues it")
    if "evaluated" in document:
        raise UserError(f"{folder} holds the records of `evaluate`, no search that could be continued")
    try:
        told = document["settings"]
        settings = stored_settings({**told, "judging": {**told.get("judging", {}), **budget}})
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'settings.yaml'} is damaged: {error}") from error
    prepared = prepare(settings, start=True, state=(store.checkpoint() or {}).get("engine"))
    try:
        if changed := changed_inputs(document, provenance(prepared)):
            told = f"{', '.join(changed)} changed since it began"
            raise UserError(f"{folder} cannot be continued: {told}; start a new run")
        _run(prepared, store, display, json)
    finally:
        prepared.close()


def _free_folder(out: Path, settings: RunSettings) -> Path:
    stem = f"{Path(settings.task).stem}-seed{settings.seed}"
    taken = {path.name for path in out.iterdir()} if out.is_dir() else set()
    number = 1
    while (name := stem if number == 1 else f"{stem}-{number}") in taken:
        number += 1
    return out / name


def _run(prepared: Prepared, store: Store, display: Display, json: bool) -> None:
    console = _console(json)
    screen, bus = make_screen(display, console), Bus()
    try:
        for event in store.events():
            screen(event)  # a resumed run shows what came before
        bus.subscribe(store.log)
        bus.subscribe(screen)
        with screen:
            for name, s in prepared.task.item_sets.items():
                if s.overlap:
                    bus(Note(text=overlap_note(name, len(s.overlap), len(s.test))))
            result = adapt(prepared, store, bus)
    except KeyboardInterrupt:
        console.print(f"Interrupted; continue with: python run.py resume {store.folder}", markup=False, soft_wrap=True)
        raise
    finally:
        store.close()
    _show(result, console, display, json)


def _show(result: schema.Result, console: Console, display: Display, json: bool) -> None:
    if json:
        print_json(result.model_dump_json(indent=2), stored=Path(result.run))
    if display != "none":
        print_result(result, console)


def run_evaluate(settings: RunSettings, split: Literal["dev", "test"], out: Path | None, json: bool) -> None:
    """The base model and every expert on one split."""
    settings = settings.anywhere()
    prepared = prepare(settings, start=True)
    store = None
    if out is not None:
        document = {"settings": settings.model_dump(mode="json"), "evaluated": split, **provenance(prepared)}
        store = Store.create(out, document)
    try:
        evaluations = asyncio.run(_evaluate_all(prepared, split))
        if store is not None:
            store.save_records(f"evaluate_{split}", list(evaluations.items()))
    finally:
        prepared.close()
        if store is not None:
            store.close()
    console = _console(json)
    if json:
        print_json(jsonlib.dumps([_as_json(name, split, e) for name, e in evaluations.items()], indent=2), stored=out)
    task = prepared.task
    objectives = next((o for s in task.item_sets.values() if (o := s.scorer.objectives)), ())
    console.print(evaluation_table(evaluations, f"{task.name} ({task.edition}), {split}", objectives))
    for name, e in evaluations.items():
        if e.problem:
            console.print(f"{name}: not comparable, {e.problem}", style="yellow", markup=False)


def _as_json(name: str, split: str, e: Evaluation) -> dict[str, Any]:
    parts = {part: {"value": one.value, "se": one.se, "n": one.n} for part, one in e.parts.items()}
    return {
        "name": name,
        "split": split,
        "value": e.value,
        "se": e.se,
        "n": e.n,
        "unscored": e.n_unscored,
        "problem": e.problem,
        "parts": parts,
        "measures": measure_means(e),
    }


def run_score(folder: Path, settings: dict[str, Any], json: bool) -> None:
    """Scores the stored responses of a run with another utility."""
    from rich.table import Table

    found = rescore(folder, settings)
    console = _console(json)
    if json:
        told = [
            {**_as_json(one.label, one.split, one.now), "stored": one.stored.value, "stored_se": one.stored.se}
            for one in found
        ]
        print_json(jsonlib.dumps(told, indent=2))
    table = Table(title=f"{folder}, scored again", title_justify="left", title_style="bold")
    table.add_column("model", overflow="fold")
    for column in ("split", "stored", "now", "n", "unscored"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in found:
        counts = (str(one.now.n), str(one.now.n_unscored))
        values = (number(one.stored.value, one.stored.se), number(one.now.value, one.now.se))
        table.add_row(one.label, one.split, *values, *counts)
    console.print(table)
    problems = sorted({problem(one.now) for one in found if one.now.problem})
    for text in problems:
        console.print(f"not comparable: {text}", style="yellow", markup=False)


async def _evaluate_all(prepared: Prepared, split: Literal["dev", "test"]) -> dict[str, Evaluation]:
    import numpy as np

    engine = prepared.engine()
    try:
        names = [BASE, *prepared.pool.names]
        rows = [None, *np.eye(len(prepared.pool.names))]
        found = await asyncio.gather(*(prepared.task(engine.particle(row), split) for row in rows))
        return dict(zip(names, found, strict=True))
    finally:
        engine.close()


def run_validate(settings: RunSettings, json: bool) -> None:
    """Checks and describes task, data and experts; any mistake has ended the program before the table."""
    from collections import Counter

    from rich.table import Table

    prepared = prepare(settings, ask=False)
    task, pool = prepared.task, prepared.pool
    sets: dict[str, Any] = {}
    for name, s in task.item_sets.items():
        both = [*s.dev, *s.test]
        options = sorted(Counter(len(item.choices or {}) for item in both).items())
        sets[name] = {
            "origin": s.origin,
            "dev": len(s.dev),
            "test": len(s.test),
            "options": {count or "free": n for count, n in options},
            "answers": dict(sorted(Counter(_answer_told(item) for item in both).items())),
            "overlap": len(s.overlap),
        }
    experts = {"kind": pool.kind, "names": pool.names, "parameters": pool.parameters}
    console = _console(json)
    if json:
        print_json(
            jsonlib.dumps({"task": task.name, "edition": task.edition, "item_sets": sets, "experts": experts}, indent=2)
        )
    table = Table(title=f"{task.name} ({task.edition}): {task.title}", title_justify="left", title_style="bold")
    for column in ("item set", "dev", "test", "options", "answers", "overlap"):
        table.add_column(column, justify="left" if column in {"item set", "options", "answers"} else "right")
    for name, about in sets.items():
        total = max(1, sum(about["answers"].values()))
        table.add_row(
            name,
            str(about["dev"]),
            str(about["test"]),
            ", ".join(f"{options} ({n})" for options, n in about["options"].items()),
            ", ".join(f"{answer} {n / total:.0%}" for answer, n in about["answers"].items()),
            str(about["overlap"]),
        )
    console.print(table)
    for name, about in sets.items():
        if about["overlap"]:
            console.print(f"note: {overlap_note(name, about['overlap'], about['test'])}", style="yellow", markup=False)
    for told in prepared.notes:
        console.print(f"note: {told}", style="yellow", markup=False)
    console.print(
        f"{len(pool.names)} experts ({pool.kind}, {pool.parameters:,} parameters each): {', '.join(pool.names)}",
        markup=False,
        highlight=False,
    )
    console.print("Everything fits; no model was run.", style="green")


def _answer_told(item: Item) -> str:
    """What `validate` counts of an answer: the letter of the right option, or of a free answer its kind."""
    from utilities.scorers.extract_number import parse_number

    if item.choices or item.answer is None:
        return item.answer or "none"
    if item.answer.casefold() in {"yes", "no"}:
        return item.answer.casefold()
    return "words" if parse_number(item.answer) is None else "number"
