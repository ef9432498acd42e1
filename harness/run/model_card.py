"""Writes the model card of the winner. Names are untrusted text and are escaped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from harness.display.tables import number
from utilities.foreign_text import escape_markdown, printable

if TYPE_CHECKING:
    from harness.run_folder.result import Result, Winner

__all__ = ["LIBRARIES", "Library", "model_card"]

Library = Literal["peft", "transformers", "model-swarms"]
LIBRARIES: dict[str, Library] = {"lora": "peft", "model": "transformers", "tokens": "model-swarms"}
"""Library that loads the winner, by the kind of its pool."""


def model_card(result: Result, base: str, library: Library, folder: str, *, with_base: bool = True) -> str:
    """The `README.md` of the winner's folder, in the hub's card format.

    Args:
        result: Of the run.
        base: Path or hub id of the base model.
        library: Which library loads the winner.
        folder: Path or hub id of the winner.
        with_base: Whether the card's metadata name the base model; the hub accepts hub ids only.
    """
    table = _table(
        ["model", "dev", "test", "n", "unscored"],
        [
            [row.name, number(row.dev, row.dev_se), number(row.test, row.test_se), str(row.n), str(row.unscored)]
            for row in result.rows
        ],
    )
    gain = result.difference["winner_minus_best_initial"]
    interval = (
        f"not known ({escape_markdown(gain.problem or '')})"
        if gain.value is None
        else f"{gain.value:+.4f} (95 % interval {gain.low:+.4f} to {gain.high:+.4f}, paired bootstrap)"
    )
    base, folder = (json.dumps(printable(path)) for path in (base, folder))
    imports, load = {
        "peft": (
            "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM",
            f"PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base}), {folder})",
        ),
        "transformers": (
            "from transformers import AutoModelForCausalLM",
            f"AutoModelForCausalLM.from_pretrained({folder})",
        ),
        "model-swarms": ("import harness", f"harness.load_token_mixture({folder})"),
    }[library]
    what = "their token probabilities" if library == "model-swarms" else "their weights"
    return f"""---
library_name: {library}
{f"base_model: {base}" if with_base else "# the base model is not on the hub"}
tags: [model-swarms, lora, model-merging]
---

# Winner of a model swarm on {escape_markdown(result.task)} ({escape_markdown(result.edition)})

Found by a search over mixtures of {len(result.experts)} experts (Model Swarms, arXiv 2410.11163; {what} are
mixed; optimiser `{result.optimiser}`, objective `{result.objective}`, winner `{result.winner.finalist}`, seed
{result.seed}, {result.iterations} iterations, {result.evaluations} evaluations on dev; {result.stopped}).

## What it is made of

{_mixture(result.winner)}

## What it scores

{table}

± is the standard error over test items, clustered by their sources. The winner was chosen on dev, so its dev value is
biased upwards; test was read once. Winner minus best initial expert ({escape_markdown(result.best_initial)}) on test:
{interval}.

## How to load it

```python
{imports}

model = {load}
```
"""


def _mixture(winner: Winner) -> str:
    """Table of the winner's coefficients: one row per expert, or one row per group of modules."""
    names = sorted(winner.coefficients, key=lambda name: -abs(winner.coefficients[name]))
    if not winner.groups:
        return _table(["expert", "coefficient"], [[name, f"{winner.coefficients[name]:+.4f}"] for name in names])
    rows = {**winner.groups, "mean": winner.coefficients}
    return _table(["modules", *names], [[group, *(f"{of[name]:+.4f}" for name in names)] for group, of in rows.items()])


def _table(heading: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(map(escape_markdown, row)) + " |" for row in (heading, *rows)]
    return "\n".join([lines[0], "|---" * len(heading) + "|", *lines[1:]])
