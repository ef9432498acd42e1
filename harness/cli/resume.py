"""`resume`: continues an interrupted search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.command import Display, DisplayOption, JsonOption, TrackOption, verb
from harness.cli.search import continue_search, show_result
from harness.session.settings import stored_settings
from utilities.errors import UserError

if TYPE_CHECKING:
    from harness.run_folder.store import Store

__all__ = ["run_resume"]


@verb("Search")
def resume(
    folder: Annotated[Path, typer.Argument(help="The run folder.")],
    budget_tokens: Annotated[int | None, typer.Option(help="Another token budget for the judges of the run.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Another budget, in US dollars.")] = None,
    track: TrackOption = None,
    display: DisplayOption = "auto",
    json: JsonOption = False,
) -> None:
    """Continues an interrupted search; the result is as if it had never been interrupted."""
    given = {"budget_tokens": budget_tokens, "budget_usd": budget_usd}
    budget = {name: value for name, value in given.items() if value is not None}
    run_resume(folder, display, json, budget, track or ())


def run_resume(
    folder: Path,
    display: Display,
    json: bool,
    budget: Mapping[str, Any] | None = None,
    track: Sequence[str] = (),
) -> None:
    """Continues the run of a folder with its settings, and with another budget for judges if one is given."""
    from harness.run_folder.store import Store

    store = Store.open(folder)
    try:
        _resume(store, folder, display, json, budget or {}, track)
    finally:
        store.close()


def _resume(
    store: Store, folder: Path, display: Display, json: bool, budget: Mapping[str, Any], track: Sequence[str]
) -> None:
    from harness.display.console import announce, open_console
    from harness.run_folder.result import Result

    if (folder / "result.json").exists():
        try:
            result = Result.model_validate_json((folder / "result.json").read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{folder / 'result.json'} is corrupt; delete it and run `resume` to rebuild it") from error
        console = open_console(stderr=json)
        if store.is_intact("best"):
            console.print(f"{folder} is finished already.", markup=False)
            show_result(result, console, display, json)
            return
        console.print(f"{folder / 'best'} is missing or damaged; it is rebuilt.", markup=False)
    document = store.settings()
    for kind, name in (("compare", "comparison"), ("sweep", "sweep"), ("lab", "lab"), ("analyse", "study")):
        if kind in document:
            raise UserError(f"{folder} is a {name} folder; re-run the original `{kind}` command to resume it")
    if "evaluated" in document:
        raise UserError(f"{folder} holds the records of `evaluate`, not a search; there is nothing to resume")
    try:
        stored = document["settings"]
        settings = stored_settings({**stored, "judging": {**stored.get("judging", {}), **budget}})
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'settings.yaml'} is corrupt: {error}") from error
    announce(settings.task, settings.base_model, display)
    from harness.session.provenance import changed_inputs, provenance
    from harness.session.session import open_session

    session = open_session(settings, start=True, state=(store.checkpoint() or {}).get("engine"))
    try:
        if changed := changed_inputs(document, provenance(session)):
            raise UserError(f"cannot resume {folder}: {', '.join(changed)} changed since it began; start a new run")
        continue_search(session, store, display, json, track)
    finally:
        session.close()
