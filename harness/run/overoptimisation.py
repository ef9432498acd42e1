"""Is the search still after what its objective means? Hold-out items, companions and canaries of the global best.

A search finds the weak places of its objective ("reward hacking"; Gao et al. 2023, "Scaling Laws for Reward Model
Overoptimization"). Three looks at the global best tell, each of them blind to what the others see:

- hold-out items, which the objective never uses: has the search learnt its items by heart?
- companions, which no judge decides: has it learnt to please the judge, on any item?
- canaries, answers that are known to be bad: can this judge be pleased by nothing at all?

All of it warns and stops nothing: a warning is for a person, who may know that answers had to become longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from statistics import fmean, median
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from utilities.core import Evaluation, ItemResult, Response, Score, Unscored
from utilities.judges.text_features import Companion
from utilities.statistics import Difference, paired_difference

__all__ = ["Gain", "Look", "Observation", "ObservationLog"]

Combine = Callable[..., Any]
"""A task's combination of its parts (`Task.combine`)."""

FEW = 10
"""Hold-out items below which the 95 % intervals are over a fifth wider than those of many; then it is said so."""
LONGER = 2.0
"""Growth of the mean length that is suspicious: length alone pays with a judge (to ask for verbosity moved a win rate
from 50 to 64 %; Dubois et al. 2024), and twice the length is a change that every reader would see."""
LONGER_BY = 10
"""... and by at least so many words: from three words to seven is an answer that became a sentence."""
REPEATED = 0.2
"""Growth of the share of repeated trigrams that is suspicious: an answer of fluent text repeats a few in a hundred, one
that goes in circles (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration") more than every second."""
DISTINCT = 0.5
"""Part of the initial share of different answers below which the best is suspected of one reply to everything: a
constant reply can please a judge more than honest ones (Zheng et al. 2024)."""


@dataclass(frozen=True)
class Observation:
    """What was seen of one expert."""

    objective: Evaluation
    """On the dev items that the objective keeps."""
    hold_out: Evaluation | None = None
    """On the hold-out items, where there are any."""
    companion: Companion | None = None

    def bare(self) -> Observation:
        """The same without what was said: enough for differences, and small enough for a checkpoint."""
        return replace(self, objective=_bare(self.objective), hold_out=self.hold_out and _bare(self.hold_out))


def _bare(evaluation: Evaluation) -> Evaluation:
    results = (
        ItemResult(
            r.item_id, r.cluster, "", Response(""), Score(o.value) if isinstance(o, Score) else Unscored(o.reason)
        )
        for r in evaluation.results
        for o in [r.outcome]
    )
    return replace(evaluation, results=tuple(results), parts={k: _bare(part) for k, part in evaluation.parts.items()})


class Gain(NamedTuple):
    """How far the best is above another expert, on the objective's items and on the hold-out's.

    The intervals are those of the paired bootstrap, made wider for few items (`_interval`). None is where nobody can
    tell: no hold-out, or too few items that both experts were scored on.
    """

    objective: Difference | None
    hold_out: Difference | None

    @classmethod
    def of(cls, best: Observation, other: Observation, combine: Combine) -> Gain:
        """The gain of `best` over `other`."""
        objective = _interval(best.objective, other.objective, combine)
        if best.hold_out is None or other.hold_out is None:
            return cls(objective, None)
        hold_out = _interval(best.hold_out, other.hold_out, combine)
        if objective is None or hold_out is None:
            return cls(objective, hold_out)
        # The hold-out's items are of the objective's kind, so their differences spread as those do. Five of them that
        # happen to be equal would else seem to be known exactly: likely where scores are 0 or 1.
        fewer = _clusters(other.objective, best.objective) / _clusters(other.hold_out, best.hold_out)
        half = (objective.high - objective.low) / 2 * math.sqrt(fewer)
        value, low, high = hold_out
        return cls(objective, Difference(value, min(low, value - half), max(high, value + half)))

    @property
    def noise(self) -> float | None:
        """How far the gains on the two kinds of items may part by chance (95 %, independent samples of items)."""
        if self.objective is None or self.hold_out is None:
            return None
        return math.hypot(self.objective.value - self.objective.low, self.hold_out.high - self.hold_out.value)

    @property
    def unshared(self) -> bool:
        """Whether the objective rose beyond its noise, and the hold-out items did not rise with it.

        That asks for both: the hold-out's gain cannot be told from none, and it can be told from the objective's. The
        first alone would be a warning about too few items, the second alone about the optimism of every best-of-many.
        """
        if self.objective is None or self.hold_out is None or self.noise is None:
            return False
        parted = self.objective.value - self.hold_out.value > self.noise
        return self.objective.low > 0 >= self.hold_out.low and parted

    @property
    def opposed(self) -> bool:
        """Whether the objective rose and the hold-out fell, each beyond its noise."""
        return bool(self.objective and self.hold_out and self.objective.low > 0 > self.hold_out.high)


