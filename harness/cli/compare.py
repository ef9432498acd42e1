"""`compare`: the search and baseline methods at equal budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli.command import ConfigOption, Display, DisplayOption, Given, JsonOption, TrackOption, verb
from harness.cli.options import ENGINE, JUDGES, MODELS, MONITOR, SEARCH, TASK, layered_settings
from harness.session.settings import RunSettings, read_config

if TYPE_CHECKING:
    from harness.compare.result import Compared

__all__ = ["run_compare"]

Space = Literal["factors", "delta"]
UNREAD = MONITOR | {"iterations"}
"""Search settings without effect here: the budget ends a search, and nothing is monitored."""


@verb("Compare", reads=TASK | MODELS | ENGINE | JUDGES | (SEARCH - UNREAD))
def compare(
    given: Given,
    config: ConfigOption = None,
    methods: Annotated[str, typer.Option(help="all, static, dynamic, or names separated by commas.")] = "all",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each method that draws random numbers.")] = 3,
    budget: Annotated[int, typer.Option(min=1, help="Evaluations on dev of each search.")] = 120,
    space: Annotated[Space, typer.Option(help="Merge A and B separately, or their products BA.")] = "factors",
    contrasts: Annotated[str, typer.Option(help="Planned comparisons, such as swarm:random,swarm:scaled_soup.")] = "",
    training_data: Annotated[
        Path | None, typer.Option(help="Folder of EXPERT.jsonl: {prompt, answer} that each expert was trained on.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the comparison; an interrupted one is resumed.")] = None,
    track: TrackOption = None,
    display: DisplayOption = "auto",
    json: JsonOption = False,
) -> None:
    """Compares the search with baseline methods at equal budget. Separate several tasks with commas.

    The same command again resumes a comparison that was interrupted.
    """
    task = given["task"] or (read_config(config).get("task") if config else None)
    names = [name.strip() for name in str(task or "").split(",") if name.strip()]
    run_compare(
        [layered_settings(config, {**given, "task": name}) for name in names] or [layered_settings(config, given)],
        methods,
        seeds=seeds,
        budget=budget,
        space=space,
        training_data=training_data,
        contrasts=contrasts,
        out=out,
        display=display,
        json=json,
        track=track or (),
    )


def run_compare(
    settings: Sequence[RunSettings],
    methods: str,
    *,
    seeds: int,
    budget: int,
    space: Space,
    training_data: Path | None,
    out: Path | None,
    display: Display,
    json: bool,
    contrasts: str = "",
    track: Sequence[str] = (),
) -> Compared:
    """Compares methods, shows the tables as they fill, and reports where everything is written."""
    from harness.display.console import announce, open_console, print_json

    announce(", ".join(one.task for one in settings), settings[0].base_model, display)
    from harness.compare.compare import CompareOptions
    from harness.compare.compare import compare as run_comparison
    from harness.compare.method import selected_methods
    from harness.compare.table import comparison_tables, live_view
    from harness.display.resumable import continued_screen, note_printer

    console = open_console(stderr=json)
    stems = "-".join(Path(one.task).stem for one in settings)
    folder = out or Path("runs") / f"compare-{stems}-seed{settings[0].seed}"
    wanted = CompareOptions(tuple(selected_methods(methods)), seeds, budget, space, training_data, _pairs(contrasts))
    printed: set[tuple[str, str, int | None]] = set()

    def watch(compared: Compared) -> None:
        if live is not None:
            live.update(live_view(compared), refresh=True)
        elif display != "none":
            for line in _new_lines(compared, printed):
                console.print(line, markup=False, highlight=False, soft_wrap=True)

    with continued_screen(console, display, folder) as live:
        compared = run_comparison(settings, wanted, folder, watch, note_printer(console, display), track)
    if json:
        print_json(compared.model_dump_json(indent=2), stored=folder)
    if display != "none":
        console.print(comparison_tables(compared))
        files = ", ".join(str(folder / f"compare.{kind}") for kind in ("json", "csv", "png"))
        console.print(f"Written: {files}", markup=False, soft_wrap=True)
    return compared


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """The pairs of `--contrasts`.

    Raises:
        UserError: A pair is not METHOD:REFERENCE.
    """
    from utilities.errors import UserError

    pairs = []
    for part in filter(None, (one.strip() for one in text.split(","))):
        method, _, reference = part.partition(":")
        if not method or not reference or ":" in reference:
            raise UserError(f"--contrasts {part!r}: expected METHOD:REFERENCE, such as swarm:random")
        pairs.append((method, reference))
    return tuple(pairs)


def _new_lines(compared: Compared, printed: set[tuple[str, str, int | None]]) -> Iterator[str]:
    """A line for every outcome that is not yet printed."""
    for o in compared.outcomes:
        if (key := (o.task, o.method, o.seed)) not in printed:
            printed.add(key)
            seed = "" if o.seed is None else f", seed {o.seed}"
            values = " ".join(
                f"{split} {'none' if m.value is None else format(m.value, '.4f')}"
                for split, m in (("dev", o.dev), ("test", o.test))
            )
            yield f"{o.task}: {o.method}{seed}: {values} ({o.evaluations} evaluations, {o.seconds:.1f} s)"
