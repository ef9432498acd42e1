"""Whether adapters were trained on the base model they are used with, by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from peft import LoraConfig

from harness.experts.base_model import BaseModel
from harness.experts.files import folder_name
from harness.experts.mixing import Expert
from utilities.bounded_input import read_json
from utilities.errors import UserError

__all__ = ["base_name_warning"]

QUANTISED_TWIN = re.compile(r"([-_](unsloth|bnb|4bit|8bit|int4|int8|nf4|fp8|awq|gptq))+$")
"""Suffixes of the names of quantised copies, in lower case."""


def base_name_warning(experts: Sequence[Expert], configs: Sequence[LoraConfig], base: BaseModel) -> str | None:
    """Warning that the adapters were trained on a base model of another name; shapes are checked elsewhere.

    A different name is only a warning: folders can be renamed, and a quantised copy is the same model. Different
    hub ids are different models.

    Raises:
        UserError: Two adapters name different models on the hub.
    """
    pairs = zip(experts, configs, strict=True)
    named = ((expert, config.base_model_name_or_path or "") for expert, config in pairs)
    claims = [(expert, claim) for expert, claim in named if _model_name(claim)]
    if not claims:
        return None
    first, claim = claims[0]
    for expert, other in claims[1:]:
        if _model_name(other) == _model_name(claim):
            continue
        if _is_hub_id(other) and _is_hub_id(claim):
            raise UserError(
                f"expert {expert.name!r} was trained on the base model {other!r}, expert {first.name!r} on"
                f" {claim!r}; all experts must share one base model"
            )
        return (
            f"base-model names differ: {first.name!r} was trained on {claim!r}, {expert.name!r} on {other!r}"
            " (shapes match). Check that they are the same model"
        )
    names = [folder_name(base.folder), str(getattr(base.config, "_name_or_path", None) or "")]
    if _model_name(claim) in {_model_name(name) for name in [*names, _stored_name(base.folder)]}:
        return None
    return (
        f"base-model name mismatch: the adapters were trained on {claim!r}, the base model is {names[0]!r} (shapes"
        " match). Check that they are the same model"
    )


def _model_name(claim: str) -> str:
    """Normalised name of a base model: without folder, revision, case and quantisation suffix."""
    parts = [part for part in re.split(r"[/\\\\]", claim.strip()) if part]
    name = parts[-1].split("@")[0] if parts else ""
    if len(parts) > 2 and parts[-2] == "snapshots":
        name = parts[-3].rsplit("--", 1)[-1]
    return QUANTISED_TWIN.sub("", name.casefold())


def _is_hub_id(claim: str) -> bool:
    """Whether a claim is a hub id (owner/name or a name) rather than a path."""
    return re.fullmatch(r"([\w.-]+/)?[\w.-]+(@.+)?", claim) is not None and not claim.startswith(".")


def _stored_name(base: Path) -> str:
    """The `_name_or_path` in the base model's config; empty if there is none."""
    try:
        return str(read_json((base / "config.json").read_text(encoding="utf-8")).get("_name_or_path") or "")
    except (OSError, ValueError, AttributeError):
        return ""
