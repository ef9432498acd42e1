"""Shares one GPU between the engine and scorers: the engine sleeps while a reward model or judge runs."""

from __future__ import annotations

from functools import partial

from harness.engines.base import Engine
from harness.engines.vllm import VllmEngine
from utilities.errors import UserError
from utilities.scorers.generation import GenerationScorer
from utilities.tasks import Task

__all__ = ["share_gpu"]


def share_gpu(engine: Engine, task: Task) -> None:
    """Makes the scorers of generated answers run while the engine sleeps; it wakes when the last one is done.

    Raises:
        UserError: The engine cannot sleep.
    """
    if not isinstance(engine, VllmEngine):
        raise UserError(f"--share-gpu: the engine {engine.name} does not sleep; only vllm does")
    for item_set in task.item_sets.values():
        scorer = item_set.scorer
        if isinstance(scorer, GenerationScorer):
            scorer.around = partial(engine.asleep, scorer.rest)