def _interval(a: Evaluation, b: Evaluation, combine: Combine) -> Difference | None:
    """`a - b` with an interval that is honest for few items, too.

    The percentile bootstrap is too narrow for small samples: by sqrt((n-1)/n), and by the normal in the place of
    Student's t. Both are given back (Hesterberg 2015, "What Teachers Should Know About the Bootstrap"):
    for two items it becomes nine times as wide, for five 1.6 times, for forty 1.05 times.
    """
    from scipy.stats import t  # here: it takes longer to load than the rest of this file

    found = None if a.problem or b.problem else paired_difference(a, b, combine)
    if found is None:
        return None
    n = _clusters(a, b)
    wider = math.sqrt(n / (n - 1)) * float(t.ppf(0.975, n - 1)) / 1.96
    value, low, high = found
    return Difference(value, value - wider * (value - low), value + wider * (high - value))


def _clusters(*evaluations: Evaluation) -> int:
    """Independent items that all evaluations scored, in the smallest part: with it, the noise is never too low."""
    return min(
        len(set.intersection(*(_scored_clusters(evaluation.leaves[part]) for evaluation in evaluations)))
        for part in evaluations[0].leaves
    )


def _scored_clusters(leaf: Evaluation) -> set[str]:
    return {result.cluster for result in leaf.results if isinstance(result.outcome, Score)}


@dataclass(frozen=True)
class Look:
    """What the watch saw when the global best had changed."""

    iteration: int
    objective: float | None
    hold_out: float | None
    """The best's value on the hold-out items."""
    gain: Gain
    """Over the best initial expert."""
    since_peak: Gain
    """Over the best that was highest on the hold-out items so far, which may be the best initial expert."""
    companion: Companion | None


