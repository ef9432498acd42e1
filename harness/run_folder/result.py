"""Schema of `result.json` and of `--json` output."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

__all__ = ["Cost", "Difference", "Judging", "Measured", "Result", "Row", "TimeShare", "Watch", "Winner"]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Measured(_Closed):
    """A value with its standard error and its numbers of items."""

    value: float | None
    se: float | None
    n: int
    unscored: int
    problem: str | None = None
    """Why a value is null."""


class Row(_Closed):
    """One line of the final table."""

    name: str
    kind: Literal["base", "expert", "winner"]
    dev: float | None
    """Value on dev; dev chose the winner, so the winner's is biased upwards."""
    dev_se: float | None
    """Its standard error over items, clustered by source."""
    test: float | None
    """Value on test, read once."""
    test_se: float | None
    n: int
    """Scored test items."""
    unscored: int
    """Test items without a score."""
    problem: str | None = None
    """Why a value is null."""
    report_only: dict[str, Measured] = Field(default={}, validation_alias=AliasChoices("report_only", "beside"))
    """Values of report-only scorers by name, for the base model, the best initial expert and the winner. `beside` is
    the name of version 0.1."""


def _renamed(finalist: object) -> object:
    """Results of version 0.1 say "centre"."""
    return "top-k-mean" if finalist == "centre" else finalist


class Winner(_Closed):
    """The winner of the search."""

    finalist: Annotated[Literal["top-k-mean", "best", "best_initial"], BeforeValidator(_renamed)] = "best"
    """top-k-mean: the mean of the best rows; best: the best row on dev; best_initial: the best initial expert, if the
    others are not better on the items of `--validation-share`."""
    coefficients: dict[str, float]
    """Expert to its coefficient in the winner; with `--include-base` also the base model's. With `--granularity layer`
    or `module`, its mean over the groups of modules."""
    groups: dict[str, dict[str, float]] = {}
    """Group of modules to expert to its coefficient there; empty with `--granularity model`."""
    dev: float | None
    optimism: float | None = None
    """Estimated selection bias of the dev value (cross-fitting over items); None if it cannot be estimated."""
    confirmed: Measured | None = None
    """Its value on the dev items of `--validation-share`, which the search does not use."""
    test: float | None
    test_se: float | None
    adapter: str
    """Folder of the winner, loadable by peft (or by transformers, if the experts are full models)."""
    problem: str | None = None


class Difference(_Closed):
    """A paired difference on test with its 95 % bootstrap interval over clusters of items."""

    value: float | None
    low: float | None
    high: float | None
    problem: str | None = None
    """Why the values are null."""


class TimeShare(_Closed):
    """Shares of the search's wall time; they add up to 1."""

    forward: float
    """Inside the model's forward pass."""
    mixing: float
    """Mixing experts and folding them into the model."""
    scoring: float
    """Turning answers into scores."""
    other: float
    """The optimiser, checkpoints, records, display."""


class Cost(_Closed):
    """Cost of the judges so far, over all parts of a resumed run."""

    requests: int
    cached: int
    """Judgements from the cache, which cost nothing."""
    failed: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    """None if a price is not known."""


class Judging(Cost):
    """The judges and their total cost."""

    judges: list[str]


class Watch(_Closed):
    """The objective and measurements that it does not see, when the global best has changed or the judge was tested."""

    iteration: int
    objective: float | None
    """Of the global best, on the dev items of the search."""
    hold_out: float | None
    """Of the global best, on the items of `--monitor-share`; None if there are none."""
    initial_hold_out: float | None
    """Of the best initial expert, on the same items."""
    text_features: dict[str, float] = Field(validation_alias=AliasChoices("text_features", "companion"))
    """Features of the global best's answers: words, repetition, on_topic, distinct. `companion` is the name of version
    0.1."""
    canaries: dict[str, float]
    """Scores that the judge gave to answers that are bad by construction; empty if it was not tested now."""
    warning: str | None = None


class Noise(_Closed):
    """Change of the winner's dev value if it is evaluated again, in another order and in batches with another row.
    Differences of this size are not significant."""

    value: float | None
    """Absolute difference of the two values; None if one is not comparable."""
    items: int
    """Items that were answered twice."""
    changed: int
    """Items with a different answer the second time."""


class Result(_Closed):
    """The result of a finished run."""

    @model_validator(mode="before")
    @classmethod
    def _without_removed_fields(cls, data: Any) -> Any:
        """Results of version 0.1 have `items_saved`."""
        return {k: v for k, v in data.items() if k != "items_saved"} if isinstance(data, dict) else data

    task: str
    task_given: str | None = None
    """The value of `--task`: a name, or the path of a task file."""
    edition: str
    seed: int
    engine: str
    model: str
    """The value of `--base-model`."""
    iterations: int
    """Completed iterations after the initial one."""
    stopped: str
    """Why the search ended."""
    optimiser: str = "pso"
    objective: Literal["metric", "smooth", "mix"] = "metric"
    """The maximised objective."""
    evaluations: int
    """Particles evaluated on dev, the initial population included; equal rows count once."""
    item_evaluations: int = 0
    """Answers to single dev items in these evaluations."""
    cached_answers: int = 0
    """Answers on dev and test that were read from the cache of earlier runs instead of computed."""
    seconds: float
    """Wall time of the run, over all its parts if it was resumed."""
    time_share: TimeShare
    experts: list[str]
    best_initial: str
    """The expert with the highest value on dev."""
    winner: Winner
    rows: list[Row]
    difference: dict[Literal["winner_minus_best_initial", "winner_minus_base"], Difference]
    noise: Noise | None = None
    """The noise floor of the engine; None for a judged task and in results of early versions."""
    overlap: dict[str, int]
    """Item set to its number of test items that also occur in dev."""
    judging: Judging | None = None
    """The judges; None if nothing is judged."""
    watched: list[Watch] = []
    """Observations of the over-optimisation monitor, for a judged task."""
    run: str
    """The run folder."""
