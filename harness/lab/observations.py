"""What was observed of one design: everything that its checks read, and why a part of it is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.lab.design import Design
from harness.session.session import BASE
from utilities.core import Evaluation, ItemResult
from utilities.lab.labels import Labels
from utilities.lab.scores import Answer
from utilities.tasks import Task

__all__ = ["Answered", "Observations", "whole_evaluations"]

Answered = Mapping[str, Evaluation]
"""Evaluations of the same items by the name of what answered: an expert, a mixture, a canary, a rung of the ladder."""


@dataclass
class Observations:
    """One design on one task; what is empty was not measured."""

    design: Design
    task: Task
    """Its item sets are scored by the design."""
    dev: dict[str, Evaluation] = field(default_factory=dict)
    """The experts, and the base model, on dev; the checks are over the experts alone."""
    test: dict[str, Evaluation] = field(default_factory=dict)
    """The same on test."""
    cloud_dev: Answered = field(default_factory=dict)
    """Particles between two experts, on dev."""
    cloud_test: Answered = field(default_factory=dict)
    again: Answered = field(default_factory=dict)
    """Experts that were measured on dev a second time, in another order and beside others."""
    replicates: tuple[Answered, ...] = ()
    """Answers of the experts on dev, judged anew."""
    padded: Answered = field(default_factory=dict)
    """Answers of the experts on dev, made longer by words that say nothing."""
    paraphrased: dict[str, Answered] = field(default_factory=dict)
    """Answers of the experts on dev, judged with other words of the same meaning, by the name of these words."""
    canaries: Answered = field(default_factory=dict)
    """Answers that nobody should want, by the canary's name."""
    ladder: Answered = field(default_factory=dict)
    """Gold answers and what damage makes of them, by the name of the rung, the best first."""
    labels: Labels | None = None
    labelled: Mapping[Answer, float] = field(default_factory=dict)
    """Scores of the labelled answers."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Item of a labelled answer to its source."""
    seconds: float | None = None
    """Wall seconds of one evaluation on dev, answering included."""
    absent: dict[str, str] = field(default_factory=dict)
    """Name of a check that cannot be made, to why not."""

    @property
    def experts(self) -> Answered:
        """The experts on dev."""
        return {name: one for name, one in self.dev.items() if name != BASE}

    @property
    def compares_options(self) -> bool:
        """Whether answers are options that were compared by log-probability, so that a text alone is no answer."""
        results = (r for one in self.dev.values() for leaf in one.leaves.values() for r in leaf.results)
        return any(result.response.choice_logprobs is not None for result in results)


def whole_evaluations(records: Mapping[tuple[str, str], Sequence[ItemResult]]) -> dict[str, Evaluation]:
    """Results by name and item set, as one evaluation a name.

    Of several item sets there is no value: nobody asks for it, and its standard error would take a bootstrap.
    """
    parts: dict[str, dict[str, Evaluation]] = {}
    for (name, part), results in records.items():
        parts.setdefault(name, {})[part] = Evaluation.of(results)
    found = {}
    for name, of in parts.items():
        n, unscored = sum(one.n for one in of.values()), sum(one.n_unscored for one in of.values())
        found[name] = next(iter(of.values())) if len(of) == 1 else Evaluation(None, None, n, unscored, parts=of)
    return found
