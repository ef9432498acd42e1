"""What evaluations cost, in items that were asked, and what asking all items would have cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Spending"]


@dataclass
class Spending:
    """Items asked so far."""

    whole: int = 0
    """What the same evaluations would have cost in full."""
    by_particle: Counter[int] = field(default_factory=Counter)

    @property
    def items(self) -> int:
        """Items asked, of all particles together."""
        return self.by_particle.total()

    @property
    def saved(self) -> float:
        """Share of the full cost that was not spent; 0 before anything was evaluated."""
        return 1 - self.items / self.whole if self.whole else 0.0

    def add(self, particle: int, items: int, whole: int) -> None:
        """Counts one evaluation of so many items, that would have been of `whole`."""
        self.by_particle[particle] += items
        self.whole += whole

    def to_dict(self) -> dict[str, Any]:
        """The state as plain JSON values."""
        return {"whole": self.whole, "by_particle": {str(k): n for k, n in sorted(self.by_particle.items())}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Spending:
        """The inverse of `to_dict`."""
        return cls(data["whole"], Counter({int(k): n for k, n in data["by_particle"].items()}))
