"""What experts can be composed with other than a swarm: the baselines of `compare`.

Static merges are in `merges.py`, with one small module a method beside it; `adapter.py` is what they work on.
"""

from typing import TYPE_CHECKING

from utilities.lazy import lazy

if TYPE_CHECKING:
    from harness.baselines.merging.registry import Merge
    from harness.experts.adapter import Adapter, read_adapter

_HOME = {
    "Adapter": "harness.experts.adapter",
    "Merge": "harness.baselines.merging.registry",
    "read_adapter": "harness.experts.adapter",
}

__all__ = ["Adapter", "Merge", "read_adapter"]

__getattr__ = lazy(__name__, _HOME)
