"""The methods that make an adapter before any question is asked: static merges and fine-tuned LoRAs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.baselines.finetune import finetune, pairs_of
from harness.baselines.merging.apply import apply
from harness.baselines.merging.registry import Space, merges
from harness.baselines.training_texts import Pair
from harness.compare.requirements import Case
from harness.embedded import WEIGHTS
from harness.experts.adapter import Adapter, read_adapter
from harness.run_folder.store import Store
from harness.session.settings import EMBEDDED
from utilities.bounded_input import read_json
from utilities.registry import Registry

__all__ = ["Made", "Order", "made_before", "make", "makers", "merged_data_is_there"]

DEV_EPOCHS, DATA_EPOCHS = 20, 3
"""At most so many; few pairs are read often."""
ABOUT = "made.json"
"""What is known of the making of an adapter, in its folder."""


@dataclass(frozen=True)
class Order:
    """What is to be made."""

    case: Case
    adapters: Callable[[], Sequence[Adapter]]
    """Reads the experts."""
    space: Space
    seed: int


@dataclass(frozen=True)
class Made:
    """An adapter that was made."""

    folder: Path
    seconds: float
    note: str | None


Maker = Callable[[Order, Path], str | None]
"""Writes the adapter to a folder; returns what else must be known."""

makers: Registry[Maker] = Registry("method")
"""Name to how an adapter is made."""


def _merge(order: Order, folder: Path, name: str) -> None:
    apply(merges.get(name), order.adapters(), space=order.space, seed=order.seed).write(folder)


for _name in merges:
    makers.register(_name)(partial(_merge, name=_name))


@makers.register("dev_finetune")
def dev_finetune(order: Order, folder: Path) -> str:
    """Trains on dev, a fifth of it held back for stopping early."""
    sets = order.case.prepared.task.item_sets.values()
    pairs = [pair for s in sets for pair in pairs_of(s.scorer, s.dev)]
    return _finetuned(order, folder, pairs, DEV_EPOCHS, held_out=0.2)


@makers.register("data_merge")
def data_merge(order: Order, folder: Path) -> str:
    """Trains on all that the experts were trained on; of the embedded experts, that was done when they were built."""
    if order.case.merged_data:
        read_adapter(WEIGHTS / "data_merge").write(folder)
        return "trained when the embedded experts were, at twice their rank"
    pairs = [pair for own in (order.case.training or {}).values() for pair in own]
    return _finetuned(order, folder, pairs, DATA_EPOCHS, held_out=0.05)


def merged_data_is_there(base_model: str, experts: Sequence[str]) -> bool:
    """Whether these are the embedded experts, of which an adapter of all training texts is committed."""
    return base_model == EMBEDDED and not experts


def _finetuned(order: Order, folder: Path, pairs: Sequence[Pair], epochs: int, held_out: float) -> str:
    prepared = order.case.prepared
    settings = prepared.settings.engine_settings
    found = finetune(
        prepared.base,
        prepared.pool.experts[0].folder,
        pairs,
        folder,
        epochs=epochs,
        held_out=held_out,
        seed=order.seed,
        device=settings.device,
        trust_remote_code=settings.trust_remote_code,
    )
    return f"the best of at most {epochs} epochs and two learning rates: {found.epochs} at {found.rate:g}"


def made_before(folder: Path) -> Made | None:
    """The adapter in a folder that `make` filled; None where there is none."""
    path = folder / ABOUT
    if not path.is_file():
        return None
    return Made(folder, **read_json(path.read_bytes()))


def make(method: str, name: str, order: Order, store: Store) -> Made:
    """Makes an adapter in `<store's folder>/<name>`, whole or not at all.

    Args:
        method: Which way.
        name: Of the folder.
        order: Of what.
        store: Of the adapters' folder.

    Raises:
        UserError: The method refuses these adapters.
    """
    start = time.perf_counter()
    with store.replacing(name) as folder:
        note = makers.get(method)(order, folder)
        seconds = time.perf_counter() - start
        (folder / ABOUT).write_text(json.dumps({"seconds": seconds, "note": note}) + "\n", encoding="utf-8")
    return Made(store.folder / name, seconds, note)
