"""The user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """`model-swarms` in $XDG_CACHE_HOME, or in ~/.cache; it may not exist yet."""
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification requires ignoring relative paths.
    return (home if home.is_absolute() else Path.home() / ".cache") / "model-swarms"
