"""Schema of `result.json` and of `--json` output."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

__all__ = ["Cost", "Difference", "Judging", "Measured", "Result", "Row", "TimeShare", "Watch", "Winner"]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Measured(_Closed):
    """What a scorer that decides nothing says of the same test responses."""

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
    beside: dict[str, Measured] = {}
    """What was measured beside the value on test, by name: for the base model, the best initial expert, the winner."""


def _renamed(finalist: object) -> object:
    """Results of version 0.1 say "centre"."""
    return "top-k-mean" if finalist == "centre" else finalist


class Winner(_Closed):
    """What the search came to."""

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
    """By how much choosing on dev makes such a value look too good, by the bootstrap over items; None where that is
    not known."""
    confirmed: Measured | None = None
    """Its value on the dev items of `--validation-share`, which no search has seen."""
    test: float | None
    test_se: float | None
    adapter: str
    """Folder of the winner, loadable by peft (or by transformers, where the experts are full models)."""
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
    """The swarm, checkpoints, records, screen."""


class Cost(_Closed):
    """What judges have cost so far, all parts of a resumed run together; the fields of `utilities`' `Spent`."""

    requests: int
    cached: int
    """Judgements that were known from earlier and cost nothing."""
    failed: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    """None where a price is not known."""


class Judging(Cost):
    """Who judged, and what it cost in all."""

    judges: list[str]


class Watch(_Closed):
    """The objective against what it does not see, whenever the global best changed or the judge was tested."""

    iteration: int
    objective: float | None
    """Of the global best, on the dev items that the search uses."""
    hold_out: float | None
    """Of the global best, on those that it never uses; None where there are none."""
    initial_hold_out: float | None
    """Of the best initial expert, there."""
    companion: dict[str, float]
    """Of the global best's answers: words, repetition, on_topic, distinct."""
    canaries: dict[str, float]
    """What the judge gave to answers that are bad by construction; empty where it was not tested now."""
    warning: str | None = None


class Noise(_Closed):
    """What repeating a measurement changes: the winner asked twice on dev, the second time in another order and
    beside other particles. Differences of this size say nothing."""

    value: float | None
    """How far the two values lie apart; None where one is not comparable."""
    items: int
    """Items that were asked twice."""
    changed: int
    """Items whose answer was another one the second time."""


class Result(_Closed):
    """What a finished run found."""

    @model_validator(mode="before")
    @classmethod
    def _without_removed_fields(cls, data: Any) -> Any:
        """Results of version 0.1 have `items_saved`."""
        return {k: v for k, v in data.items() if k != "items_saved"} if isinstance(data, dict) else data

    task: str
    task_given: str | None = None
    """As it was asked for: a name, or the path of a task file."""
    edition: str
    seed: int
    engine: str
    model: str
    """Base model, as it was asked for."""
    iterations: int
    """Moves of the swarm that were made."""
    stopped: str
    """Why the search ended."""
    optimiser: str = "pso"
    objective: Literal["metric", "smooth", "mix"] = "metric"
    """What it maximised."""
    evaluations: int
    """Particles evaluated on dev, the initial population included; equal rows count once."""
    item_evaluations: int = 0
    """Answers to single dev items that this took."""
    seconds: float
    """Wall time of the whole run, all its parts where it was resumed."""
    time_share: TimeShare
    experts: list[str]
    best_initial: str
    """The expert with the highest value on dev."""
    winner: Winner
    rows: list[Row]
    difference: dict[Literal["winner_minus_best_initial", "winner_minus_base"], Difference]
    noise: Noise | None = None
    """The noise floor of the engine; None where a judge decides, and in results of earlier versions."""
    overlap: dict[str, int]
    """Item set to its number of test items that stand in dev too."""
    judging: Judging | None = None
    """Where judges decided anything."""
    watched: list[Watch] = []
    """Where a judge decides the value."""
    run: str
    """The run folder."""
