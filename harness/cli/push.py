"""`push`: uploads a winner to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.command import verb


@verb("Use")
def push(
    folder: Annotated[Path, typer.Argument(help="A finished run, or a model folder of `merge`.")],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the hub.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public; by default private.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Add a commit to a repository that exists.")] = False,
) -> None:
    """Uploads a run's winner with its card to the Hugging Face hub.

    The token is the one that huggingface_hub finds: HF_TOKEN, or the login of `hf auth login`.
    """
    from harness.display.console import open_console
    from harness.publish.push import push as upload

    open_console(soft_wrap=True).print(f"Uploaded: {upload(folder, repo, public=public, update=update)}")
