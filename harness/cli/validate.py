"""`validate`: checks task, data and experts without running a model."""

from __future__ import annotations

import json as jsonlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.cli.command import ConfigOption, Given, JsonOption, verb
from harness.cli.options import ENGINE, JUDGES, MODELS, TASK, layered_settings
from harness.session.settings import RunSettings

if TYPE_CHECKING:
    from utilities.core import Item

__all__ = ["run_validate"]


@verb("Evaluate", reads=TASK | MODELS | ENGINE | JUDGES)
def validate(given: Given, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Checks a task file, its data and the experts without running a model."""
    run_validate(layered_settings(config, given), json)


def run_validate(settings: RunSettings, json: bool) -> None:
    """Checks and describes task, data and experts.

    Raises:
        UserError: Any mistake in them.
    """
    from rich.table import Table

    from harness.display.console import open_console, print_json
    from harness.session.session import open_session
    from utilities.scorers.base import PromptedScorer

    session = open_session(settings, ask=False)
    session.close()  # nothing is evaluated
    task, pool = session.task, session.pool
    sets: dict[str, Any] = {}
    for name, s in task.item_sets.items():
        both = [*s.dev, *s.test]
        options = sorted(Counter(len(item.choices or {}) for item in both).items())
        sets[name] = {
            "origin": s.origin,
            "dev": len(s.dev),
            "test": len(s.test),
            "options": {count or "free": n for count, n in options},
            "answers": dict(sorted(Counter(_answer_kind(item) for item in both).items())),
            "overlap": len(s.overlap),
        }
        if isinstance(s.scorer, PromptedScorer):
            sets[name] |= {"prompt": s.scorer.prompt.describe(), "first_prompt": s.scorer.prompt.render(s.dev[0])}
    experts = {"kind": pool.kind, "names": pool.names, "parameters": pool.parameters}
    console = open_console(stderr=json)
    if json:
        print_json(
            jsonlib.dumps({"task": task.name, "edition": task.edition, "item_sets": sets, "experts": experts}, indent=2)
        )
    title = "" if task.title in session.notes else f": {task.title}"
    table = Table(title=f"{task.name} ({task.edition}){title}", title_justify="left", title_style="bold")
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
        if "prompt" in about:
            console.print(f"prompt of {name}: {about['prompt']}", markup=False, highlight=False)
    for note in session.notes:
        console.print(f"note: {note}", style="yellow", markup=False)
    console.print(
        f"{len(pool.names)} experts ({pool.kind}, {pool.parameters:,} parameters each): {', '.join(pool.names)}",
        markup=False,
        highlight=False,
    )
    console.print("Everything fits; no model was run.", style="green")


def _answer_kind(item: Item) -> str:
    """What `validate` counts of an answer: the letter of the right option, or the kind of a free answer."""
    from utilities.scorers.extract_number import parse_number

    if item.choices or item.answer is None:
        return item.answer or "none"
    if item.answer.casefold() in {"yes", "no"}:
        return item.answer.casefold()
    return "words" if parse_number(item.answer) is None else "number"
