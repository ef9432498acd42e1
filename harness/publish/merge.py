"""Merges a run's winner into its base model: a plain model folder of transformers, checked against base and adapter."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.engines.model_loading import attention, load_base
from harness.experts.base_model import read_base
from harness.experts.files import resolve
from harness.experts.lora_pool import LoraPool
from harness.experts.pool import open_pool
from harness.publish.card import Winner
from utilities.errors import UserError

__all__ = ["Merged", "merge_run"]

LARGEST = {torch.float32: 1e-5}
"""Accepted mean divergence in nats by dtype."""
LARGEST_HALF = 0.02
"""The same in half precision, where the weights are rounded."""
COPIED = ("json", "model", "txt", "jinja", "py")
"""Endings of tokenizer files and code of a model folder."""


@dataclass(frozen=True)
class Merged:
    """A merged model."""

    folder: Path
    dtype: torch.dtype
    divergence: float
    """Mean KL divergence in nats of next-token distributions of the written files from those of base with adapter."""


def merge_run(run: Path, out: Path, base_model: str | None = None, dtype: str = "auto") -> Merged:
    """Writes the winner of a run merged into its base model, atomically.

    Args:
        run: The run folder.
        out: New folder.
        base_model: Base model in place of the run's, such as an unquantised copy.
        dtype: Name of the dtype of the weights; auto is that of the base model.

    Raises:
        UserError: The winner is a full model, the base is quantised or cannot hold the adapter, the folder exists, or
            the merged model does not compute the same.
    """
    winner = Winner.of_run(run)
    if winner.kind == "model":
        raise UserError(f"{run}: the winner is a full model already, a folder of transformers: {winner.folder}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} already exists; choose another folder")
    settings = winner.settings.engine_settings
    trusted = settings.trust_remote_code
    folder = resolve(base_model or winner.settings.base_spec, code=trusted)
    base = read_base(folder, trust_remote_code=trusted)
    if base.quantisation:
        raise UserError(
            f"{folder}: the base model is quantised ({base.quantisation}), and a merged model needs plain weights; name"
            " an unquantised copy with --base-model, or serve base and adapter with `serve`"
        )
    pool = open_pool([str(winner.folder)], folder, trust_remote_code=trusted)
    assert isinstance(pool, LoraPool)  # noqa: S101 - a full model was refused above
    chosen = _dtype(base.config, dtype)
    model, _ = load_base(folder, pool, chosen, settings)
    model.eval()
    tokens = torch.randint(base.text.vocab_size, (4, 24), generator=torch.Generator().manual_seed(0))
    expected = _log_probabilities(_with_adapter(model, winner.folder), tokens)
    with torch.no_grad():
        _fold(model, pool)
    with _replacing(out) as partial:
        model.save_pretrained(partial)
        del model
        for path in (p for kind in COPIED for p in sorted(folder.glob(f"*.{kind}"))):
            if not (partial / path.name).exists() and not path.name.endswith(".safetensors.index.json"):
                shutil.copy(path, partial / path.name)
        (partial / "README.md").write_text(winner.card("transformers", out.name), encoding="utf-8")
        found = _log_probabilities(_load(partial, chosen, attention(base, settings), trusted), tokens)
        divergence = _divergence(expected, found)
        if not divergence <= LARGEST.get(chosen, LARGEST_HALF):
            raise UserError(
                f"{folder}: the merged model does not compute what base and adapter compute (KL divergence"
                f" {divergence:.3g} nats); nothing was written. Use base and adapter as they are, or --dtype float32"
            )
    return Merged(out, chosen, divergence)


def _dtype(config: Any, name: str) -> torch.dtype:
    stored = getattr(config, "dtype", None) if name == "auto" else name
    if isinstance(stored, torch.dtype):
        return stored
    return getattr(torch, stored) if stored in ("float32", "bfloat16", "float16") else torch.float32


def _with_adapter(model: Any, adapter: Path) -> Any:
    """The model with the adapter beside its weights, as peft loads it; the weights are not changed."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, adapter)


def _log_probabilities(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [sequences, tokens, vocabulary]; an adapter of peft is removed afterwards."""
    with torch.no_grad():
        logits = model(tokens).logits.float()
    if hasattr(model, "peft_config") and hasattr(model, "unload"):
        model.unload()
    return torch.log_softmax(logits, -1)


def _divergence(expected: torch.Tensor, found: torch.Tensor) -> float:
    """Mean Kullback-Leibler divergence of next-token distributions in nats."""
    return max(0.0, float((expected.exp() * (expected - found)).sum(-1).mean()))


def _fold(model: Any, pool: LoraPool) -> None:
    """Adds the adapter to the weights, computed in float32; a weight that is tied to another becomes its own."""
    parameters = [id(weight) for _, weight in model.named_parameters(remove_duplicate=False)]
    halves: dict[str, torch.Tensor] = {}
    for name, tensor in pool.mix(torch.ones(1, 1)):
        path, letter = name.rsplit(".", 1)
        if path not in halves:
            halves[path] = tensor[0]
            continue
        other = halves.pop(path)
        A, B = (tensor[0], other) if letter == "A" else (other, tensor[0])
        module = model.get_submodule(path)
        if path in pool.transposed:
            A, B = B.T, A.T
        if parameters.count(id(module.weight)) > 1:
            module.weight = nn.Parameter(module.weight.clone(), requires_grad=False)
            model.config.get_text_config().tie_word_embeddings = model.config.tie_word_embeddings = False
        module.weight.copy_(torch.addmm(module.weight.float(), B, A, alpha=pool.scaling[path]))


def _load(folder: Path, dtype: torch.dtype, attention: str, trusted: bool) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention, trust_remote_code=trusted
    ).eval()


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes `out` if the block succeeds, and is deleted otherwise."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if out.is_dir():
            out.rmdir()
        partial.replace(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
