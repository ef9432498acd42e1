"""Names of settings that version 0.1 stored, translated to those of this version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from utilities.errors import UserError

__all__ = ["current_names"]

RENAMED = {"elite": "top_k", "confirm": "validation_share", "hold_out": "monitor_share"}
"""Renamed settings of version 0.1."""
REMOVED = ("saving", "best_margin")
"""Removed settings of version 0.1."""


def current_names(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings, flat or in groups, with the names of this version.

    Raises:
        UserError: The run used a removed setting.
    """
    new = {RENAMED.get(k, k): current_names(v) if isinstance(v, Mapping) else v for k, v in stored.items()}
    for name in REMOVED:
        if new.pop(name, None) not in (None, "none", 0.0):
            raise UserError(f"the run was started with --{name.replace('_', '-')}, which this version does not have")
    if "anchor" in new:
        new["include_base"] = new.pop("anchor") == "base"
    if new.get("winner") == "centre":
        new["winner"] = "top-k-mean"
    return new
