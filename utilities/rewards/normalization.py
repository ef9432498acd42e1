"""Normalisation of raw reward scores to comparable numbers, fitted to reference scores.

Raw scores of two reward models share only their direction. A normalisation is fitted once, on reference scores that no
particle changes, and is constant during a search; the raw score is stored too.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from utilities.errors import UserError
from utilities.registry import Registry

__all__ = ["Normalization", "normalizations"]

Normalization = Callable[[float], float]
"""An increasing function of a finite raw score."""

normalizations: Registry[Callable[[Sequence[float]], Normalization]] = Registry("normalization")
"""Functions from reference scores to the fitted normalisation.

Raises:
    UserError: Fewer than two reference scores, all of them equal, or one that is not finite.
"""


@normalizations.register("none")
def none(raws: Sequence[float]) -> Normalization:
    """The raw score as it is; the reference scores are ignored."""
    return lambda raw: raw


@normalizations.register("zscore")
def zscore(raws: Sequence[float]) -> Normalization:
    """Standard deviations (ddof 1) above the mean of the reference scores."""
    _check(raws)
    mean, sd = statistics.fmean(raws), statistics.stdev(raws)
    return lambda raw: (raw - mean) / sd


@normalizations.register("range")
def unit_range(raws: Sequence[float]) -> Normalization:
    """Linear from the lowest reference score at 0 to the highest at 1, clipped: the paper's (its objective 3).

    Values beyond the ends are equal after clipping: a search cannot rank scores above the highest reference score.
    """
    _check(raws)
    low, high = min(raws), max(raws)
    return lambda raw: min(1.0, max(0.0, (raw - low) / (high - low)))


def _check(raws: Sequence[float]) -> None:
    invalid = next((raw for raw in raws if not math.isfinite(raw)), None)
    if invalid is not None:
        raise UserError(f"a reference score is {invalid}; only finite scores can be a reference")
    if len(raws) < 2:
        raise UserError(f"{len(raws)} reference scores; a normalisation is fitted to at least two")
    if min(raws) == max(raws):
        raise UserError(f"all {len(raws)} reference scores are {raws[0]}; a normalisation needs scores that differ")
