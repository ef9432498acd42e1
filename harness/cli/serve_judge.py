"""`serve-judge`: a local model as a judge over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.command import verb


@verb("Use")
def serve_judge(
    model: Annotated[str | None, typer.Option(help="Folder or hub id; by default the embedded judge.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="LoRA adapter that is merged into the model.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to bind. The server has no authentication; do not expose it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to bind; 0 takes a free one.")] = 8008,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch; by default torch's own choice.")] = None,
) -> None:
    """Serves a local model through the protocol of hosted ones, for `--judge` and `--judge-url`."""
    from harness.local_judge.server import run_serve_judge

    run_serve_judge(model, adapter, host, port, threads)
