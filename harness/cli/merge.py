"""`merge`: the winner merged into its base model, as a plain model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.cli.command import verb


@verb("Use")
def merge(
    run: Annotated[Path, typer.Argument(help="A finished run.")],
    out: Annotated[Path, typer.Option(help="New folder of the merged model.")],
    base_model: Annotated[
        str | None, typer.Option(help="Base model in place of the run's, such as an unquantised copy.")
    ] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="Dtype of the written weights. auto: as the base model's."),
    ] = "auto",
) -> None:
    """Merges a run's winner into its base model: a plain folder of transformers with tokenizer and card."""
    from harness.display.console import open_console
    from harness.publish.merge import merge_run

    merged = merge_run(run, out, base_model, dtype)
    dtype_name = str(merged.dtype).removeprefix("torch.")
    console = open_console(soft_wrap=True)
    console.print(f"Written: {merged.folder} ({dtype_name})")
    console.print(
        f"Checked against base and adapter: KL divergence of next-token distributions {merged.divergence:.1e}"
    )
