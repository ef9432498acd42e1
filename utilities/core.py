"""The contract of a utility, `f(model) -> number`: what goes in, what comes out, and what failure looks like.

A model is known here only as a small `Protocol`; nothing in this package knows what a swarm, an adapter or an engine
is. Failure is a type, never a number: an answer that could not be scored is `Unscored(reason)`, leaves the mean, is
counted, and past a threshold makes the whole evaluation not comparable.
"""

from __future__ import annotations

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
"""dev chooses, test is read once."""

MAX_OPTIONS = 26
"""Options are lettered A to Z in prompts."""

MOST_SCORE = 1e100
"""Size of a score at most: sums, squares and products of scores stay finite numbers."""

UNSCORED_LIMIT = 0.10
"""Share of unscored items past which an evaluation is not comparable with others."""


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
    """What the value was made of, by name (the raw reward, the length), kept for tables and for scoring anew."""
    notes: str = field(default="", hash=False)
    """JSON text of what led to the value where numbers do not tell it: a judge's words, claims and their evidence."""

    def __post_init__(self) -> None:
        if not abs(self.value) <= MOST_SCORE:
            raise ValueError(f"a score is a number within {MOST_SCORE:g}, not {self.value}; else an item is Unscored")


@dataclass(frozen=True, slots=True)
class Unscored:
    """No number, and why: the reason, what was seen, how often it was tried, and the raw text."""

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
    source: str | None = None
    """What several items may share (a fact, a passage); standard errors are clustered by it."""

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
    """What a model thinks of each option after a prompt."""

    logprobs: tuple[float, ...]
    """Summed log-probability of the option's tokens, natural logarithm."""
    tokens: tuple[int, ...]
    """Number of tokens of each option."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a model answered to one item: all that is needed to score the answer again, without the model."""

    text: str
    """The generated answer; for option log-likelihoods the letter of the most likely option."""
    tokens: int = 0
    finish_reason: str = "stop"
    """`stop`; `length` where the limit cut it; `unanswered` where none came: then there is nothing to score again."""
    choice_logprobs: tuple[float, ...] | None = None
    """Summed log-probability of each option, where options were compared."""
    more: tuple[str, ...] = ()
    """The answers of later rounds, where a scorer asks again."""


@runtime_checkable
class Model(Protocol):
    """Anything that answers: a particle of a swarm, a local model, a server."""

    async def generate(
        self, prompts: Sequence[str], *, max_tokens: int, stop: Sequence[str] = (), chat: bool = False
    ) -> list[Response | Unscored]:
        """Greedy continuations, one a prompt, in the order of the prompts.

        With `chat` every prompt is a user's message, put into the model's own chat template.
        """
        ...

    async def choice_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[ChoiceLogprobs | Unscored]:
        """Log-probabilities of each prompt's options as continuations of it, in the order of the prompts."""
        ...


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What one item yielded: enough to score the response again without the model."""

    item_id: str
    cluster: str
    """The item's source, or its own id."""
    prompt_hash: str
    response: Response
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Usage:
    """What an evaluation cost."""

    requests: int = 0
    seconds: float = 0.0
    """Time spent in scoring itself, without the model."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.requests + other.requests, self.seconds + other.seconds)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome of a utility on a split."""

    value: float | None
    """The number, or None where the evaluation is not comparable (`problem` says why)."""
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
        """The single item sets: `parts`, or this evaluation itself under the name ''."""
        return dict(self.parts) if self.parts else {"": self}

    def leaf(self, name: str) -> Evaluation:
        """The evaluation of one item set: that part, or this evaluation itself where it has no parts."""
        return self.parts.get(name, self)

    def to_json(self) -> str:
        """The whole evaluation as JSON; NaN and infinities are written by name and come back as what they are."""
        # Not by the adapter: within a union (an outcome is one) it writes null for all that is not finite.
        return to_json(self, inf_nan_mode="strings").decode()

    @staticmethod
    def from_json(text: str) -> Evaluation:
        """The evaluation that `to_json` wrote.

        Raises:
            ValueError: Not such a text.
        """
        return _evaluations().validate_json(text)

    @classmethod
    def of(cls, results: Sequence[ItemResult], usage: Usage = Usage()) -> Evaluation:
        """Mean and clustered standard error of the scored items; not comparable past the unscored limit."""
        from utilities.standard_error import clustered_se  # here: naming the scorers needs no numpy

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
        se = clustered_se(values, [cluster for _, cluster in scored])
        return cls(math.fsum(values) / len(values), se, len(scored), missing, usage, None, tuple(results))


@cache
def _evaluations() -> TypeAdapter[Evaluation]:
    return TypeAdapter(Evaluation)


class Scorer(Protocol):
    """Turns one item set into an evaluation of a model: generate, extract, score.

    A class needs `__call__`, `score` and `check`. The other members are optional: a class that inherits `Scorer` has
    the defaults below, and a user's class in a file gets them when it is loaded.
    """

    accuracy_like: bool = False
    """Whether a score says how right an answer is, so that the probability of the gold answer is a smooth score."""
    judged: bool = False
    """Whether a judge decides the scores: a search then monitors over-optimisation."""
    objectives: tuple[str, ...] = ()
    """Names of the measures that pull in different directions; their Pareto front is reported."""

    async def __call__(self, model: Model, items: Sequence[Item]) -> Evaluation:
        """Evaluates `model` on `items`, in as many rounds of questions as it takes."""
        ...

    async def score(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Outcome]:
        """The last step alone: scores stored responses, one an item, without any model."""
        ...

    def check(self, item: Item) -> str | None:
        """Why this scorer cannot score `item`, as a message; None if it can. Called before any model is loaded."""
        ...

    def smooth_scorer(self) -> Scorer | None:
        """A scorer whose scores vary smoothly with the model and rank experts alike; None if there is none.

        The built-in accuracies have one already, see `utilities.objective.smooth_scorer`.
        """
        return None


class Utility(Protocol):
    """What a search optimises: `f(model) -> number` on a split. A `Task` is one."""

    async def __call__(self, model: Model, split: Split) -> Evaluation:
        """Evaluates `model`."""
        ...


scorer_registry: Registry[Callable[..., Scorer]] = Registry(
    "scorer",
    {
        "abstain": "utilities.scorers.abstain",
        "exact_match": "utilities.scorers.exact_match",
        "factuality": "utilities.judges.factuality",
        "gold_logprob": "utilities.scorers.gold_logprob",
        "legacy_letter": "utilities.scorers.legacy",
        "legacy_number": "utilities.scorers.legacy",
        "multiple_choice": "utilities.scorers.multiple_choice",
        "multiple_choice_generated": "utilities.scorers.multiple_choice_generated",
        "numeric": "utilities.scorers.numeric",
        "pairwise": "utilities.judges.pairwise",
        "regex": "utilities.scorers.regex",
        "reward": "utilities.rewards.reward",
        "token_f1": "utilities.scorers.token_f1",
        "topic_interest": "utilities.judges.topic_interest",
        "toxicity": "utilities.scorers.toxicity",
        "yes_no": "utilities.scorers.yes_no",
    },
    group="model_swarms.scorers",
)
"""Makers of `Scorer`s; a task file names one an item set, with the options of its constructor."""
