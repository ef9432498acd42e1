"""`show`: questions and answers of a run in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli.command import JsonOption, verb
from utilities.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.report.answers import ShownItem, SideBySide

__all__ = ["run_show"]

SplitName = Literal["dev", "test"]
LONGEST = 1200
"""Characters of an answer in a list; `--item` shows it whole."""


@verb("Look")
def show(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder, or the folder of `evaluate --out`.")],
    item: Annotated[list[str] | None, typer.Option(help="Id of an item; may be repeated.")] = None,
    wrong: Annotated[bool, typer.Option("--wrong", help="Items that the last model answers wrongly.")] = False,
    fixed: Annotated[
        bool, typer.Option("--fixed", help="Items that it answers better than the model before it.")
    ] = False,
    broken: Annotated[bool, typer.Option("--broken", help="Items that it answers worse.")] = False,
    unscored: Annotated[bool, typer.Option("--unscored", help="Items without a score.")] = False,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Whose answers; by default the base model, the best initial expert and the winner."),
    ] = None,
    split: Annotated[SplitName | None, typer.Option(help="Which split; by default test.")] = None,
    most: Annotated[int, typer.Option(min=1, help="Items to show at most.")] = 10,
    json: JsonOption = False,
) -> None:
    """Shows questions, options, gold answers, the models' answers, and what judges wrote.

    Without a filter, the items that changed most come first.
    """
    wanted = {"fixed": fixed, "broken": broken, "unscored": unscored, "wrong": wrong}
    run_show(folder, item or [], [name for name, on in wanted.items() if on], model or [], split, most, json)


def run_show(
    folder: Path,
    items: list[str],
    filters: list[str],
    models: list[str],
    split: SplitName | None,
    most: int,
    json: bool,
) -> None:
    """Prints items of a run with their answers.

    Args:
        folder: The run folder.
        items: Ids; empty for all.
        filters: fixed, broken, unscored, wrong; an item is shown if one of them fits. Empty for all.
        models: Names of models; empty for the usual ones.
        split: dev or test; by default test, or the split of `evaluate --out`.
        most: Maximum number of items.
        json: Whether all fitting items are printed as JSON.

    Raises:
        UserError: No such item or model, or no stored answers.
    """
    import json as jsonlib
    from dataclasses import asdict

    from harness.display.console import open_console, print_json
    from harness.report.answers import side_by_side
    from harness.run_folder.read import open_run

    run = open_run(folder)
    if run.study not in ("search", "evaluate"):
        raise UserError(f"{folder} is a folder of `{run.study}`; its answers are in `report {folder}`")
    chosen = split or ("dev" if run.document.get("evaluated") == "dev" else "test")
    shown = side_by_side(run, chosen, models)
    if not shown.items:
        raise UserError(f"{folder} has no stored answers on {chosen}: it is {run.state}")
    if missing := [name for name in items if name not in {one.item for one in shown.items}]:
        raise UserError(f"{folder} has no item {missing[0]!r} on {chosen}; ids are such as {shown.items[0].item!r}")
    found = [one for one in shown.items if (not items or one.item in items) and _fits(one, filters)]
    if json:
        print_json(jsonlib.dumps([asdict(one) for one in found], indent=2))
    console = open_console(stderr=json)
    for one in found[: None if items else most]:
        _print(one, console, None if items else LONGEST)
    _count(shown, found, 0 if items else most, console)


def _fits(one: ShownItem, filters: list[str]) -> bool:
    is_wrong = bool(one.answers) and (score := one.answers[-1].score) is not None and score <= 0
    return not filters or any(name in one.tags or (name == "wrong" and is_wrong) for name in filters)


def _print(one: ShownItem, console: Console, longest: int | None) -> None:
    from rich.rule import Rule
    from rich.text import Text

    def say(text: str, style: str = "", indent: int = 2) -> None:
        from rich.padding import Padding

        console.print(Padding(Text(text, style=style), (0, 0, 0, indent)))

    name = " ".join(part for part in (one.item_set, one.item) if part)
    console.print(Rule(Text(f"{name}  {', '.join(one.tags)}".strip()), align="left", style="dim"))
    if one.question is not None:
        say(one.question, "bold", 0)
    for letter, option in one.options.items():
        say(f"{letter}  {option}{'  (gold)' if letter == one.gold else ''}", "" if letter == one.gold else "dim")
    if one.gold and not one.options:
        say(f"gold: {one.gold}", "green")
    for answer in one.answers:
        score = "unscored" if answer.score is None else f"{answer.score:.4g}"
        style = "yellow" if answer.score is None else "red" if answer.score <= 0 else "green"
        others = "".join(f"  {scorer} {value:.4g}" for scorer, value in answer.others.items())
        console.print(Text.assemble((answer.model, "bold"), "  ", (score, style), (others, "dim")))
        text = answer.text + (f"  {one.options[answer.text]}" if answer.text in one.options else "")
        cut = longest is not None and len(text) > longest
        say(text[:longest] + (" [...]" if cut else ""))
        if answer.unscored:
            say(answer.unscored, "yellow")
        for judgement in answer.judgements:
            rating = "" if judgement.rating is None else f" {judgement.rating:g}"
            say(f"{judgement.judge}{rating}: {judgement.words}", "dim", 4)
        for claim in answer.claims:
            say(f"{claim.verdict}: {claim.text}", "dim", 4)
            for source, passage in claim.evidence if longest is None else ():
                say(f"{source}: {passage}", "dim", 6)
    console.print()


def _count(shown: SideBySide, found: list[ShownItem], most: int, console: Console) -> None:
    counts = ", ".join(f"{count} {tag}" for tag, count in shown.counts().items() if count)
    more = f"; {len(found) - most} more that fit: --most" if most and len(found) > most else ""
    console.print(f"{len(shown.items)} items on {shown.split}: {counts}{more}", style="dim", highlight=False)
    if shown.without_text:
        console.print(
            "The questions are neither stored in the folder nor readable from the task's data.", style="yellow"
        )
