"""The interface of a utility, `f(model) -> number`: inputs, outputs and failures.

A model is a small `Protocol`; this package does not depend on swarms, adapters or engines. Failure is a type, never a
number: an answer that could not be scored is `Unscored(reason)`. It is excluded from the mean and counted, and above a
threshold the evaluation is not comparable.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator
from pydantic_core import to_json

from utilities.registry import Registry

__all__ = [
    "MAX_OPTIONS",
    "MOST_SCORE",
    "Chat",
    "ChoiceLogprobs",
    "Evaluation",
    "Item",
    "ItemResult",
    "Model",
    "Outcome",
    "Reason",
    "Response",
    "Score",
    "Scorer",
    "Split",
    "Unscored",
    "Usage",
    "Utility",
    "scorer_registry",
]

Split = Literal["dev", "test"]
"""dev is for selection, test is evaluated once."""

MAX_OPTIONS = 26
"""Maximum number of options, lettered A to Z in prompts."""

MOST_SCORE = 1e100
"""Maximum absolute score, so that sums, squares and products of scores are finite."""

UNSCORED_LIMIT = 0.10
"""Share of unscored items above which an evaluation is not comparable."""


class Reason(StrEnum):
    """Why an item has no score."""

    TRUNCATED = "truncated"
    REFUSED = "refused"
    MALFORMED = "malformed"
    OUT_OF_RANGE = "out_of_range"
    TRANSPORT = "transport"
    BUDGET = "budget"
    TIME = "time"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, slots=True)
class Score:
    """A finite number; higher is better."""

    value: float
    measures: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Components of the value by name (raw reward, length), for tables and rescoring."""
    notes: str = field(default="", hash=False)
    """JSON text with the explanation of the value: a judge's reply, claims and their evidence."""

    def __post_init__(self) -> None:
        if not abs(self.value) <= MOST_SCORE:
            raise ValueError(f"a score is a number within {MOST_SCORE:g}, not {self.value}; else an item is Unscored")


@dataclass(frozen=True, slots=True)
class Unscored:
    """A missing score: the reason, a message, the number of attempts, and the raw text."""

    reason: Reason
    detail: str = ""
    attempts: int = 1
    raw: str = ""


Outcome = Score | Unscored


class Item(BaseModel):
    """One question of an item set, in the published JSON format. Unknown fields are left alone."""

    model_config = ConfigDict(frozen=True)

    id: Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]
    """Unique within its split. The published files use numbers as well as texts."""
    question: str = Field(min_length=1)
    choices: dict[str, str] | None = None
    """Letter to option, 2 to 26 of them; None for questions that are answered freely.

    Equal options are accepted: a few published items have them (4 of the 1000 test items of MedMCQA).
    """
    answer: str | None = None
    """The letter of the right option, or the right answer itself."""
    domain: str | None = None
    preamble: str | None = None
    """What stands before the question in a prompt that shows an example; the data's own, for all its items."""
    group: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """The value of the data set's own column by which the items are grouped."""
    row: dict[str, str] | None = Field(default=None, exclude_if=lambda value: value is None)
    """The columns of the item's data that its prompt reads as `row.NAME`."""
    source: str | None = None
    """What several items may share (a fact, a passage); standard errors are clustered by it."""

    @property
    def text(self) -> str:
        """Question and columns that its prompt reads, without regard to white space."""
        return " ".join(" ".join([self.question, *(self.row or {}).values()]).split())

    @model_validator(mode="before")
    @classmethod
    def _prompt_is_question(cls, data: Any) -> Any:
        if isinstance(data, dict) and "question" not in data and "prompt" in data:
            return {**data, "question": data["prompt"]}
        return data

    @model_validator(mode="after")
    def _answerable(self) -> Item:
        if not self.question.strip():
            raise ValueError("the question is empty")
        if self.choices is not None:
            if not 2 <= len(self.choices) <= MAX_OPTIONS:
                raise ValueError(f"{len(self.choices)} options; 2 to {MAX_OPTIONS} are accepted")
            if any(not option.strip() for option in self.choices.values()):
                raise ValueError("an option is empty")
            if self.answer not in self.choices:
                raise ValueError(f"the answer {self.answer!r} is none of the options {list(self.choices)}")
        return self


class ChoiceLogprobs(NamedTuple):
    """Log-probabilities of a prompt's options under a model."""

    logprobs: tuple[float, ...]
    """Summed log-probability of the option's tokens, natural logarithm."""
    tokens: tuple[int, ...]
    """Number of tokens of each option."""


@dataclass(frozen=True, slots=True)
class Response:
    """A model's response to one item, with all data for rescoring without the model."""

    text: str
    """The generated answer; for option log-likelihoods the letter of the most likely option."""
    tokens: int = 0
    finish_reason: str = "stop"
    """`stop`; `length` if truncated at the limit; `unanswered` if there is no response to score."""
    choice_logprobs: tuple[float, ...] | None = None
    """Summed log-probability of each option, if options were compared."""
    more: tuple[str, ...] = ()
    """The answers of later rounds, for scorers with several rounds."""


class Chat(str):
    """A prompt that is a conversation, for the model's chat template; the answer is the assistant's next message.

    As a text it is the JSON list of its messages, so it is hashed, stored and sent to another process as one.
    """

    __slots__ = ()

    @classmethod
    def of(cls, messages: Sequence[tuple[str, str]]) -> Chat:
        """The conversation of pairs (role, text); roles are `system`, `user` and `assistant`."""
        return cls(json.dumps([{"role": role, "content": text} for role, text in messages], ensure_ascii=False))

    @property
    def messages(self) -> list[dict[str, str]]:
        """The messages, as chat templates take them."""
        parsed: list[dict[str, str]] = json.loads(self)
        return parsed


