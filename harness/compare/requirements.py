"""Requirements of the methods of `compare`; each returns the reason why a task does not meet it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.baselines.finetune import why_no_pairs
from harness.baselines.training_texts import Pair
from harness.baselines.vote import TOP_K, why_no_vote
from harness.session.session import Session
from utilities.core import Item
from utilities.scorers.multiple_choice import MultipleChoice

__all__ = [
    "Requirement",
    "TaskInputs",
    "dev_pairs",
    "lora_adapters",
    "merged_data",
    "option_probabilities",
    "token_space",
    "training_texts",
    "two_columns",
    "two_experts",
    "voters",
    "votes",
    "weight_space",
]


FULL_MODELS = "the experts are full models, and adapters are merged here"
TOKENS = "it mixes weights, and --mix tokens mixes token probabilities"


@dataclass(frozen=True)
class TaskInputs:
    """Inputs of a method on one task."""

    session: Session
    training: Mapping[str, Sequence[Pair]] | None
    """Training texts of each expert; None if they are unknown."""
    merged_data: bool = False
    """Whether an adapter trained on all of them exists."""

    @property
    def experts(self) -> int:
        """Number of experts."""
        return len(self.session.pool.names)

    def items(self) -> list[Item]:
        """All items of the task, of both splits."""
        return [item for s in self.session.task.item_sets.values() for item in (*s.dev, *s.test)]


Requirement = Callable[[TaskInputs], str | None]
"""Returns the reason why a task does not meet the requirement; None if it does."""


def lora_adapters(inputs: TaskInputs) -> str | None:
    """The experts are LoRA adapters."""
    kind = inputs.session.pool.kind
    return None if kind == "lora" else TOKENS if kind == "tokens" else FULL_MODELS


def weight_space(inputs: TaskInputs) -> str | None:
    """The experts' weights are mixed, so the sum of coefficients is free."""
    return TOKENS if inputs.session.pool.kind == "tokens" else None


def token_space(inputs: TaskInputs) -> str | None:
    """The experts' token probabilities are mixed."""
    return None if inputs.session.pool.kind == "tokens" else "with --mix weights it is uniform_soup"


def two_experts(inputs: TaskInputs) -> str | None:
    """There are at least two experts."""
    return None if inputs.experts > 1 else "there is one expert only"


def two_columns(inputs: TaskInputs) -> str | None:
    """A search has at least two coefficients."""
    few = len(inputs.session.columns) < 2
    return "there is one expert only; --include-base gives the search a second dimension" if few else None


def voters(inputs: TaskInputs) -> str | None:
    """There are enough experts for a vote."""
    return None if inputs.experts >= TOP_K else f"there are {inputs.experts} experts, and {TOP_K} have to vote"


def votes(inputs: TaskInputs) -> str | None:
    """Answers can be counted."""
    return why_no_vote(inputs.items())


def option_probabilities(inputs: TaskInputs) -> str | None:
    """The scorers compare probabilities of options."""
    for s in inputs.session.task.item_sets.values():
        if not isinstance(s.scorer, MultipleChoice) or not all(item.choices for item in (*s.dev, *s.test)):
            return f"{s.name}: the probabilities of options are mixed, and its answers are generated"
    return None


def training_texts(inputs: TaskInputs) -> str | None:
    """The training texts of the experts are known."""
    return None if inputs.training else "the experts' training texts are unknown; give them with --training-data FOLDER"


def merged_data(inputs: TaskInputs) -> str | None:
    """The training texts are known, or an adapter of all of them exists."""
    return None if inputs.merged_data else training_texts(inputs)


def dev_pairs(inputs: TaskInputs) -> str | None:
    """Dev items give training pairs."""
    sets = inputs.session.task.item_sets.values()
    return next((f"{s.name}: {why}" for s in sets if (why := why_no_pairs(s.scorer, s.dev))), None)
