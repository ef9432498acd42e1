"""Checks before any weight of the base model is loaded that the engine can run this task on this pool.

The `validate` command runs exactly these checks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import torch

from harness.engines.model_loading import attention, check_foldable
from harness.engines.settings import EngineSettings
from harness.engines.tokenizer import Tokens
from harness.experts.pool import Pool
from utilities.core import UNSCORED_LIMIT, Item, Scorer, Unscored
from utilities.errors import UserError
from utilities.scorers.generation import GenerationScorer
from utilities.scorers.multiple_choice import MultipleChoice
from utilities.tasks import Task

__all__ = ["check_runnable"]


def check_runnable(base: Path, pool: Pool, task: Task, settings: EngineSettings, engine: str = "local") -> list[str]:
    """Checks the base's files, its attention and quantisation, its tokenizer, and every prompt's length.

    Args:
        base: Folder of the base model.
        pool: The experts.
        task: The task, with all its items.
        settings: The engine's settings.
        engine: The engine's registered name.

    Returns:
        Notes on single items that will be unscored.

    Raises:
        UserError: The engine cannot run, or the share of unscorable items in a split exceeds `UNSCORED_LIMIT`.
    """
    model = pool.base
    model.check_files()
    if _is_local(engine, settings):
        check_foldable(model, pool)
        attention(model, settings)
        _check_memory(pool, settings)
    tokens = Tokens(base, settings.max_model_len, trust_remote_code=settings.trust_remote_code)
    rows = model.model.get_input_embeddings().weight.shape[0]
    notes = []
    for name, item_set in task.item_sets.items():
        for split, items in (("dev", item_set.dev), ("test", item_set.test)):
            reasons = _unscorable(tokens, item_set.scorer, items, rows, base)
            if not reasons:
                continue
            message = f"{name}: {len(reasons)} of {len(items)} {split} items cannot be scored: {reasons[0]}"
            if len(reasons) > UNSCORED_LIMIT * len(items):
                raise UserError(
                    f"{message}; accepted are prompts that fit, with max_tokens beside them, and options with tokens"
                )
            notes.append(message)
    return notes


def _is_local(engine: str, settings: EngineSettings) -> bool:
    """Whether particles are folded into weights that transformers loads."""
    if engine != "ray":
        return engine in ("local", "token_mixture")
    return settings.worker_engine == "local" or (settings.worker_engine == "auto" and find_spec("vllm") is None)


def _check_memory(pool: Pool, settings: EngineSettings) -> None:
    """Checks that a base model on the CPU fits into this machine's memory.

    Raises:
        UserError: It does not.
    """
    if settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available()):
        return
    numbers = sum(torch.Size(shape).numel() for name, shape in pool.base.shapes.items() if name not in pool.base.tied)
    needed = numbers * (2 if settings.dtype == "bfloat16" else 4)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        smaller = "" if settings.dtype == "bfloat16" else ", or --dtype bfloat16, which halves it"
        raise UserError(
            f"{pool.base.folder}: the base model's weights need {needed / 1e9:,.0f} GB, this machine has"
            f" {memory / 1e9:,.0f} GB; use a smaller base model{smaller}"
        )


def _unscorable(tokens: Tokens, scorer: Scorer, items: Sequence[Item], rows: int, base: Path) -> list[str]:
    """Reasons of the items that the engine cannot score; custom scorers are not checked."""
    if not items or not isinstance(scorer, MultipleChoice | GenerationScorer):
        return []
    prompts = [scorer.prompt.render(item) for item in items]
    if isinstance(scorer, MultipleChoice):
        questions = tokens.questions(prompts, [scorer.options(item) for item in items])
        ids = [one if isinstance(one, Unscored) else [*one[0], *chain(*one[1])] for one in questions]
    else:
        ids = list(tokens.prompts(prompts, scorer.max_tokens))
    largest = max((token for one in ids if not isinstance(one, Unscored) for token in one), default=0)
    if largest >= rows:
        raise UserError(
            f"{base}: the tokenizer writes token {largest}, the model's embedding has {rows} rows; the tokenizer is"
            " another model's"
        )
    return [f"item {item.id}: {one.detail}" for item, one in zip(items, ids, strict=True) if isinstance(one, Unscored)]
