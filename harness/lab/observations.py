"""Observations of one design: the inputs of its checks, and reasons for missing ones."""

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
"""Evaluations of the same items by name: an expert, a mixture, a canary or a rung of the ladder."""


@dataclass
class Observations:
    """Observations of one design on one task; empty fields were not measured."""

    design: Design
    task: Task
    """Task whose item sets are scored by the design."""
    dev: dict[str, Evaluation] = field(default_factory=dict)
    """The experts and the base model on dev; the checks use the experts only."""
    test: dict[str, Evaluation] = field(default_factory=dict)
    """The experts and the base model on test."""
    cloud_dev: Answered = field(default_factory=dict)
    """Random mixtures of two experts, on dev."""
    cloud_test: Answered = field(default_factory=dict)
    again: Answered = field(default_factory=dict)
    """The experts on dev again, in another order and in other batches."""
    replicates: tuple[Answered, ...] = ()
    """Repeated scores of the experts' answers on dev."""
    padded: Answered = field(default_factory=dict)
    """The experts' answers on dev, padded with words without content."""
    paraphrased: dict[str, Answered] = field(default_factory=dict)
    """The experts' answers on dev, scored with paraphrased prompts or questions, by name of the paraphrase."""
    canaries: Answered = field(default_factory=dict)
    """Bad answers, by name of the canary."""
    ladder: Answered = field(default_factory=dict)
    """Gold answers and their corruptions, by name of the rung, the best first."""
    labels: Labels | None = None
    labelled: Mapping[Answer, float] = field(default_factory=dict)
    """Scores of the labelled answers."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Item of a labelled answer to the item's source."""
    seconds: float | None = None
    """Wall seconds of one evaluation on dev, including generation."""
    absent: dict[str, str] = field(default_factory=dict)
    """Name of a check that cannot be run, to the reason."""

    @property
    def experts(self) -> Answered:
        """The experts on dev."""
        return {name: one for name, one in self.dev.items() if name != BASE}

    @property
    def compares_options(self) -> bool:
        """Whether options are compared by log-probability, so that a text alone cannot be scored."""
        results = (r for one in self.dev.values() for leaf in one.leaves.values() for r in leaf.results)
        return any(result.response.choice_logprobs is not None for result in results)


def whole_evaluations(records: Mapping[tuple[str, str], Sequence[ItemResult]]) -> dict[str, Evaluation]:
    """Results by name and item set, as one evaluation per name.

    With several item sets the value is None: it is not used, and its standard error would need a bootstrap.
    """
    parts: dict[str, dict[str, Evaluation]] = {}
    for (name, part), results in records.items():
        parts.setdefault(name, {})[part] = Evaluation.of(results)
    evaluations = {}
    for name, of in parts.items():
        n, unscored = sum(one.n for one in of.values()), sum(one.n_unscored for one in of.values())
        evaluations[name] = next(iter(of.values())) if len(of) == 1 else Evaluation(None, None, n, unscored, parts=of)
    return evaluations