@dataclass
class ObservationLog:
    """What was seen of the global best during a search, and whether it gives cause for a warning."""

    initial: Observation
    """The best initial expert."""
    honest: float | None
    """Median score of the initial experts' answers."""
    peak: Observation
    """Of all that was noted and the initial one, the highest on the hold-out items."""
    looks: list[Look] = field(default_factory=list)
    canaries: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """Iteration, and the rating of each canary by its name."""

    @classmethod
    def begin(cls, initial: Observation, experts: Sequence[Evaluation]) -> ObservationLog:
        """A watch over a search that begins.

        Args:
            initial: The best initial expert.
            experts: The initial experts' evaluations on the objective.
        """
        scores = [score for expert in experts for score in _scores(expert)]
        bare = initial.bare()
        return cls(bare, median(scores) if scores else None, bare)

    def note(self, iteration: int, best: Observation, combine: Combine) -> Look:
        """Notes a global best that is new; `combine` is the task's."""
        best = best.bare()
        hold_out = best.hold_out.value if best.hold_out else None
        gain = Gain.of(best, self.initial, combine)
        look = Look(
            iteration,
            best.objective.value,
            hold_out,
            gain,
            gain if self.peak == self.initial else Gain.of(best, self.peak, combine),
            best.companion,
        )
        self.looks.append(look)
        highest = self.peak.hold_out.value if self.peak.hold_out else None
        if hold_out is not None and (highest is None or hold_out > highest):
            self.peak = best
        return look

    def note_canaries(self, iteration: int, ratings: Mapping[str, float]) -> None:
        """Notes how the judge rated each canary (its mean over items), on the objective's scale."""
        self.canaries.append((iteration, dict(ratings)))

    def diverged(self) -> str | None:
        """A warning where the present best is not what its objective says; None where nothing speaks for that.

        It is about the present best alone, so it may pass with the next one. Of simulated honest searches with five to
        22 hold-out items, 1 to 3 in 100 were warned of at one of their bests, and fewer than 1 in 100 at the last.
        """
        if not self.looks:
            return None
        look = self.looks[-1]
        reasons = [*self._unshared(look), *self._moved(look)]
        return f"iteration {look.iteration}: {'; '.join(reasons)}" if reasons else None

    def _unshared(self, look: Look) -> Iterator[str]:
        few = f" ({caution})" if (caution := self.caution()) else ""
        if look.gain.unshared:
            fell = "fell" if look.gain.opposed else "did not rise"
            yield (
                f"the objective rose by {_told_gain(look.gain.objective)} over the best initial expert, and the"
                f" hold-out {fell} with it: {_told_gain(look.gain.hold_out)}{few}"
            )
        elif look.since_peak.opposed:
            yield (
                f"the objective rose by {_told_gain(look.since_peak.objective)} since the hold-out was at its highest,"
                f" and the hold-out fell: {_told_gain(look.since_peak.hold_out)}{few}"
            )

    def _moved(self, look: Look) -> Iterator[str]:
        before, now = self.initial.companion, look.companion
        if before is None or now is None:
            return
        if now.words > max(LONGER * before.words, before.words + LONGER_BY):
            yield f"answers grew from {before.words:.0f} to {now.words:.0f} words: the objective may pay for length"
        if now.repetition > before.repetition + REPEATED:
            yield (
                f"answers repeat themselves: {now.repetition:.0%} of their word trigrams stood there before, at the"
                f" best initial expert {before.repetition:.0%}"
            )
        if now.distinct < DISTINCT * before.distinct:
            yield (
                f"only {now.distinct:.0%} of the answers differ from each other, at the best initial expert"
                f" {before.distinct:.0%}: the objective may pay for one reply to everything"
            )

    def caution(self) -> str | None:
        """What the hold-out is too small to see; None where it has enough items."""
        if self.initial.hold_out is None:
            return "there are no hold-out items"
        n = _clusters(self.initial.hold_out)
        if n >= FEW:
            return None
        noise = self.looks[-1].gain.noise if self.looks else None
        unseen = "" if noise is None else f": gains that part by less than {noise:.3g} are taken for chance"
        return f"only {n} independent hold-out items{unseen}"

    def fooled(self) -> list[str]:
        """The canaries that beat the median honest answer, the highest first.

        Each has its mean over all checks: the judge does not change during a search, so what differs between checks is
        chance, or the items they were answers to. A tie beats nothing: where all honest answers have the lowest rating,
        an empty one has it by right.
        """
        ratings: dict[str, list[float]] = {}
        for _, rated in self.canaries:
            for name, rating in rated.items():
                ratings.setdefault(name, []).append(rating)
        means = {name: fmean(given) for name, given in ratings.items()}
        beaten = [name for name, value in means.items() if self.honest is not None and value > self.honest]
        return sorted(beaten, key=lambda name: (-means[name], name))

    def to_dict(self) -> dict[str, Any]:
        """The watch as JSON types, for a checkpoint."""
        saved: dict[str, Any] = _watches().dump_python(self, mode="json")
        return saved

    @staticmethod
    def from_dict(saved: Mapping[str, Any]) -> ObservationLog:
        """The watch that `to_dict` wrote.

        Raises:
            ValueError: Not such a dictionary.
        """
        return _watches().validate_python(saved)


@cache
def _watches() -> TypeAdapter[ObservationLog]:
    return TypeAdapter(ObservationLog)


def _scores(evaluation: Evaluation) -> list[float]:
    outcomes = [result.outcome for leaf in evaluation.leaves.values() for result in leaf.results]
    return [outcome.value for outcome in outcomes if isinstance(outcome, Score)]


def _told_gain(gain: Difference | None) -> str:
    return "?" if gain is None else f"{gain.value:+.3g} [{gain.low:+.3g}, {gain.high:+.3g}]"
