"""Normalisation of raw reward scores to comparable numbers; each method is a frozen function with its parameters.

Raw scores of two reward models share only their direction. A normalisation is fitted once, on reference scores that no
particle changes, and is constant during a search; the raw score is stored too.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from utilities.errors import UserError
from utilities.registry import Registry

__all__ = ["NoNormalization", "Normalization", "Range", "ZScore", "normalizations"]


class Normalization(Protocol):
    """An increasing function of the raw score, whose parameters are fitted to reference scores."""

    def __call__(self, raw: float) -> float:
        """The normalised score of a finite raw score."""
        ...

    @classmethod
    def fit(cls, raws: Sequence[float]) -> Self:
        """Fits the parameters to the reference scores `raws`.

        Raises:
            UserError: Fewer than two scores, all scores equal, or a score not finite.
        """
        ...


normalizations: Registry[type[Any]] = Registry("normalization")
"""Classes whose instances are `Normalization`s."""


def _checked(raws: Sequence[float]) -> Sequence[float]:
    """Checks reference scores: finite, at least two, not all equal."""
    invalid = next((raw for raw in raws if not math.isfinite(raw)), None)
    if invalid is not None:
        raise UserError(f"a reference score is {invalid}; only finite scores can be a reference")
    if len(raws) < 2:
        raise UserError(f"{len(raws)} reference scores; a normalisation is fitted to at least two")
    if min(raws) == max(raws):
        raise UserError(f"all {len(raws)} reference scores are {raws[0]}; a normalisation needs scores that differ")
    return raws


@normalizations.register("none")
@dataclass(frozen=True, slots=True)
class NoNormalization:
    """The raw score as it is."""

    def __call__(self, raw: float) -> float:
        """`raw` itself."""
        return raw

    @classmethod
    def fit(cls, raws: Sequence[float]) -> Self:
        """Has no parameters; ignores the reference scores."""
        return cls()


@normalizations.register("zscore")
@dataclass(frozen=True, slots=True)
class ZScore:
    """Standard deviations above the mean of a reference set: (raw - mean) / sd.

    Raises:
        UserError: `mean` is not finite, or `sd` not positive and finite.
    """

    mean: float
    sd: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.sd) and self.sd > 0):
            raise UserError(f"zscore with mean {self.mean} and sd {self.sd}: both must be finite, and sd above 0")

    def __call__(self, raw: float) -> float:
        """(raw - mean) / sd."""
        return (raw - self.mean) / self.sd

    @classmethod
    def fit(cls, raws: Sequence[float]) -> Self:
        """Mean and standard deviation of `raws`, with ddof 1."""
        _checked(raws)
        return cls(statistics.fmean(raws), statistics.stdev(raws))


@normalizations.register("range")
@dataclass(frozen=True, slots=True)
class Range:
    """Linear from `low` at 0 to `high` at 1, clipped at both ends: the paper's normalisation (its objective 3).

    Values beyond the ends are equal after clipping: a search cannot rank scores above `high`.

    Raises:
        UserError: An end is not finite, or `low` not below `high`.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise UserError(f"range from {self.low} to {self.high}: both must be finite, and low below high")

    def __call__(self, raw: float) -> float:
        """Position of `raw` between the ends, in [0, 1]."""
        return min(1.0, max(0.0, (raw - self.low) / (self.high - self.low)))

    @classmethod
    def fit(cls, raws: Sequence[float]) -> Self:
        """Minimum and maximum of `raws` as the ends."""
        _checked(raws)
        return cls(min(raws), max(raws))
