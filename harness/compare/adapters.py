"""Methods that create an adapter before any item is answered: merges and fine-tuned LoRAs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from harness.baselines.finetune import finetune, pairs_of
from harness.baselines.merging.apply import apply, exact_rank
from harness.baselines.merging.registry import merges
from harness.baselines.training_texts import Pair
from harness.compare.method import Make, MergeRequest, adapter_method
from harness.compare.requirements import dev_pairs, lora_adapters, merged_data, two_experts
from harness.embedded import WEIGHTS, smollm2
from harness.experts.adapter import Adapter, read_adapter
from harness.run_folder.store import Store
from harness.session.settings import EMBEDDED
from utilities.bounded_input import read_json
from utilities.scorers.base import PromptedScorer

__all__ = ["MergedAdapter", "made_before", "make", "merged_data_adapter"]

DEV_EPOCHS, DATA_EPOCHS = 20, 3
"""Maximum number of epochs; small sets of pairs need more."""
ABOUT = "made.json"
"""File in an adapter's folder with the time and the note of its creation."""


@dataclass(frozen=True)
class MergedAdapter:
    """A created adapter."""

    folder: Path
    seconds: float
    note: str | None
    unit: float = 1.0
    """Factor of BA that gives it the norm of one expert (root mean square over the experts)."""


def _merge(request: MergeRequest, folder: Path, name: str) -> str | None:
    """In "factors" the scaled sum would be `scaled_soup`, so task arithmetic is on the products, as published."""
    adapters = request.adapters()
    space = "delta" if name == "task_arithmetic" else request.space
    rank = exact_rank(adapters) if space == "delta" else None
    merged = apply(merges.get(name), adapters, space=space, rank=rank, seed=request.seed)
    merged.write(folder)
    return None if rank is None else f"merged as products BA, at rank {merged.rank}"


for _name in merges:
    _scaled = "weights" in merges.get(_name).options
    adapter_method(
        _name,
        "dynamic" if _scaled else "static",
        seeded=merges.get(_name).random,
        needs=(lora_adapters, two_experts),
        scaled=_scaled,
    )(partial(_merge, name=_name))


@adapter_method("dev_finetune", "dynamic", seeded=True, needs=(lora_adapters, dev_pairs))
def dev_finetune(request: MergeRequest, folder: Path) -> str:
    """Trains on dev, a fifth of it held back for stopping early."""
    sets = request.inputs.session.task.item_sets.values()
    # dev_pairs has checked the scorers
    pairs = [pair for s in sets for pair in pairs_of(cast("PromptedScorer", s.scorer), s.dev)]
    return _finetuned(request, folder, pairs, DEV_EPOCHS, held_out=0.2)


@adapter_method("data_merge", needs=(lora_adapters, merged_data))
def data_merge(request: MergeRequest, folder: Path) -> str:
    """Trains on all that the experts were trained on; of the bundled experts, that was done when they were built."""
    shipped = merged_data_adapter(request.inputs.session.settings.base_model)
    if request.inputs.merged_data and shipped is not None:
        read_adapter(shipped).write(folder)
        return "trained when the bundled experts were"
    pairs = [pair for own in (request.inputs.training or {}).values() for pair in own]
    return _finetuned(request, folder, pairs, DATA_EPOCHS, held_out=0.05)


def merged_data_adapter(base_model: str) -> Path | None:
    """The bundled adapter that was trained on the texts of all experts of a family; None if there is none."""
    folder = {EMBEDDED: WEIGHTS / "data_merge", smollm2.NAME: smollm2.DATA_MERGE}.get(base_model)
    return folder if folder is not None and folder.is_dir() else None


def _finetuned(request: MergeRequest, folder: Path, pairs: Sequence[Pair], epochs: int, held_out: float) -> str:
    session = request.inputs.session
    settings = session.settings.engine_settings
    best = finetune(
        session.base,
        session.pool.experts[0].folder,
        pairs,
        folder,
        epochs=epochs,
        held_out=held_out,
        seed=request.seed,
        device=settings.device,
        trust_remote_code=settings.trust_remote_code,
    )
    return f"the best of at most {epochs} epochs and two learning rates: {best.epochs} at {best.rate:g}"


def made_before(folder: Path) -> MergedAdapter | None:
    """The adapter that `make` wrote to a folder; None if there is none."""
    path = folder / ABOUT
    if not path.is_file():
        return None
    return MergedAdapter(folder, **read_json(path.read_bytes()))


def make(build: Make, name: str, request: MergeRequest, store: Store, scaled: bool = False) -> MergedAdapter:
    """Creates an adapter in `<store's folder>/<name>` atomically.

    Args:
        build: `Method.make` of the method.
        name: Name of the folder.
        request: Inputs of the adapter.
        store: Store of the adapters' folder.
        scaled: Whether its norm is compared with that of the experts.

    Raises:
        UserError: The method does not support these adapters.
    """
    start = time.perf_counter()
    with store.replacing(name) as folder:
        note = build(request, folder)
        unit = _unit(read_adapter(folder), request.adapters()) if scaled else 1.0
        about: dict[str, Any] = {"seconds": time.perf_counter() - start, "note": note, "unit": unit}
        (folder / ABOUT).write_text(json.dumps(about) + "\n", encoding="utf-8")
    return MergedAdapter(store.folder / name, **about)


def _unit(made: Adapter, experts: Sequence[Adapter]) -> float:
    norm = math.sqrt(sum(expert.norm**2 for expert in experts) / len(experts))
    return norm / made.norm if made.norm > 0 else 1.0
