"""Folders of finished runs, made without a search: one with answers that are texts, one with a winner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import yaml

from harness.experts.pool import open_pool
from harness.run_folder.result import Result
from harness.run_folder.store import Store
from utilities.core import Evaluation, ItemResult, Response, Score

__all__ = ["RESULT", "make_text_run", "make_winner_run"]

EMPTY = {"value": None, "low": None, "high": None}
RESULT = {
    "task": "advice", "edition": "mini", "seed": 0, "engine": "local", "model": "tiny", "iterations": 1,
    "stopped": "max_iterations", "evaluations": 3, "seconds": 1.0, "best_initial": "ant",
    "experts": ["ant", "bee-7b", "cat"], "rows": [], "overlap": {}, "run": "r",
    "time_share": {"forward": 1.0, "mixing": 0.0, "scoring": 0.0, "other": 0.0},
    "winner": {"coefficients": {"ant": 1.0}, "dev": 0.5, "test": 0.5, "test_se": 0.1, "adapter": "best"},
    "difference": {"winner_minus_best_initial": EMPTY, "winner_minus_base": EMPTY},
}  # fmt: skip


def make_text_run(
    folder: Path, items: int = 12, answer: Callable[[str, int], str] = lambda label, k: f"{label} says {k}"
) -> Path:
    """A run with `items` test items, two of a source each; the winner's scores are higher on the first half.

    Args:
        folder: New folder; the task file is beside it.
        items: Number of test items.
        answer: Text of a model's answer; models are winner, base and expert_ant.
    """
    listed = [
        {"id": f"i{k}", "question": f"Advise on {k}.", "answer": "x", "source": f"s{k // 2}"} for k in range(items)
    ]
    splits = {"dev": [{"id": "d0", "question": "Advise.", "answer": "x"}], "test": listed}
    task = {"name": "advice", "title": "Advice", "editions": {"mini": {"item_sets": {"all": {
        "scorer": "exact_match", "items": splits}}}}}  # fmt: skip
    path = folder.with_suffix(".yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(task))
    store = Store.create(
        folder, {"settings": {"task": str(path), "base_model": "tiny", "experts": ["ant", "bee", "cat"]}}
    )
    for label in ("winner", "base", "expert_ant"):
        better = label == "winner"
        results = [
            ItemResult(
                one["id"],
                one["source"],
                "0",
                Response(answer(label, k), 3, "stop"),
                Score(2.0 if better == (k < items / 2) else 1.0),
            )
            for k, one in enumerate(listed)
        ]
        store.save_records(f"test_{label}", [(label, Evaluation.of(results))])
    store.close()
    (folder / "result.json").write_text(Result.model_validate(RESULT).model_dump_json())
    return folder


def make_winner_run(folder: Path, base: Path, experts: Sequence[Path], row: Sequence[float] = (0.5, 0.3, 0.2)) -> Path:
    """A run whose winner is the mixture `row` of the experts."""
    open_pool([str(one) for one in experts], base).write(torch.tensor(row), folder / "best")
    settings = {"task": "medical", "base_model": str(base), "experts": [str(one) for one in experts]}
    (folder / "settings.yaml").write_text(yaml.safe_dump({"settings": settings}))
    (folder / "result.json").write_text(Result.model_validate(RESULT).model_dump_json())
    return folder
