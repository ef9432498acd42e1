"""Greedy soup: the mean of the experts that do not lower its value on dev."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.swarm.update import Row, Rows

__all__ = ["GreedySoup"]


class GreedySoup:
    """The recipe of Wortsman et al., "Model soups", arXiv 2203.05482, recipe 1. Data used: dev.

    All experts are evaluated; in the order of their values each is added to the soup and stays if the value does not
    fall. At most 2 n - 1 evaluations, by ask and tell. The mean is one of rows, so A and B are averaged separately.

    Args:
        experts: Columns of a row.
    """

    def __init__(self, experts: int) -> None:
        self._experts = experts
        self._left: list[int] | None = None  # experts to try, the best first; None before the first `tell`
        self._soup: list[int] = []
        self._value = -np.inf

    @property
    def finished(self) -> str | None:
        """Why the search is over; None if it is not."""
        return "every expert was tried" if self._left == [] else None

    @property
    def row(self) -> Row:
        """The soup as a row [experts]; nan if no expert has a value."""
        return self._mean(self._soup) if self._soup else np.full(self._experts, np.nan)

    def ask(self) -> Rows:
        """All experts first, then the soup with the next expert."""
        if self._left is None:
            return np.eye(self._experts)
        return self._mean([*self._soup, self._left[0]])[None]

    def tell(self, values: Sequence[float | None]) -> None:
        """Keeps the next expert if the value did not fall; experts without a value are not tried."""
        if self._left is None:
            valued = [k for k, value in enumerate(values) if value is not None]
            order = sorted(valued, key=lambda k: -(values[k] or 0.0))  # stable: the first of equal ones
            self._soup, self._left = order[:1], order[1:]
            self._value = max((value for value in values if value is not None), default=-np.inf)
            return
        tried, value = self._left[0], values[0]
        self._left = self._left[1:]
        if value is not None and value >= self._value:
            self._soup, self._value = [*self._soup, tried], value

    def _mean(self, chosen: Sequence[int]) -> Row:
        row = np.zeros(self._experts)
        row[list(chosen)] = 1.0 / len(chosen)
        return row
