"""Raw reward scores to comparable numbers: named choices, each a frozen function with its parameters.

Raw scores of two reward models have nothing in common but their direction. A normalisation is fitted once, on reference
scores that no particle changes, and stays what it is for a whole search; whoever normalises keeps the raw score too.
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
    """A rising function of the raw score, and the way to find its parameters from reference scores."""

    def __call__(self, raw: float) -> float:
        """The normalised score of a finite raw score."""
        ...

    @classmethod
    def fit(cls, raws: Sequence[float]) -> Self:
        """The normalisation whose parameters are those of the reference scores `raws`.

        Raises:
            UserError: The reference scores say nothing: fewer than two, all equal, or not finite.
        """
        ...


normalizations: Registry[type[Any]] = Registry("normalization")
"""Classes whose instances are `Normalization`s."""


def _checked(raws: Sequence[float]) -> Sequence[float]:
    """Reference scores that a scale can be read from."""
    strange = next((raw for raw in raws if not math.isfinite(raw)), None)
    if strange is not None:
        raise UserError(f"a reference score is {strange}; only finite scores can be a reference")
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
        """Nothing to find: any reference will do, also none."""
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
        """How far `raw` is above the reference mean, in reference standard deviations."""
        return (raw - self.mean) / self.sd

    @classmethod
    def fit(cls, raws: Sequence[float]) -> Self:
        """Mean and standard deviation of `raws`, with ddof 1: a reference set is a sample of what could be answered."""
        _checked(raws)
        return cls(statistics.fmean(raws), statistics.stdev(raws))


@normalizations.register("range")
@dataclass(frozen=True, slots=True)
class Range:
    """Linear from `low` at 0 to `high` at 1, clipped at both ends: the paper's normalisation (its objective 3).

    Clipped means that answers beyond the ends are equal: a search cannot see that one better than `high` is better.

    Raises:
        UserError: An end is not finite, or `low` not below `high`.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise UserError(f"range from {self.low} to {self.high}: both must be finite, and low below high")

    def __call__(self, raw: float) -> float:
        """Where `raw` lies between the ends, in [0, 1]."""
        return min(1.0, max(0.0, (raw - self.low) / (self.high - self.low)))

    @classmethod
    def fit(cls, raws: Sequence[float]) -> Self:
        """The lowest and the highest of `raws` as the ends."""
        _checked(raws)
        return cls(min(raws), max(raws))
