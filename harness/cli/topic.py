"""`topic`: a task file with instructions on a topic of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.command import Given, verb
from utilities.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.topics.instructions import TopicDraft

__all__ = ["run_topic"]

WRITING = frozenset(
    {
        "judge", "judge_url", "judge_key_env", "judge_key_file", "judge_price", "allow_unknown_price", "budget_tokens",
        "budget_usd",
    }
)  # fmt: skip
"""Settings of a judge that writes and does not judge."""


@verb("Data", reads=WRITING, common=WRITING)
def topic(
    given: Given,
    text: Annotated[str, typer.Argument(help="The interest, in a few words of any language.")],
    out: Annotated[
        Path | None, typer.Option(help="The task file to write; by default named after the topic.", metavar="FILE.yaml")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    dev: Annotated[int, typer.Option(min=2, max=500, help="Number of dev instructions.")] = 25,
    test: Annotated[int, typer.Option(min=2, max=500, help="Number of test instructions.")] = 25,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split into dev and test.")] = 0,
) -> None:
    """Drafts instructions on a topic with a judge model, as a task file to read and edit.

    Without --judge, or with the embedded judge, which cannot write, the instructions name subjects of the bundled
    corpus.
    """
    run_topic(text, out, given, force=force, dev=dev, test=test, seed=seed)


def run_topic(
    topic: str, out: Path | None, given: Mapping[str, Any], *, force: bool, dev: int, test: int, seed: int
) -> None:
    """Drafts instructions, writes the task file, and shows its content.

    Args:
        topic: As in `write_topic`.
        out: The task file; by default named after the topic, in the working directory.
        given: Settings of the judges, by name; None means not given.
        force: Whether an existing file may be replaced.
        dev: As in `write_topic`.
        test: As in `write_topic`.
        seed: As in `write_topic`.

    Raises:
        UserError: As in `draft_topic`, or a file that cannot be written, before any cost arises.
    """
    from pydantic import ValidationError

    from harness.display.console import open_console
    from harness.run_folder.store import write_atomically
    from harness.topics.draft import draft_topic
    from harness.topics.instructions import checked_topic
    from harness.topics.task_file import slug, to_task_file
    from utilities.errors import in_words
    from utilities.judges.settings import JudgeSettings

    topic = checked_topic(topic)
    out = Path(f"{slug(topic)}.yaml") if out is None else out
    if out.suffix not in {".yaml", ".yml"}:
        raise UserError(f"--out {out}: a task file's name ends in .yaml")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: the folder {out.parent} does not exist")
    if out.exists() and not (force and out.is_file()):
        raise UserError(f"{out} exists already; replace it with --force, or name another file with --out")
    try:
        judging = JudgeSettings.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise UserError(f"settings: {in_words(error)}") from error
    console = open_console()

    def report(text: str) -> None:
        console.print(text, style="dim", markup=False, highlight=False)

    draft, spent = draft_topic(topic, judging, dev=dev, test=test, seed=seed, tell=report)
    write_atomically(out, to_task_file(draft))
    _show(draft, console)
    if spent.requests or spent.cached:
        cost = "" if not spent.usd else f", ${spent.usd:,.4f}"
        report(f"{spent.requests} requests ({spent.cached} more from the cache), {spent.tokens:,} tokens{cost}")
    console.print(f"Written to {out}: read and edit it, then: python run.py --task {out}", markup=False, soft_wrap=True)


def _show(draft: TopicDraft, console: Console) -> None:
    """Prints the personas and instructions for review."""
    from rich.table import Table
    from rich.text import Text

    from harness.topics.draft import count_line

    if draft.personas:
        personas = Table(title="Personas", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        personas.add_column("persona")
        personas.add_column("interest")
        for one in draft.personas:
            personas.add_row(Text(one.name), Text(one.interest))
        console.print(personas)
    instructions = Table(
        title=Text(draft.topic), title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0)
    )
    instructions.add_column("split")
    instructions.add_column("instruction")
    for name, texts in (("dev", draft.dev), ("test", draft.test)):
        for text in texts:
            instructions.add_row(name, Text(text))
    console.print(instructions)
    console.print(count_line(draft), markup=False, highlight=False)
