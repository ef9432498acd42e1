"""Schema of `sweep.json`: results of all trials, and held-out values of the best trial."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from harness.run_folder.result import Difference, Measured

__all__ = ["Final", "Fold", "Swept", "SweptTrial"]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class SweptTrial(_Closed):
    """One search with hyperparameters of its own."""

    number: int
    """Trial 0 has those of the settings."""
    parameters: dict[str, float]
    """Hyperparameter to its value; all others are the settings' own."""
    value: float
    """Of the best mixture, on the picking fold, which the search itself chose on."""
    evaluations: int
    """Evaluations of the picking fold that the search took, whoever had asked for them first."""
    items: int
    """Answers to single items in them."""
    tokens: int
    """Tokens generated for them."""
    seconds: float
    """What these evaluations took when they were made."""
    coefficients: dict[str, float]
    """Expert to its coefficient in the best mixture; with --granularity, "group: expert"."""
    ended: str
    """Why the search ended."""


class Fold(_Closed):
    """A part of dev."""

    items: int
    clusters: int
    """Independent items: those of one source count once."""


class Final(_Closed):
    """One model on everything."""

    trial: int | None
    """Whose best mixture it is; None for an expert."""
    expert: str | None
    """Which expert it is; None for a mixture."""
    coefficients: dict[str, float]
    """Expert to its coefficient; with --granularity, "group: expert" where it is a mixture of the search."""
    picking: float | None
    """Value on the picking fold, for which it was chosen."""
    confirming: Measured
    """On the dev items that no search and no picking ever saw."""
    shrinkage: float | None
    """Picking minus confirming value. It holds the luck of being picked, and what the items of the two folds differ
    by, which is the same for all models of a sweep but for noise."""
    test: Measured
    """Read once, at the end."""
    records: str
    """File with the per-item test results, relative to the folder of the sweep."""


class Swept(_Closed):
    """Everything that `sweep` found."""

    task: str
    edition: str
    seed: int
    """Of the sampler, and of every search: all of them begin with the same population."""
    engine: str
    model: str
    """Base model, as it was asked for."""
    sampler: Literal["tpe", "random"]
    budget: int
    """Evaluations that a trial may use."""
    lists: dict[str, list[float]]
    """Hyperparameter to the values that were swept."""
    picking: Fold
    """Trials search and are ranked on it."""
    confirming: Fold
    trials: list[SweptTrial]
    picked: Final
    """Best mixture of the best trial; of equal trials the first."""
    defaults: Final
    """Best mixture of trial 0."""
    best_initial: Final
    """The expert with the highest value on the picking fold."""
    difference: dict[Literal["picked_minus_defaults", "picked_minus_best_initial"], Difference]
    """On test, paired."""
    importance: dict[str, float] | None
    """Hyperparameter to its share in what tells the best tenth of the trials from the rest (PED-ANOVA; Watanabe et al.,
    arXiv 2304.10255); they add up to 1."""
    importance_problem: str | None
    """Why it is null."""
    adapter: str
    """Folder of the picked mixture, relative to the folder of the sweep."""
    seconds: float
    """Wall time of the whole sweep, all its parts where it was resumed."""
