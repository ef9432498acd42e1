"""`cache`: what earlier runs stored in the user's cache folder, and its removal."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated, Literal

import typer

from harness.cli.command import JsonOption, verb

__all__ = ["run_cache"]


@verb("Data")
def cache(
    action: Annotated[Literal["show", "clear"], typer.Argument(help="show, or clear: delete.")] = "show",
    judgements: Annotated[
        bool, typer.Option("--judgements", help="clear: delete the judges' replies too; some cost money.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Shows or deletes what runs share: answers of the base model and the experts, and replies of judges.

    Deleting it changes no result: the next run computes the answers again.
    """
    run_cache(action, judgements, json)


def run_cache(action: Literal["show", "clear"], judgements: bool, json: bool) -> None:
    """Shows the size of each part of the cache; `clear` first deletes the answers, and the judgements if asked to."""
    from harness.display.console import open_console, print_json
    from harness.session.answer_cache import answers_folder
    from utilities.judges.settings import JudgeSettings

    answers, replies = answers_folder(), JudgeSettings().cache_path
    parts = {
        "answers": (answers, [path for path in answers.glob("*") if path.is_file()]),
        "judgements": (replies, [path for path in replies.parent.glob(f"{replies.name}*") if path.is_file()]),
    }
    console = open_console(stderr=json)
    shown = {}
    for name, (place, files) in parts.items():
        size = sum(path.stat().st_size for path in files)
        deleted = action == "clear" and (judgements or name == "answers")
        for path in files if deleted else []:
            path.unlink(missing_ok=True)
        shown[name] = {"path": str(place), "bytes": size, "deleted": deleted}
        text = f"{name}: {size / 1e6:.1f} MB in {place}{', deleted' if deleted else ''}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    if json:
        print_json(jsonlib.dumps(shown, indent=2))
