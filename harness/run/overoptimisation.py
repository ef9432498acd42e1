"""Detects over-optimisation of a judged objective from hold-out items, text features and canaries.

A search exploits the weaknesses of its objective ("reward hacking"; Gao et al. 2023, "Scaling Laws for Reward Model
Overoptimization"). Three independent signals on the global best detect this:

- hold-out items, which the objective never uses, detect overfitting to the dev items;
- text features, which do not depend on a judge, detect answers optimised for the judge;
- canaries, answers that are known to be bad, detect a judge that rates bad answers high.

The monitor only warns and never stops a search, because a change such as longer answers may be intended.
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
from utilities.judges.text_features import TextFeatures
from utilities.statistics import Difference, paired_difference

__all__ = ["Gain", "Look", "Observation", "ObservationLog"]

Combine = Callable[..., Any]
"""A task's combination of its parts (`Task.combine`)."""

FEW = 10
"""With fewer hold-out items, 95 % intervals are over 20 % wider than with many, and a caution is reported."""
LONGER = 2.0
"""Growth factor of the mean length that triggers a warning: judges prefer longer answers (a prompt for verbosity raised
a win rate from 50 to 64 %; Dubois et al. 2024), and twice the length is a visible change."""
LONGER_BY = 10
"""Minimum growth in words for that warning: growth from three to seven words is not suspicious."""
REPEATED = 0.2
"""Growth of the share of repeated trigrams that triggers a warning: fluent text repeats a few percent, degenerate text
(Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration") more than half."""
DISTINCT = 0.5
"""Fraction of the initial share of distinct answers below which a warning is triggered: a constant reply can get higher
ratings than honest answers (Zheng et al. 2024)."""

OFF_TOPIC = 0.02
"""Share of topic words in the answers up to which a warning is triggered: honest answers share words with the other
instructions and with the evidence, answers about something else and invented words do not."""


