"""`evaluate`: the base model and every expert on one split, without a search."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli.command import ConfigOption, Given, JsonOption, verb
from harness.cli.options import CACHE, ENGINE, JUDGES, MODELS, TASK, layered_settings
from harness.session.settings import RunSettings

if TYPE_CHECKING:
    from utilities.core import Evaluation

__all__ = ["evaluation_json", "run_evaluate"]

SplitName = Literal["dev", "test"]


@verb("Evaluate", reads=TASK | MODELS | ENGINE | CACHE | JUDGES)
def evaluate(
    given: Given,
    config: ConfigOption = None,
    split: Annotated[SplitName, typer.Option(help="Which split.")] = "dev",
    out: Annotated[Path | None, typer.Option(help="Write the records of every answer to this new folder.")] = None,
    json: JsonOption = False,
) -> None:
    """Evaluates the base model and every expert on a task, without a search."""
    run_evaluate(layered_settings(config, given), split, out, json)


def run_evaluate(settings: RunSettings, split: SplitName, out: Path | None, json: bool) -> None:
    """Evaluates the base model and every expert on one split, and shows a row a model.

    Raises:
        typer.Exit: With code 1, if nothing could be scored, except by `--utility`: it may refuse every answer, and its
            reasons are the result.
    """
    from harness.display.console import announce, open_console, print_json

    announce(settings.task, settings.base_model)
    from harness.display.conclusion import evaluation_conclusion
    from harness.display.tables import cached_line, evaluation_table
    from harness.run_folder.store import Store
    from harness.session.evaluator import evaluate_models
    from harness.session.provenance import provenance
    from harness.session.session import BASE, open_session
    from utilities.sync import run_sync

    settings = settings.anywhere()
    session = open_session(settings, start=True)
    store = None
    if out is not None:
        document = {"settings": settings.model_dump(mode="json"), "evaluated": split, **provenance(session)}
        Store.clear_interrupted(out, "evaluated", "records/evaluate_*.parquet")
        store = Store.create(out, document)
    try:
        engine = session.engine()
        try:
            answers = session.answer_cache(engine)
            evaluations = run_sync(evaluate_models(session, engine, split, answers))
        finally:
            engine.close()
        if store is not None:
            store.save_items(session.task, session.monitor_set, session.validation_set)
            store.save_records(f"evaluate_{split}", list(evaluations.items()))
    finally:
        session.close()
        if store is not None:
            store.close()
    console = open_console(stderr=json)
    if json:
        print_json(
            jsonlib.dumps([evaluation_json(name, split, e) for name, e in evaluations.items()], indent=2), stored=out
        )
    task = session.task
    objectives = next((o for s in task.item_sets.values() if (o := s.scorer.objectives)), ())
    console.print(evaluation_table(evaluations, f"{task.name} ({task.edition}), {split}", objectives))
    for name, e in evaluations.items():
        if e.problem:
            console.print(f"{name}: not comparable, {e.problem}", style="yellow", markup=False)
    reused = [cached_line(answers.reused)] if answers is not None and answers.reused else []
    for note in (*session.notes, *session.take_notes(), *reused):
        console.print(f"note: {note}", style="yellow", markup=False)
    sentence = evaluation_conclusion(evaluations, BASE, split, task.combine)
    console.print(f"conclusion: {sentence}", style="bold", markup=False, highlight=False, soft_wrap=True)
    if settings.utility is None and not any(e.n for e in evaluations.values()):
        raise typer.Exit(1)


def evaluation_json(name: str, split: str, e: Evaluation) -> dict[str, Any]:
    """An evaluation as `--json` prints it."""
    from harness.display.tables import measure_means, unscored_reason

    parts = {part: {"value": one.value, "se": one.se, "n": one.n} for part, one in e.parts.items()}
    return {
        "name": name,
        "split": split,
        "value": e.value,
        "se": e.se,
        "n": e.n,
        "unscored": e.n_unscored,
        "unscored_reason": unscored_reason(e),
        "problem": e.problem,
        "parts": parts,
        "measures": measure_means(e),
    }
