"""LoRA adapters and pools of them: opened, checked, grouped, read and written."""

from typing import TYPE_CHECKING

from utilities.lazy import lazy

if TYPE_CHECKING:
    from harness.experts.pool import open_pool

__all__ = ["open_pool"]

__getattr__ = lazy(__name__, {"open_pool": "harness.experts.pool"})
