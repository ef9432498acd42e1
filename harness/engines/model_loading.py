"""Loads a base model for folding: plain weights, and the attention that its config requires."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from harness.engines.model_config import config_fields
from harness.engines.settings import EngineSettings
from harness.experts.base_model import BaseModel, why_not_foldable
from harness.experts.lora_pool import LoraPool
from harness.experts.pool import Pool
from utilities.errors import UserError, first_line

__all__ = ["attention", "check_foldable", "load_base"]


UNLIKE_EAGER = re.compile("attn.*cap|attention.*cap|^alibi$")
"""Config fields that SDPA does not compute as eager attention does: it drops soft caps and scales ALiBi otherwise."""


def attention(base: BaseModel, settings: EngineSettings) -> str:
    """The attention implementation: SDPA unless the architecture lacks it or the config needs a feature it lacks.

    Raises:
        UserError: SDPA is requested explicitly and is not possible.
    """
    default = str(base.model.config._attn_implementation or "eager")
    caps = [name for name, value in config_fields(base.config) if UNLIKE_EAGER.search(name) and value]
    if settings.attention == "sdpa" and default != "sdpa":
        name = type(base.model).__name__
        raise UserError(f"--attention sdpa: {name} has no SDPA attention in transformers; eager is accepted")
    if settings.attention == "sdpa" and caps:
        raise UserError(f"--attention sdpa does not compute {caps[0]} of config.json as eager does; eager is accepted")
    if settings.attention != "auto":
        return settings.attention
    return "eager" if caps else default


def check_foldable(base: BaseModel, pool: Pool | None) -> None:
    """Checks that the experts can be folded into the base's weights, from configs and headers alone.

    Raises:
        UserError: They cannot.
    """
    if (method := base.quantisation) is None:
        return
    if method != "bitsandbytes":
        raise UserError(
            f"{base.folder}: the base model is quantised ({method}), and --engine local adds experts to plain weights;"
            " use an unquantised copy of the base model, or --engine vllm"
        )
    if find_spec("bitsandbytes") is None:
        raise UserError(
            f"{base.folder}: the base model is quantised by bitsandbytes, which is not installed; install it (pip"
            " install bitsandbytes), or use an unquantised copy of the base model"
        )
    if pool is not None and not isinstance(pool, LoraPool):
        raise UserError(f"{base.folder}: full models cannot be mixed with a quantised base model")


def load_base(folder: Path, pool: Pool | None, dtype: torch.dtype, settings: EngineSettings) -> tuple[Any, list[str]]:
    """The base model on the CPU with unquantised weights, and notes for the user.

    Raises:
        UserError: It cannot be loaded, its files lack weights, or the experts cannot be folded into it.
    """
    base = pool.base if pool is not None else BaseModel(folder, trust_remote_code=settings.trust_remote_code)
    check_foldable(base, pool)
    base.check_files()
    chosen = attention(base, settings)
    notes = []
    if chosen == "eager" and settings.attention == "auto":
        notes.append(
            f"attention: eager, because SDPA cannot compute what {type(base.model).__name__}'s config asks for"
        )
    disable_progress_bar()  # of loading weights; downloads have their own
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            attn_implementation=chosen,
            trust_remote_code=settings.trust_remote_code,
            output_loading_info=True,
            **({"device_map": "cpu"} if base.quantisation else {}),
        )
        if base.quantisation:
            model = model.dequantize(dtype=dtype)
            notes.append(f"the base model is quantised ({base.quantisation}); its weights are held as {dtype}")
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise UserError(f"{folder}: the base model cannot be loaded: {first_line(error)}") from error
    if missing := sorted(loading["missing_keys"]):
        raise UserError(f"{folder}: the weight files hold no {missing[0]}, which config.json describes")
    if isinstance(pool, LoraPool):
        for path in pool.modules:
            if (reason := why_not_foldable(model.get_submodule(path), path)) is not None:
                raise UserError(f"{folder}: experts cannot be added to the base model's weights: {reason}")
    return model, notes
