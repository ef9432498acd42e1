"""Random search over mixing coefficients: what a search must beat before anybody believes in its steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.swarm.update import Rows

__all__ = ["RandomSearch", "random_mixtures"]

SCALE = (0.5, 2.0)
"""The total of a row is drawn from here: good mixtures were seen to have totals of 1.2 to 1.6."""
BATCH = 20


def random_mixtures(experts: int, rows: int, total: tuple[float, float], rng: np.random.Generator) -> Rows:
    """Rows s w with w ~ Dirichlet(1, ..., 1), every mixture of weights equally likely, and s uniform within `total`.

    Returns:
        [rows, experts], none negative.
    """
    scale = rng.uniform(*total, size=(rows, 1))
    return np.asarray(scale * rng.dirichlet(np.ones(experts), size=rows))


class RandomSearch:
    """Rows s w with w ~ Dirichlet(1, ..., 1), every mixture of weights equally likely, and s ~ U(0.5, 2).

    The published search keeps the sum of a row at 1, so that it cannot make the combined adapter stronger or weaker as
    a whole. A random search that were bound to it too would be a weaker opponent than it need be, so the total is drawn
    as well. Weights are not negative: a random sign for each of ten experts would seldom help. Bergstra and Bengio,
    "Random Search for Hyper-Parameter Optimization", 2012.

    Args:
        experts: Columns of a row.
        seed: Seed of the one generator.
        batch: Rows an `ask`; as they do not depend on each other, only how often the state is saved.
    """

    finished: str | None = None
    """It can always go on."""

    def __init__(self, experts: int, seed: int, batch: int = BATCH) -> None:
        self._experts, self._batch, self._rng = experts, batch, np.random.default_rng(seed)

    def ask(self) -> Rows:
        """The next rows, [batch, experts]."""
        return random_mixtures(self._experts, self._batch, SCALE, self._rng)

    def tell(self, values: Sequence[float | None]) -> None:
        """Learns nothing."""
