"""The paper's reward objectives and similar ones: weighted sums of the named part values of an answer.

Parts are measured values of an answer: `reward` (normalised), `length`, a second reward model. A mix is a function of
them; higher is better. A mix hides the trade-off between its parts; `pareto_front` shows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from utilities.errors import UserError
from utilities.registry import Registry

__all__ = ["WORD_LIMIT", "Mix", "conflict", "length_score", "mixes", "pareto_front"]

WORD_LIMIT = 150
"""Words of an answer whose length score is 1: about 200 tokens of English, the paper's maximum."""


@dataclass(frozen=True)
class Mix:
    """A weighted sum of parts and a constant.

    Weights are meaningful only if the parts have comparable scales: a length score is in [0, 1], so the paper combines
    it with rewards in [0, 1] (normalisation `range`).

    Raises:
        UserError: There are no weights, or one is not finite.
    """

    weights: Mapping[str, float]
    """Weight by the part's name; negative to minimise the part."""
    constant: float = 0.0

    def __post_init__(self) -> None:
        if not self.weights or not all(math.isfinite(w) for w in (*self.weights.values(), self.constant)):
            raise UserError(f"a mix of {dict(self.weights)}: it needs at least one part, and weights that are finite")

    def __call__(self, parts: Mapping[str, float]) -> float:
        """The mixed value of one answer.

        Raises:
            UserError: A part of the mix is missing in `parts`.
        """
        missing = [name for name in self.weights if name not in parts]
        if missing:
            raise UserError(f"the mix needs the part {missing[0]!r}; measured are: {', '.join(parts) or 'none'}")
        return self.constant + math.fsum(weight * parts[name] for name, weight in self.weights.items())


mixes: Registry[Mix] = Registry("mix")
"""The paper's objectives by name; they use the parts `reward` and `length`."""

mixes.register("general")(Mix({"reward": 1.0}))
mixes.register("verbose")(Mix({"reward": 0.5, "length": 0.5}))
mixes.register("concise")(Mix({"reward": 0.5, "length": -0.5}, constant=0.5))  # the mean of reward and 1 - length
# -reward instead of 1 - reward: the same ranking of experts, and valid for rewards on any scale. The reference code
# also averages in the number of tokens.
mixes.register("reverse")(Mix({"reward": -1.0}))


def conflict(first: str, second: str, weight: float = 0.5) -> Mix:
    """A mix of two conflicting parts, such as two rewards: weight * first + (1 - weight) * second.

    Raises:
        UserError: `weight` is not in [0, 1], or both parts are the same.
    """
    if first == second:
        raise UserError(f"a conflict of {first!r} with itself: it needs two different parts")
    if not 0 <= weight <= 1:
        raise UserError(f"the weight of {first!r} is {weight}; a conflict shares 1 between two parts, 0 to 1 for each")
    return Mix({first: weight, second: 1 - weight})


def length_score(text: str, limit: int = WORD_LIMIT) -> float:
    """Length of an answer in [0, 1]: min(1, words / `limit`); words are separated by white space.

    Words instead of the paper's tokens (10 to 201 of the reward model's tokenizer), so that the score does not depend
    on the reward model. Not suitable for languages written without spaces.

    Raises:
        UserError: `limit` is not positive.
    """
    if limit < 1:
        raise UserError(f"a length limit of {limit} words: it must be at least 1")
    return min(1.0, len(text.split()) / limit)


def pareto_front(points: Sequence[Mapping[str, float]]) -> list[int]:
    """Indices of the Pareto-optimal points, which no other point dominates. Higher is better.

    Args:
        points: The part values of each expert, all with the same names.

    Returns:
        Indices of the non-dominated points, in order; equal points are all included or all excluded.

    Raises:
        ValueError: Points have different parts, or a value is NaN.
    """
    names = list(points[0]) if points else []
    if any(point.keys() != points[0].keys() for point in points):
        raise ValueError("points with different parts cannot be compared")
    rows = [tuple(point[name] for name in names) for point in points]
    if any(math.isnan(value) for row in rows for value in row):
        raise ValueError("a point with a value that is not a number cannot be compared")

    def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        return a != b and all(x >= y for x, y in zip(a, b, strict=True))

    return [k for k, row in enumerate(rows) if not any(beats(other, row) for other in rows)]
