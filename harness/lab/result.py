"""Schema of `lab.json`: findings of all checks, a conclusion per design, and comparisons of designs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from harness.run_folder.result import Cost, Measured
from utilities.lab.designs import Designs
from utilities.lab.finding import Conclusion, Finding

__all__ = ["Examined", "Examination", "Found", "Model", "Searched"]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Model(_Closed):
    """One model under one design."""

    name: str
    """An expert, the base model, or a mixture."""
    dev: Measured
    test: Measured | None
    """None where stored answers have no test split."""


class Examined(_Closed):
    """One design."""

    design: str
    """As it was named."""
    utility: str
    """A scorer's name, or FILE.py:NAME."""
    options: list[str]
    findings: list[Finding]
    """One a check, in the order of `utilities.lab.CHECKS`; those that do not apply say why."""
    conclusion: Conclusion
    models: list[Model]
    """The base model and the experts."""
    mixtures: list[Model]
    """Particles between two experts."""


class Found(_Closed):
    """One search with one design as its objective."""

    seed: int
    objective: float | None
    """The design's own value of the winner on dev, which chose it."""
    test: Measured
    """The task's own scorer of the winner, on test."""
    coefficients: dict[str, float]
    evaluations: int
    """Full dev evaluations."""
    seconds: float


class Searched(_Closed):
    """What a design is worth as an objective: searches of the same number of evaluations, judged by the task itself."""

    design: str
    trials: list[Found]
    """One a seed."""
    test: float | None
    """Mean over the seeds; None where a winner has no value."""
    behind: float | None
    """The best design's mean minus this one's, on the same test items; 0 for the best itself."""
    low: float | None
    """Lower end of the 95 % interval of `behind`, over items and seeds."""
    high: float | None


class Examination(_Closed):
    """Everything that `lab` found."""

    task: str
    edition: str
    dev_items: int
    test_items: int
    model: str
    """Base model, as it was asked for."""
    engine: str | None
    """None: answers were stored before."""
    experts: list[str]
    judges: list[str]
    labels: str | None
    """File of the labels."""
    seed: int
    version: str
    """Of this project."""
    made: str
    """Day on which it was finished, as 2026-01-31."""
    designs: list[Examined]
    compared: Designs | None
    """How several designs rank the experts; None for a single one."""
    searched: list[Searched]
    """The best on test first; empty without `--search`."""
    cost: Cost | None
    """Of the judges, all parts of a lab that was continued together; None without judges."""
    seconds: float
    """Wall time, all parts together."""
