"""The small model family that ships with the project: a base model, ten LoRA experts, a judge, and their corpus."""

from pathlib import Path

__all__ = ["BASE", "EXPERTS", "JUDGE", "QWEN2", "WEIGHTS", "expert_folders"]

WEIGHTS = Path(__file__).parent / "weights"
"""Everything that `harness.embedded_training.build` trained."""

BASE = WEIGHTS / "base"
"""Folder of the base model, in the format of `transformers`."""

EXPERTS = WEIGHTS / "experts"
"""Folder of folders: one PEFT LoRA adapter each."""

QWEN2 = WEIGHTS / "qwen2"
"""A second family of another architecture and tokenizer: `base` and `experts`."""

JUDGE = WEIGHTS / "judge"
"""Adapter of the base model that makes it a judge."""


def expert_folders() -> list[Path]:
    """The experts' adapter folders, by name."""
    return sorted(path.parent for path in EXPERTS.glob("*/adapter_config.json"))
