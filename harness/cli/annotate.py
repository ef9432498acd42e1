"""`annotate`: people compare the answers of two models without knowing which is which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.command import JsonOption, verb
from utilities.errors import UserError

if TYPE_CHECKING:
    from harness.annotate.pairs import Key

__all__ = ["run_annotate", "run_results"]

PORT = 8010


@verb("Evaluate")
def annotate(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="RUN | results FILE...", help="A finished run; or the word results and verdict files."),
    ],
    against: Annotated[
        str, typer.Option(help="What the winner is compared with: best-initial, base, or another run's folder.")
    ] = "best-initial",
    items: Annotated[int, typer.Option(min=1, help="At most so many instructions.")] = 50,
    repeats: Annotated[
        int | None,
        typer.Option(min=0, help="Pairs that appear twice, with swapped sides; by default every tenth."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides instructions, order and sides.")] = 0,
    html: Annotated[
        Path | None, typer.Option(help="Write one HTML file for raters elsewhere in place of serving a page here.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 is a free one.")] = PORT,
    run: Annotated[Path | None, typer.Option(help="With results: the run, if the files are not beside it.")] = None,
    json: JsonOption = False,
) -> None:
    """Lets people compare the winner's answers with another model's, blind; or evaluates their verdicts."""
    if arguments[0] == "results":
        run_results([Path(one) for one in arguments[1:]], run, json)
    elif len(arguments) > 1:
        raise UserError(f"one run is annotated at a time, and {len(arguments)} arguments were given")
    elif run is not None or json:
        raise UserError("--run and --json are options of `annotate results FILE...`")
    else:
        from harness.annotate.pairs import make_key

        run_annotate(make_key(Path(arguments[0]), against, items, repeats, seed), html, port)


def run_annotate(key: Key, html: Path | None, port: int) -> None:
    """Writes or serves the page of an annotation; serving ends with Ctrl-C.

    Raises:
        UserError: The HTML file exists, or the port cannot be bound.
    """
    from harness.annotate.page import page
    from harness.annotate.server import AnnotationServer
    from harness.annotate.verdicts import latest
    from harness.display.console import open_console
    from harness.run_folder.store import write_atomically

    console = open_console(soft_wrap=True)
    if html is not None and html.exists():
        raise UserError(f"--html {html} already exists; choose another file")
    saved = key.save()
    console.print(f"{len(key.pairs)} pairs, the winner against {key.other}; which side is which: {saved}")
    if named := sum(pair.names_model is not None for pair in key.pairs):
        console.print(f"warning: in {named} pairs an answer names a model; the page says so there", style="yellow")
    if html is not None:
        write_atomically(html, page(key, served=False))
        console.print(f"Written: {html}; raters open it in a browser and send back the file that they download.")
        console.print(f"Then: python run.py annotate results FILE... --run {key.run}")
        return
    with AnnotationServer(key, port) as server:
        console.print(f"Open {server.url} (Ctrl-C ends the server). Verdicts are appended to {key.verdicts}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            verdicts = latest(server.lines)
            console.print(f"\n{len(verdicts)} verdicts of {len({one.rater for one in verdicts})} raters are saved.")
            console.print(f"Next: python run.py annotate results {key.verdicts}")


def run_results(files: Sequence[Path], run: Path | None, json: bool) -> None:
    """Evaluates verdict files and prints the results.

    Raises:
        UserError: No file, or files that cannot be evaluated.
    """
    from harness.annotate.results import evaluate_verdicts, result_lines
    from harness.display.console import open_console, print_json

    if not files:
        raise UserError("`annotate results` needs at least one file of verdicts")
    folders = [run / "annotation"] if run is not None else [*{path.parent: None for path in files}]
    results = evaluate_verdicts(files, folders)
    if json:
        print_json(results.model_dump_json(indent=2))
    for line in result_lines(results):
        open_console(stderr=json, soft_wrap=True).print(line, markup=False, highlight=False)
