"""Typed events of a run. Console, log file and trackers are optional subscribers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from harness.run_folder.result import Cost, Watch
from utilities.foreign_text import printable

__all__ = [
    "AnyEvent",
    "Bus",
    "Evaluated",
    "Finished",
    "IterationDone",
    "Judged",
    "Note",
    "Numbers",
    "Started",
    "Testing",
    "Watched",
    "parse_event",
]


class Event(BaseModel):
    """Base of all events; JSON lines of them are the run's log."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null")

    at: float = Field(default_factory=time.time)
    """Seconds since 1970 when it happened."""


class Started(Event):
    """A search begins, or goes on after an interruption."""

    kind: Literal["started"] = "started"
    task: str
    edition: str
    engine: str
    device: str
    experts: list[str]
    particles: int
    labels: list[str] = []
    """What the particles are called; by default experts, anchor and crossovers, as in the published search."""
    iterations: int
    objective: str = "metric"
    dev_items: int
    test_items: int
    anchor: str | None = None
    """Name of the base model where it is an anchor: the particle after the experts."""
    resumed_from: int | None = None
    """The last iteration that was complete, for a resumed run."""

    @model_validator(mode="after")
    def _label(self) -> Started:
        if not self.labels:
            first = [*self.experts, *([self.anchor] if self.anchor else [])]
            crossovers = [f"crossover {k + 1}" for k in range(self.particles - len(first))]
            self.__dict__["labels"] = [*first, *crossovers][: self.particles]
        return self


class Evaluated(Event):
    """One particle of the running iteration has its score."""

    kind: Literal["evaluated"] = "evaluated"
    iteration: int
    particle: int
    value: float | None
    items: int
    """Items that were answered for it; 0 where an equal row was evaluated before, or the answers were in the cache."""


class IterationDone(Event):
    """All particles moved and were scored; the checkpoint is written."""

    kind: Literal["iteration"] = "iteration"
    iteration: int
    step_length: float | None
    """Of the published swarm, of the next move."""
    scores: list[float | None]
    """The metric of every row that was looked at."""
    best: list[float | None]
    """The metric of every particle's personal best; empty in a search without them, as are the next two."""
    restarted: list[bool]
    skipped: list[bool]
    global_best: float | None
    """The metric of the row with the highest objective; it may fall when the objective rises."""
    best_metric: float | None = None
    """The highest metric of any row so far; it never falls."""
    objective: float | None = None
    """The highest objective of any row so far; it never falls."""
    coefficients: dict[str, float]
    """What the global best is made of; where groups of modules have coefficients of their own, their mean."""
    evaluations: int
    """Particles evaluated so far."""


class Testing(Event):
    """One row of the final table is evaluated."""

    kind: Literal["testing"] = "testing"
    name: str
    done: int
    total: int
    answered: int = 0
    """Items that were answered for the rows before it; those read from records or the cache do not count."""


class Judged(Event, Cost):
    """What the judges have cost so far."""

    kind: Literal["judged"] = "judged"


class Watched(Event, Watch):
    """Measurements that the objective does not see: held-out items, text features, canaries."""

    kind: Literal["watched"] = "watched"


class Numbers(Event):
    """Values of one step of a comparison, a sweep or a lab."""

    kind: Literal["numbers"] = "numbers"
    step: int
    """Evaluations of a search, or the number of a method, trial or model."""
    values: dict[str, float | None]
    """By name; missing values are None."""


class Note(Event):
    """Something a person should read."""

    kind: Literal["note"] = "note"
    text: Annotated[str, AfterValidator(printable)]


class Finished(Event):
    """The run is complete and `result.json` is written."""

    kind: Literal["finished"] = "finished"
    reason: str
    seconds: float


AnyEvent = Annotated[
    Started | Evaluated | IterationDone | Testing | Judged | Watched | Numbers | Note | Finished,
    Field(discriminator="kind"),
]
_adapter: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


def parse_event(line: str | bytes) -> AnyEvent:
    """An event from its JSON line."""
    return _adapter.validate_json(line)


class Bus:
    """Passes every event to all subscribers, in the order of subscription."""

    def __init__(self) -> None:
        self._subscribers: list[Callable[[AnyEvent], None]] = []

    def subscribe(self, subscriber: Callable[[AnyEvent], None]) -> None:
        """Adds a callback for all later events."""
        self._subscribers.append(subscriber)

    def __call__(self, event: AnyEvent) -> None:
        """Sends an event."""
        for subscriber in self._subscribers:
            subscriber(event)
