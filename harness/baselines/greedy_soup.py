"""Greedy soup: the mean of those experts that do not harm it on dev."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.swarm.update import Row, Rows

__all__ = ["GreedySoup"]


class GreedySoup:
    """The recipe of Wortsman et al., "Model soups", arXiv 2203.05482, recipe 1; it sees dev.

    All experts are evaluated; in the order of their values each is added to the soup and stays where the value does not
    fall. A search of at most 2 n - 1 evaluations, which chooses its rows as a particle swarm does: by ask and tell. The
    mean is that of rows, so A and B are averaged apart, as in every row of coefficients.

    Args:
        experts: Columns of a row.
    """

    def __init__(self, experts: int) -> None:
        self._experts = experts
        self._left: list[int] | None = None  # experts to try yet, the best first; None while they are not evaluated
        self._soup: list[int] = []
        self._value = -np.inf

    @property
    def finished(self) -> str | None:
        """Whether every expert was tried."""
        return "every expert was tried" if self._left == [] else None

    @property
    def row(self) -> Row:
        """The soup as a row [experts]; nan where no expert has a value."""
        return self._mean(self._soup) if self._soup else np.full(self._experts, np.nan)

    def ask(self) -> Rows:
        """All experts at first, then the soup with the next one in it."""
        if self._left is None:
            return np.eye(self._experts)
        return self._mean([*self._soup, self._left[0]])[None]

    def tell(self, values: Sequence[float | None]) -> None:
        """Keeps the next expert where the value did not fall; experts without a value are not tried."""
        if self._left is None:
            known = [k for k, value in enumerate(values) if value is not None]
            order = sorted(known, key=lambda k: -(values[k] or 0.0))  # stable: of equal ones the first
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
