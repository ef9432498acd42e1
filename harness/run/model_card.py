"""The model card of the winner: what it is made of, how it was found, and how it may be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.display.live import number

if TYPE_CHECKING:
    from harness.run_folder.result import Result, Winner
    from harness.session.session import Prepared

__all__ = ["model_card"]


def model_card(result: Result, prepared: Prepared) -> str:
    """The `README.md` of the winner's folder, in the hub's card format."""
    library = "peft" if prepared.pool.kind == "lora" else "transformers"
    table = "\n".join(
        f"| {row.name} | {number(row.dev, row.dev_se)} | {number(row.test, row.test_se)} | {row.n} | {row.unscored} |"
        for row in result.rows
    )
    gain = result.difference["winner_minus_best_initial"]
    interval = (
        f"not known ({gain.problem})"
        if gain.value is None
        else f"{gain.value:+.4f} (95 % interval {gain.low:+.4f} to {gain.high:+.4f}, paired bootstrap)"
    )
    load = (
        f'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{prepared.base}"), "{{folder}}")'
        if library == "peft"
        else 'model = AutoModelForCausalLM.from_pretrained("{folder}")'
    ).replace("{folder}", result.winner.adapter)
    imports = (
        "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM"
        if library == "peft"
        else "from transformers import AutoModelForCausalLM"
    )
    return f"""---
library_name: {library}
base_model: {prepared.base}
tags: [model-swarms, lora, model-merging]
---

# Winner of a model swarm on `{result.task}` ({result.edition})

Found by a search over mixtures of {len(result.experts)} experts (Model Swarms, arXiv 2410.11163; optimiser
`{result.optimiser}`, objective `{result.objective}`, winner `{result.winner.finalist}`, seed {result.seed},
{result.iterations} iterations, {result.evaluations} evaluations on dev; {result.stopped}).

## What it is made of

{_mixture(result.winner)}

## What it scores

| model | dev | test | n | unscored |
|---|---|---|---|---|
{table}

± is the standard error over test items, clustered by their sources. The winner was chosen on dev, so its dev value is
biased upwards; test was read once. Winner minus best initial expert ({result.best_initial}) on test: {interval}.

## How to load it

```python
{imports}

{load}
```
"""


def _mixture(winner: Winner) -> str:
    """What the winner is made of: an expert a line, or where groups of modules differ, a group a line."""
    names = sorted(winner.coefficients, key=lambda name: -abs(winner.coefficients[name]))
    if not winner.groups:
        lines = [f"| {name} | {winner.coefficients[name]:+.4f} |" for name in names]
        return "\n".join(["| expert | coefficient |", "|---|---|", *lines])
    rows = {**winner.groups, "mean": winner.coefficients}
    lines = [f"| {group} | {' | '.join(f'{part[name]:+.4f}' for name in names)} |" for group, part in rows.items()]
    return "\n".join([f"| modules | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|", *lines])
