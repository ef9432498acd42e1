"""Writes the model card of the winner. Names are untrusted text and are escaped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from harness.display.tables import number
from utilities.foreign_text import escape_markdown, printable

if TYPE_CHECKING:
    from harness.run_folder.result import Result, Winner
    from harness.session.session import Session

__all__ = ["model_card"]


def model_card(result: Result, session: Session) -> str:
    """The `README.md` of the winner's folder, in the hub's card format."""
    library = "peft" if session.pool.kind == "lora" else "transformers"
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
    base, folder = (json.dumps(printable(str(path))) for path in (session.base, result.winner.adapter))
    load = (
        f"model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base}), {folder})"
        if library == "peft"
        else f"model = AutoModelForCausalLM.from_pretrained({folder})"
    )
    imports = (
        "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM"
        if library == "peft"
        else "from transformers import AutoModelForCausalLM"
    )
    return f"""---
library_name: {library}
base_model: {base}
tags: [model-swarms, lora, model-merging]
---

# Winner of a model swarm on {escape_markdown(result.task)} ({escape_markdown(result.edition)})

Found by a search over mixtures of {len(result.experts)} experts (Model Swarms, arXiv 2410.11163; optimiser
`{result.optimiser}`, objective `{result.objective}`, winner `{result.winner.finalist}`, seed {result.seed},
{result.iterations} iterations, {result.evaluations} evaluations on dev; {result.stopped}).

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

{load}
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
