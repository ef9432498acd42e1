"""Random search over mixing coefficients: the baseline of every search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.swarm.update import Rows

__all__ = ["RandomSearch", "random_mixtures"]

SCALE = (0.5, 2.0)
"""Range of the sum of a row; good mixtures had sums of 1.2 to 1.6."""
BATCH = 20


def random_mixtures(experts: int, rows: int, total: tuple[float, float], rng: np.random.Generator) -> Rows:
    """Rows s w with w ~ Dirichlet(1, ..., 1), uniform on the simplex, and s uniform within `total`.

    Returns:
        [rows, experts], none negative.
    """
    scale = rng.uniform(*total, size=(rows, 1))
    return np.asarray(scale * rng.dirichlet(np.ones(experts), size=rows))


class RandomSearch:
    """Rows s w with w ~ Dirichlet(1, ..., 1), uniform on the simplex, and s ~ U(0.5, 2).

    The published search keeps the sum of a row at 1, so it cannot make the combined adapter stronger or weaker as a
    whole. With the same restriction random search would be a weaker baseline, so the sum is drawn too. Weights are not
    negative: random signs of ten experts seldom help. Bergstra and Bengio, "Random Search for Hyper-Parameter
    Optimization", 2012.

    Args:
        experts: Columns of a row.
        seed: Seed of the one generator.
        batch: Rows per `ask`; this only decides how often the state is saved.
    """

    finished: str | None = None
    """It never ends by itself."""

    def __init__(self, experts: int, seed: int, batch: int = BATCH) -> None:
        self._experts, self._batch, self._rng = experts, batch, np.random.default_rng(seed)

    def ask(self) -> Rows:
        """The next rows, [batch, experts]."""
        return random_mixtures(self._experts, self._batch, SCALE, self._rng)

    def tell(self, values: Sequence[float | None]) -> None:
        """Does nothing."""
