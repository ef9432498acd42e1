"""Which methods are compared, what each needs, and why it does not apply where that is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.baselines.finetune import why_no_pairs
from harness.baselines.training_texts import Pair
from harness.baselines.vote import TOP_K, why_no_vote
from harness.session.session import Prepared
from utilities.core import Item
from utilities.errors import UserError
from utilities.registry import unknown_name
from utilities.scorers.multiple_choice import MultipleChoice

__all__ = ["METHODS", "Case", "Method", "chosen_methods", "why_not"]

Group = Literal["always", "static", "dynamic"]


@dataclass(frozen=True)
class Case:
    """What a method finds on one task."""

    prepared: Prepared
    training: Mapping[str, Sequence[Pair]] | None
    """Training texts of each expert, where they are known."""
    merged_data: bool = False
    """Whether the adapter that was trained on all of them is there already."""

    @property
    def experts(self) -> int:
        """How many experts there are."""
        return len(self.prepared.pool.names)

    def items(self) -> list[Item]:
        """All items of the task, of both splits."""
        return [item for s in self.prepared.task.item_sets.values() for item in (*s.dev, *s.test)]


Need = Callable[[Case], str | None]
"""Why a case lacks what a method needs, in words; None where it has it."""


def _adapters(case: Case) -> str | None:
    return None if case.prepared.pool.kind == "lora" else "the experts are full models, and adapters are merged here"


def _two_experts(case: Case) -> str | None:
    return None if case.experts > 1 else "there is one expert only, and nothing to combine it with"


def _two_columns(case: Case) -> str | None:
    few = len(case.prepared.columns) < 2
    return "there is one expert only; --include-base gives the search a second dimension" if few else None


def _top_k(case: Case) -> str | None:
    return None if case.experts >= TOP_K else f"there are {case.experts} experts, and {TOP_K} have to vote"


def _votes(case: Case) -> str | None:
    return why_no_vote(case.items())


def _option_probabilities(case: Case) -> str | None:
    for s in case.prepared.task.item_sets.values():
        if not isinstance(s.scorer, MultipleChoice) or not all(item.choices for item in (*s.dev, *s.test)):
            return f"{s.name}: the probabilities of options are mixed, and its answers are generated"
    return None


def _training_texts(case: Case) -> str | None:
    return None if case.training else "what the experts were trained on is not known; --training-data FOLDER tells it"


def _merged_data(case: Case) -> str | None:
    return None if case.merged_data else _training_texts(case)


def _dev_pairs(case: Case) -> str | None:
    sets = case.prepared.task.item_sets.values()
    return next((f"{s.name}: {why}" for s in sets if (why := why_no_pairs(s.scorer, s.dev))), None)


@dataclass(frozen=True)
class Method:
    """One method: when it is compared, whether it draws random numbers, what it needs."""

    group: Group
    """`static`: the combination is fixed before a question is asked, and nothing is chosen on dev; `dynamic`: something
    is; `always`: what the others are held against."""
    seeded: bool = False
    """Whether its result depends on the seed; else it is measured once."""
    needs: tuple[Need, ...] = ()


_MERGE: tuple[Need, ...] = (_adapters, _two_experts)

METHODS: dict[str, Method] = {
    "base": Method("always"),
    "best_single": Method("always"),
    "uniform_soup": Method("static", needs=_MERGE),
    "slerp": Method("static", needs=_MERGE),
    "task_arithmetic": Method("static", needs=_MERGE),
    "ties": Method("static", needs=_MERGE),
    "dare_linear": Method("static", seeded=True, needs=_MERGE),
    "dare_ties": Method("static", seeded=True, needs=_MERGE),
    "breadcrumbs": Method("static", needs=_MERGE),
    "model_stock": Method("static", needs=_MERGE),
    "data_merge": Method("static", needs=(_adapters, _merged_data)),
    "prediction_merge": Method("static", needs=(_two_experts, _votes)),
    "top_k_vote": Method("dynamic", needs=(_top_k, _votes)),
    "greedy_soup": Method("dynamic", needs=(_two_experts,)),
    "pack_of_llms": Method("dynamic", needs=(_two_experts, _option_probabilities)),
    "cbtm": Method("dynamic", needs=(_two_experts, _training_texts)),
    "evol_merge": Method("dynamic", seeded=True, needs=(_two_experts,)),
    "lorahub": Method("dynamic", seeded=True, needs=(_two_experts,)),
    "random": Method("dynamic", seeded=True, needs=(_two_experts,)),
    "cma": Method("dynamic", seeded=True, needs=(_two_experts,)),
    "dev_finetune": Method("dynamic", seeded=True, needs=(_adapters, _dev_pairs)),
    "paper": Method("dynamic", seeded=True, needs=(_two_columns,)),
    "swarm_third": Method("dynamic", seeded=True, needs=(_two_columns,)),
    "swarm": Method("always", seeded=True, needs=(_two_columns,)),
}
"""Every method by name, in the order of tables."""


def chosen_methods(told: str) -> list[str]:
    """The methods of `--methods`: all, static, dynamic, or names parted by commas, in the order of `METHODS`.

    With a group come base, best_single and swarm, which the others are held against.

    Raises:
        UserError: A name that is none of them.
    """
    names = [name.strip() for name in told.split(",") if name.strip()]
    if not names:
        raise UserError("--methods names no method; all, static, dynamic, or names parted by commas are accepted")
    groups = {"all": ("always", "static", "dynamic"), "static": ("always", "static"), "dynamic": ("always", "dynamic")}
    wanted: set[str] = set()
    for name in names:
        if name not in METHODS and name not in groups:
            raise unknown_name("method", name, [*groups, *METHODS])
        wanted |= {k for k, method in METHODS.items() if method.group in groups.get(name, ()) or k == name}
    return [name for name in METHODS if name in wanted]


def why_not(method: str, case: Case) -> str | None:
    """Why a method does not apply to a case, in words; None where it does."""
    return next((reason for need in METHODS[method].needs if (reason := need(case)) is not None), None)
