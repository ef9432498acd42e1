"""LoRA adapters in PEFT's format: their config, the names of their tensors, rank and scaling of each module."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from peft import LoraConfig

from harness.experts.base_model import BaseModel
from harness.experts.files import CONFIG
from harness.experts.mixing import Expert
from utilities.bounded_input import read_json
from utilities.errors import UserError, first_line

__all__ = ["lora_keys", "module_rank", "module_scaling", "read_lora_config"]

LORA_KEY = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")
KNOWN_KEYS = {field.name for field in fields(LoraConfig)} | {"auto_mapping", "peft_version", "_comment"}
PLAIN_INITIALISATIONS = (True, False, "gaussian", "orthogonal", "eva")
VARIANTS = (
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "layer_replication",
    "target_parameters",
    "monteclora_config",
    "kasa_config",
)


def read_lora_config(expert: Expert) -> LoraConfig:
    """The adapter's config.

    Raises:
        UserError: It is missing or invalid, or describes more than W + s BA.
    """
    path = expert.folder / CONFIG
    if not path.exists():
        raise UserError(f"expert {expert.name!r}: {expert.folder} holds no {CONFIG}; it is no PEFT adapter")
    try:
        data = read_json(path.read_text(encoding="utf-8"))
        if "peft_type" not in data and {"lora_parameters", "fine_tune_type"} & set(data):
            raise UserError(
                f"expert {expert.name!r}: {path} is of an MLX adapter; convert it to PEFT's format (safetensors with"
                " lora_A and lora_B)"
            )
        if data.get("peft_type") != "LORA":
            raise UserError(f"expert {expert.name!r} is a {data.get('peft_type')} adapter; only LORA can be mixed")
        config = LoraConfig.from_pretrained(expert.folder)
        name = config.base_model_name_or_path
        if name is not None and not isinstance(name, str):
            raise TypeError(f"base_model_name_or_path is {name!r}, not a text")
        for pattern in (*dict(config.rank_pattern or {}), *dict(config.alpha_pattern or {})):
            re.compile(pattern)
        numbers = [config.r, *dict(config.rank_pattern or {}).values()]
        numbers += [config.lora_alpha, *dict(config.alpha_pattern or {}).values()]
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise TypeError("ranks and alphas must be finite numbers")
        if not all(number >= 1 for number in numbers[: 1 + len(config.rank_pattern or {})]):
            raise TypeError("ranks must be at least 1")
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError, re.error) as error:
        reason = first_line(error)
        raise UserError(f"expert {expert.name!r}: {path}: not a PEFT adapter config ({reason})") from error
    unknown = sorted(key for key, value in data.items() if value and key not in KNOWN_KEYS)
    if unknown:
        raise UserError(
            f"expert {expert.name!r}: {path}: {unknown[0]} is no setting that the installed peft knows, and it is not"
            " empty: its effect on the adapter is unknown; install a newer peft, or remove the key if it does"
            " nothing"
        )
    features = {
        "DoRA": config.use_dora,
        "fully trained modules (modules_to_save)": bool(config.modules_to_save),
        "trained biases": config.bias != "none" or getattr(config, "lora_bias", False),
        "trained token embeddings": bool(getattr(config, "trainable_token_indices", None)),
        # These start from a modified base (peft modifies it again on loading), or compute something other than BA.
        f"the initialisation {config.init_lora_weights!r}": config.init_lora_weights not in PLAIN_INITIALISATIONS,
        **{f"{name} of peft": bool(getattr(config, name, None)) for name in VARIANTS},
    }
    if unsupported := [what for what, present in features.items() if present]:
        raise UserError(
            f"expert {expert.name!r} uses {unsupported[0]}, which is not a linear mixture of LoRA matrices;"
            " only plain LoRA adapters can be particles"
        )
    return config


def lora_keys(file: Any, expert: Expert, base: BaseModel | None = None) -> dict[str, str]:
    """Maps "path.to.module.A" | "...B" to the key in the file.

    Adapters of embedding-sized layers contain a copy of the base's weight, which is ignored.

    Raises:
        UserError: The file holds no tensors, other tensors, or an A without its B or a B without its A.
    """
    keys: dict[str, str] = {}
    for key in file.keys():  # noqa: SIM118 - not a dict
        name = key.removeprefix("base_model.model.")
        if (match := LORA_KEY.fullmatch(name)) is not None:
            keys[f"{match[1]}.{match[2]}"] = key
        elif ".base_layer." not in name if base is None else not _is_copy(file, key, name, base):
            raise UserError(f"expert {expert.name!r}: tensor {key} is no lora_A or lora_B of a linear module")
    if not keys:
        raise UserError(f"expert {expert.name!r}: its file holds no tensors")
    for name in keys:
        other = name[:-1] + ("B" if name[-1] == "A" else "A")
        if other not in keys:
            raise UserError(f"expert {expert.name!r}: {name[:-2]} has lora_{name[-1]} but no lora_{other[-1]}")
    return keys


def _is_copy(file: Any, key: str, name: str, base: BaseModel) -> bool:
    """Whether a tensor of an adapter equals the base model's, after conversion to its dtype."""
    name = name.replace(".base_layer.", ".")
    if name not in base.shapes or tuple(file.get_slice(key).get_shape()) != tuple(base.shapes[name]):
        return False
    own = base.tensor(name)
    return own is not None and bool(torch.equal(file.get_tensor(key).to(own.dtype), own))


def _looked_up(pattern: Mapping[str, int] | None, module: str, default: int) -> int:
    """A module's entry in a rank or alpha pattern, matched by peft."""
    from peft.utils.other import get_pattern_key

    return (pattern or {}).get(get_pattern_key((pattern or {}).keys(), module), default)


def module_rank(config: LoraConfig, module: str) -> int:
    """Rank of one module."""
    return _looked_up(config.rank_pattern, module, config.r)


def module_scaling(config: LoraConfig, module: str) -> float:
    """s of W + s BA for one module."""
    rank, alpha = module_rank(config, module), _looked_up(config.alpha_pattern, module, config.lora_alpha)
    return float(alpha / (rank**0.5 if config.use_rslora else rank))
