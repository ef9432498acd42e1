"""The loop: ask, evaluate, tell, checkpoint. It knows no model, no task and no particle-swarm formula."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.swarm.update import Row, Rows

Evaluate = Callable[[Rows], Awaitable[Sequence[float | None]]]
"""Maps rows [rows, experts] to their values, in order; None for a missing value."""


@dataclass(frozen=True)
class Snapshot:
    """The state of a search after an iteration, for displays."""

    iteration: int
    """0 is the evaluation of the initial rows."""
    rows: Rows
    """[rows, experts]: rows of this iteration, including skipped ones."""
    bests: Rows | None = None
    """[rows, experts]: personal bests, if the search has them."""
    step_length: float | None = None
    restarted: NDArray[np.bool_] | None = None
    skipped: NDArray[np.bool_] | None = None


class Optimiser(Protocol):
    """Anything that searches rows of mixing coefficients, such as the particle swarm."""

    @property
    def state(self) -> Any:
        """Everything that must be saved to continue."""
        ...

    @property
    def finished(self) -> str | None:
        """Why the search is over; None if it is not."""
        ...

    @property
    def best(self) -> tuple[Row, float | None]:
        """The best row so far and its value."""
        ...

    @property
    def snapshot(self) -> Snapshot:
        """The state after the last `tell`."""
        ...

    @property
    def asked(self) -> NDArray[np.intp]:
        """Indices of the particles whose rows the last `ask` returned, in order."""
        ...

    def ask(self) -> Rows:
        """Rows to evaluate next, [rows, experts]."""
        ...

    def tell(self, values: Sequence[float | None]) -> None:
        """Takes the values of the rows of the last `ask`."""
        ...


async def search(optimiser: Optimiser, evaluate: Evaluate, after: Callable[[], None]) -> str:
    """Runs `optimiser` to its end.

    Args:
        optimiser: Proposes rows and takes their values.
        evaluate: The utility on a batch of particles.
        after: Called when an iteration is complete; saves the state and informs displays.

    Returns:
        Why it ended.
    """
    while (reason := optimiser.finished) is None:
        optimiser.tell(await evaluate(optimiser.ask()))
        after()
    return reason