@runtime_checkable
class Model(Protocol):
    """A model that answers prompts: a particle of a swarm, a local model, a server.

    A prompt is a text to continue, or a `Chat`, which the model puts into its chat template.
    """

    async def generate(
        self, prompts: Sequence[str], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> list[Response | Unscored]:
        """Greedy continuations, one per prompt, in the order of the prompts."""
        ...

    async def choice_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[ChoiceLogprobs | Unscored]:
        """Log-probabilities of each prompt's options as continuations of it, in the order of the prompts."""
        ...


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The result of one item, sufficient for rescoring without the model."""

    item_id: str
    cluster: str
    """The item's source, or its own id."""
    prompt_hash: str
    response: Response
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Usage:
    """The cost of an evaluation."""

    requests: int = 0
    seconds: float = 0.0
    """Scoring time, without the model."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.requests + other.requests, self.seconds + other.seconds)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome of a utility on a split."""

    value: float | None
    """The value; None if the evaluation is not comparable (reason in `problem`)."""
    se: float | None
    """Standard error of `value` over items, clustered by their sources."""
    n: int
    """Scored items."""
    n_unscored: int
    usage: Usage = Usage()
    problem: str | None = None
    results: tuple[ItemResult, ...] = ()
    parts: Mapping[str, Evaluation] = field(default_factory=dict)
    """The evaluations that were combined into this one, by name; empty for a single item set."""

    @property
    def leaves(self) -> dict[str, Evaluation]:
        """The evaluations of single item sets: `parts`, or this evaluation under the name ''."""
        return dict(self.parts) if self.parts else {"": self}

    def leaf(self, name: str) -> Evaluation:
        """The evaluation of one item set: that part, or this evaluation if it has no such part."""
        return self.parts.get(name, self)

    def to_json(self) -> str:
        """The evaluation as JSON; NaN and infinities are written by name and restored by `from_json`."""
        # Not with the type adapter: within a union such as `Outcome` it writes null for non-finite values.
        return to_json(self, inf_nan_mode="strings").decode()

    @staticmethod
    def from_json(text: str) -> Evaluation:
        """Inverse of `to_json`.

        Raises:
            ValueError: The text is not a stored evaluation.
        """
        return _evaluations().validate_json(text)

    @classmethod
    def of(cls, results: Sequence[ItemResult], usage: Usage = Usage()) -> Evaluation:
        """Mean and clustered standard error of the scored items; not comparable above the unscored limit."""
        from utilities.standard_error import score_se  # lazy import: listing scorers needs no numpy

        scored = [(r.outcome.value, r.cluster) for r in results if isinstance(r.outcome, Score)]
        missing = len(results) - len(scored)
        problem = None
        if not scored:
            problem = "no item could be scored"
        elif missing > UNSCORED_LIMIT * len(results):
            problem = f"{missing} of {len(results)} items are unscored (limit {UNSCORED_LIMIT:.0%})"
        if problem is not None:
            return cls(None, None, len(scored), missing, usage, problem, tuple(results))
        values = [value for value, _ in scored]
        se = score_se(values, [cluster for _, cluster in scored])
        return cls(math.fsum(values) / len(values), se, len(scored), missing, usage, None, tuple(results))


@cache
def _evaluations() -> TypeAdapter[Evaluation]:
    return TypeAdapter(Evaluation)


class Scorer(Protocol):
    """Turns one item set into an evaluation of a model: generate, extract, score.

    A class needs `__call__`, `score` and `check`. The other members are optional: a class that inherits `Scorer` has
    the defaults below, and a user's class from a file gets them when it is loaded.
    """

    accuracy_like: bool = False
    """Whether scores measure correctness, so that the probability of the gold answer is a smooth score."""
    judged: bool = False
    """Whether a judge gives the scores; a search then monitors over-optimisation."""
    objectives: tuple[str, ...] = ()
    """Names of conflicting measures; their Pareto front is reported."""

    async def __call__(self, model: Model, items: Sequence[Item]) -> Evaluation:
        """Evaluates `model` on `items`, in one or several rounds of prompts."""
        ...

    async def score(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Outcome]:
        """Scores stored responses, one per item, without a model."""
        ...

    def check(self, item: Item) -> str | None:
        """The reason why this scorer cannot score `item`; None if it can. Called before any model is loaded."""
        ...

    def smooth_scorer(self) -> Scorer | None:
        """A scorer whose scores vary smoothly with the model and rank experts alike; None if there is none.

        The built-in accuracies have one, see `utilities.objective.smooth_scorer`.
        """
        return None


class Utility(Protocol):
    """The objective of a search: `f(model) -> number` on a split, for example a `Task`."""

    async def __call__(self, model: Model, split: Split) -> Evaluation:
        """Evaluates `model`."""
        ...


scorer_registry: Registry[Callable[..., Scorer]] = Registry(
    "scorer",
    ("utilities.scorers", "utilities.judges", "utilities.rewards"),
    ("scorer_registry.register",),
    group="model_swarms.scorers",
)
"""Constructors of `Scorer`s; a task file names one per item set, with its options."""
