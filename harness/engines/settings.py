"""How the base model is held and how prompts are batched."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EngineSettings"]


class EngineSettings(BaseModel):
    """Settings of an engine."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model lives; auto takes a GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the weights; auto is float32 on a CPU and bfloat16 on a GPU."""
    batch_tokens: int | None = Field(None, ge=1)
    """Tokens of one batch, padding included; found by itself when not given, and lowered when memory runs out."""
    trust_remote_code: bool = False
    """Allow the base model's repository to bring its own Python code, which then runs here."""
