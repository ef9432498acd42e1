"""The loop: ask, evaluate, tell, checkpoint. It knows no model, no task and no particle-swarm formula."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.swarm.update import Row, Rows

Evaluate = Callable[[Rows], Awaitable[Sequence[float | None]]]
"""Rows [asked, experts] to their values, in order; None where a value is missing."""


@dataclass(frozen=True)
class Snapshot:
    """Where a search stands after an iteration, for whoever watches."""

    iteration: int
    """0 is the evaluation of the initial rows."""
    rows: Rows
    """[rows, experts]: what was looked at in this iteration, those that were skipped included."""
    bests: Rows | None = None
    """[rows, experts]: personal bests, in a search that has them."""
    step_length: float | None = None
    restarted: NDArray[np.bool_] | None = None
    skipped: NDArray[np.bool_] | None = None


class Optimiser(Protocol):
    """Anything that searches rows of mixing coefficients: the particle swarm is one of them."""

    @property
    def state(self) -> Any:
        """All that must be saved to continue."""
        ...

    @property
    def finished(self) -> str | None:
        """Why the search is over; None while it goes on."""
        ...

    @property
    def best(self) -> tuple[Row, float | None]:
        """The best row so far and its value."""
        ...

    @property
    def snapshot(self) -> Snapshot:
        """Where it stands after the last `tell`."""
        ...

    @property
    def asked(self) -> NDArray[np.intp]:
        """Numbers of the particles whose rows the last `ask` returned, in their order."""
        ...

    def ask(self) -> Rows:
        """Rows to evaluate now, [asked, experts]."""
        ...

    def tell(self, values: Sequence[float | None]) -> None:
        """The values of the rows of the last `ask`."""
        ...


async def search(optimiser: Optimiser, evaluate: Evaluate, after: Callable[[], None]) -> str:
    """Runs `optimiser` to its end.

    Args:
        optimiser: Where the rows come from and their values go.
        evaluate: The utility on a batch of particles.
        after: Called when an iteration is complete; saves the state and tells whoever watches.

    Returns:
        Why it ended, in words.
    """
    while (reason := optimiser.finished) is None:
        optimiser.tell(await evaluate(optimiser.ask()))
        after()
    return reason