@dataclass(frozen=True)
class Observation:
    """Evaluations and text features of one model."""

    objective: Evaluation
    """Evaluation on the dev items that the objective uses."""
    hold_out: Evaluation | None = None
    """Evaluation on the hold-out items; None if there are none."""
    text_features: TextFeatures | None = None

    def bare(self) -> Observation:
        """The observation without answer texts: enough for differences, and small enough for a checkpoint."""
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
    """Paired differences between the best model and another model, on the objective's items and on the hold-out items.

    The intervals are those of the paired bootstrap, widened for few items (`_interval`). A difference is None without
    hold-out items or with too few items that both models were scored on.
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
        # Hold-out items have the same distribution as the objective's items, so their interval is made at least as wide
        # as the objective's, scaled by sample size. Otherwise a few equal differences, which are likely with scores of
        # 0 or 1, would give an interval of width zero.
        fewer = _clusters(other.objective, best.objective) / _clusters(other.hold_out, best.hold_out)
        half = (objective.high - objective.low) / 2 * math.sqrt(fewer)
        value, low, high = hold_out
        return cls(objective, Difference(value, min(low, value - half), max(high, value + half)))

    @property
    def noise(self) -> float | None:
        """Chance difference between the gains on the two sets of items (95 %, independent samples of items)."""
        if self.objective is None or self.hold_out is None:
            return None
        return math.hypot(self.objective.value - self.objective.low, self.hold_out.high - self.hold_out.value)

    @property
    def unshared(self) -> bool:
        """Whether the objective rose significantly and the hold-out value did not.

        Both conditions are required: the hold-out gain does not differ significantly from zero, and it differs
        significantly from the objective's gain. The first alone would flag small hold-outs, the second alone the usual
        selection bias.
        """
        if self.objective is None or self.hold_out is None or self.noise is None:
            return False
        differ = self.objective.value - self.hold_out.value > self.noise
        return self.objective.low > 0 >= self.hold_out.low and differ

    @property
    def opposed(self) -> bool:
        """Whether the objective rose and the hold-out value fell, both significantly."""
        return bool(self.objective and self.hold_out and self.objective.low > 0 > self.hold_out.high)


def _interval(a: Evaluation, b: Evaluation, combine: Combine) -> Difference | None:
    """`a - b` with its interval; None if the difference is not defined."""
    return None if a.problem or b.problem else paired_difference(a, b, combine)


def _clusters(*evaluations: Evaluation) -> int:
    """Number of independent items that all evaluations scored, in the smallest part, so noise is not underestimated."""
    return min(
        len(set.intersection(*(_scored_clusters(evaluation.leaves[part]) for evaluation in evaluations)))
        for part in evaluations[0].leaves
    )


def _scored_clusters(leaf: Evaluation) -> set[str]:
    return {result.cluster for result in leaf.results if isinstance(result.outcome, Score)}


@dataclass(frozen=True)
class Look:
    """Observations of a new global best."""

    iteration: int
    objective: float | None
    hold_out: float | None
    """Value of the best on the hold-out items."""
    gain: Gain
    """Gain over the best initial expert."""
    since_peak: Gain
    """Gain over the model with the highest hold-out value so far, which may be the best initial expert."""
    text_features: TextFeatures | None


@dataclass
class ObservationLog:
    """Observations of the global best during a search, and the warnings derived from them."""

    initial: Observation
    """The best initial expert."""
    honest: float | None
    """Median score of the initial experts' answers."""
    peak: Observation
    """The observation with the highest hold-out value so far."""
    looks: list[Look] = field(default_factory=list)
    canaries: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """Iteration, and rating of each canary by name."""

    @classmethod
    def begin(cls, initial: Observation, experts: Sequence[Evaluation]) -> ObservationLog:
        """A log for a new search.

        Args:
            initial: The best initial expert.
            experts: The initial experts' evaluations on the objective.
        """
        scores = [score for expert in experts for score in _scores(expert)]
        bare = initial.bare()
        return cls(bare, median(scores) if scores else None, bare)

    def note(self, iteration: int, best: Observation, combine: Combine) -> Look:
        """Records a new global best; `combine` is the task's combination."""
        best = best.bare()
        hold_out = best.hold_out.value if best.hold_out else None
        gain = Gain.of(best, self.initial, combine)
        look = Look(
            iteration,
            best.objective.value,
            hold_out,
            gain,
            gain if self.peak == self.initial else Gain.of(best, self.peak, combine),
            best.text_features,
        )
        self.looks.append(look)
        highest = self.peak.hold_out.value if self.peak.hold_out else None
        if hold_out is not None and (highest is None or hold_out > highest):
            self.peak = best
        return look

    def note_canaries(self, iteration: int, ratings: Mapping[str, float]) -> None:
        """Records the judge's rating of each canary (mean over items), on the objective's scale."""
        self.canaries.append((iteration, dict(ratings)))

    def diverged(self) -> str | None:
        """A warning if the current best shows signs of over-optimisation; None if it does not.

        It concerns the current best only, so the next best may clear it. In simulated honest searches with five to 22
        hold-out items, 1 to 3 in 100 had a false warning at any best, and fewer than 1 in 100 at the last.
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
                f"the objective rose by {_gain_text(look.gain.objective)} over the best initial expert, and the"
                f" hold-out {fell} with it: {_gain_text(look.gain.hold_out)}{few}"
            )
        elif look.since_peak.opposed:
            yield (
                f"the objective rose by {_gain_text(look.since_peak.objective)} since the hold-out was at its highest,"
                f" and the hold-out fell: {_gain_text(look.since_peak.hold_out)}{few}"
            )

    def _moved(self, look: Look) -> Iterator[str]:
        before, now = self.initial.text_features, look.text_features
        if before is None or now is None:
            return
        if now.on_topic <= OFF_TOPIC:
            yield (
                f"{now.on_topic:.0%} of the answers' words belong to the topic (at the best initial expert"
                f" {before.on_topic:.0%}): the judge may rate nonsense, or answers about something else"
            )
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
        """A caution if the hold-out set is missing or small; None if it has enough items."""
        if self.initial.hold_out is None:
            return (
                "there are no hold-out items, so it cannot be seen whether only the rated answers improve; give more"
                " dev instructions, or a higher --monitor-share"
            )
        n = _clusters(self.initial.hold_out)
        if n >= FEW:
            return None
        noise = self.looks[-1].gain.noise if self.looks else None
        unseen = "" if noise is None else f": gains that part by less than {noise:.3g} are taken for chance"
        return f"only {n} independent hold-out items{unseen}"

    def fooled(self) -> list[str]:
        """Names of the canaries rated above the median honest answer, the highest first.

        Ratings are averaged over all checks: the judge does not change during a search, so checks differ only by chance
        or by the items answered. Ties do not count: if all honest answers have the lowest rating, an empty answer may
        have it too.
        """
        ratings: dict[str, list[float]] = {}
        for _, rated in self.canaries:
            for name, rating in rated.items():
                ratings.setdefault(name, []).append(rating)
        means = {name: fmean(values) for name, values in ratings.items()}
        beaten = [name for name, value in means.items() if self.honest is not None and value > self.honest]
        return sorted(beaten, key=lambda name: (-means[name], name))

    def to_dict(self) -> dict[str, Any]:
        """The log as JSON types, for a checkpoint."""
        saved: dict[str, Any] = _type_adapter().dump_python(self, mode="json")
        return saved

    @staticmethod
    def from_dict(saved: Mapping[str, Any]) -> ObservationLog:
        """The log that `to_dict` wrote.

        Raises:
            ValueError: The dictionary has another structure.
        """
        return _type_adapter().validate_python(saved)


@cache
def _type_adapter() -> TypeAdapter[ObservationLog]:
    return TypeAdapter(ObservationLog)


def _scores(evaluation: Evaluation) -> list[float]:
    outcomes = [result.outcome for leaf in evaluation.leaves.values() for result in leaf.results]
    return [outcome.value for outcome in outcomes if isinstance(outcome, Score)]


def _gain_text(gain: Difference | None) -> str:
    return "?" if gain is None else f"{gain.value:+.3g} [{gain.low:+.3g}, {gain.high:+.3g}]"
