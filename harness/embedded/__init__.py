"""The small model family that ships with the project: a base model, ten LoRA experts, the scripts that built them."""

from pathlib import Path

__all__ = ["BASE", "EXPERTS", "expert_folders"]

_WEIGHTS = Path(__file__).parent / "weights"

BASE = _WEIGHTS / "base"
"""Folder of the base model, in the format of `transformers`."""

EXPERTS = _WEIGHTS / "experts"
"""Folder of folders: one PEFT LoRA adapter each."""


def expert_folders() -> list[Path]:
    """The experts' adapter folders, by name."""
    return sorted(path.parent for path in EXPERTS.glob("*/adapter_config.json"))
