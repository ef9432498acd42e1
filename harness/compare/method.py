"""Methods of `compare`: each has requirements, and returns a row of coefficients, an adapter, or answers.

A decorator adds a method, in your own file or in a package with an entry point in `model_swarms.methods`:

    from harness.compare.method import MethodResult, method
    from harness.compare.requirements import two_experts

    @method("first_two", needs=(two_experts,))
    async def first_two(context):
        first, second = (context.evaluator.expert_row(name) for name in context.evaluator.experts[:2])
        return MethodResult(row=(first + second) / 2)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.baselines.merging.registry import Space
from harness.compare.requirements import Requirement, TaskInputs
from harness.experts.adapter import Adapter
from harness.session.evaluator import Cost, Evaluator
from harness.swarm.update import Row
from utilities.core import Evaluation, Split
from utilities.errors import UserError
from utilities.registry import Registry
from utilities.user_code import file_of

__all__ = [
    "Make",
    "MergeRequest",
    "Method",
    "MethodContext",
    "MethodResult",
    "adapter_method",
    "method",
    "methods",
    "reason_not_applicable",
    "selected_methods",
]

Group = Literal["always", "static", "dynamic", "by name"]


@dataclass(frozen=True)
class MethodContext:
    """Inputs of a method."""

    evaluator: Evaluator
    inputs: TaskInputs
    budget: int
    """Number of evaluations of a search."""
    seed: int
    name: str
    """Name of the saved state of a search."""


@dataclass(frozen=True)
class MethodResult:
    """The result of a method: a row of coefficients, an expert, or answers."""

    cost: Cost = field(default_factory=Cost)
    row: Row | None = None
    """Coefficients of the experts, or of the columns of a search."""
    expert: str | None = None
    """Name of the expert, if the result is an unmodified expert."""
    answer: Callable[[Split], Awaitable[Evaluation]] | None = None
    """Answers a split, if the result is not a single model."""
    note: str | None = None


@dataclass(frozen=True)
class MergeRequest:
    """Inputs for the creation of an adapter."""

    inputs: TaskInputs
    adapters: Callable[[], Sequence[Adapter]]
    """Reads the experts."""
    space: Space
    seed: int


Run = Callable[[MethodContext], Awaitable[MethodResult]]
Make = Callable[[MergeRequest, Path], str | None]
"""Writes an adapter to a folder; returns a note for the table."""


@dataclass(frozen=True)
class Method:
    """A method; without `run` and `make` it is the base model."""

    name: str
    group: Group
    """`static`: the combination is fixed before any question, and dev is not used; `dynamic`: it is; `always`: a
    reference of every comparison; `by name`: in no group of `--methods`, as it reads test or has one use only."""
    seeded: bool = False
    """Whether its result depends on the seed; if not, it is measured once."""
    needs: tuple[Requirement, ...] = ()
    run: Run | None = None
    make: Make | None = None
    scaled: bool = False
    """Whether the scale of the adapter that it makes is chosen on dev."""


_ADAPTERS, _METHODS = "harness.compare.adapters", "harness.compare.methods"

methods: Registry[Method] = Registry(
    "method",
    modules={
        "base": _METHODS,
        "best_single": _METHODS,
        "uniform_soup": _ADAPTERS,
        "uniform_mixture": _METHODS,
        "slerp": _ADAPTERS,
        "model_stock": _ADAPTERS,
        "data_merge": _ADAPTERS,
        "prediction_merge": _METHODS,
        "top_k_vote": _METHODS,
        "scaled_soup": _METHODS,
        "task_arithmetic": _ADAPTERS,
        "ties": _ADAPTERS,
        "dare_linear": _ADAPTERS,
        "dare_ties": _ADAPTERS,
        "breadcrumbs": _ADAPTERS,
        "greedy_soup": _METHODS,
        "pack_of_llms": _METHODS,
        "cbtm": _METHODS,
        "evol_merge": _METHODS,
        "lorahub": _METHODS,
        "random": _METHODS,
        "cma": _METHODS,
        "dev_finetune": _ADAPTERS,
        "paper": _METHODS,
        "committee": _METHODS,
        "swarm_third": _METHODS,
        "swarm": _METHODS,
        "oracle": _METHODS,
    },
    group="model_swarms.methods",
)
"""Every method, in the order of tables; added ones follow."""


def method(
    name: str, group: Group = "dynamic", *, seeded: bool = False, needs: tuple[Requirement, ...] = ()
) -> Callable[[Run], Method]:
    """Decorator that registers a method `async (MethodContext) -> MethodResult`."""
    return lambda run: methods.register(name)(Method(name, group, seeded, needs, run=run))


def adapter_method(
    name: str,
    group: Group = "static",
    *,
    seeded: bool = False,
    needs: tuple[Requirement, ...] = (),
    scaled: bool = False,
) -> Callable[[Make], Method]:
    """Decorator that registers a method that creates an adapter: `(MergeRequest, folder) -> note or None`.

    With `scaled`, the adapter is evaluated on dev at several scales, and the best scale is the result.
    """
    return lambda make: methods.register(name)(Method(name, group, seeded, needs, make=make, scaled=scaled))


def selected_methods(text: str) -> list[str]:
    """The methods of `--methods`: all, static, dynamic, names, or FILE.py:NAME, separated by commas, in the order of
    tables.

    A group includes base, best_single and swarm, the references.

    Raises:
        UserError: A name that does not exist.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError("--methods names no method; all, static, dynamic, or names separated by commas are accepted")
    groups = {"all": ("always", "static", "dynamic"), "static": ("always", "static"), "dynamic": ("always", "dynamic")}
    selected: set[str] = set()
    for name in names:
        if name in groups:
            selected |= {one for one in methods if methods.get(one).group in groups[name]}
        elif file_of(name) is not None:
            own = methods.get(name)
            if not isinstance(own, Method):
                raise UserError(f"method {name!r}: expected an object that @method or @adapter_method decorates")
            selected.add(own.name)
        else:
            methods.check(name, groups)
            selected.add(name)
    return [name for name in methods if name in selected]


def reason_not_applicable(name: str, inputs: TaskInputs) -> str | None:
    """The reason why a method does not apply to a task; None if it does."""
    return next((reason for need in methods.get(name).needs if (reason := need(inputs)) is not None), None)
