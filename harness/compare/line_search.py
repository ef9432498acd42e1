"""Line search of one factor on dev, for methods whose only free number is a scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.session.evaluator import Cost, Evaluator, ModelRow
from utilities.errors import UserError

__all__ = ["SCALES", "TOTALS", "best_of"]

TOTALS = (1.0, 1.25, 1.5, 1.75, 2.0)
"""Sums of the coefficients of the mean of all experts."""
SCALES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
"""Norms of a merged adapter, in norms of one expert."""


async def best_of(evaluator: Evaluator, rows: Sequence[ModelRow]) -> tuple[int, Cost]:
    """The index of the row with the highest objective on dev (of equal ones the first), and the cost of all rows.

    Raises:
        UserError: No row has a value.
    """
    batch = await evaluator.batch(rows)
    values = [-np.inf if one.objective is None else one.objective for one in batch.summaries]
    if not np.isfinite(max(values)):
        raise UserError(f"none of the {len(rows)} scales has a value on dev")
    return int(np.argmax(values)), batch.cost
