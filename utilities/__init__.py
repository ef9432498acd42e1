"""The library of utility functions, `f(model) -> number`, and of ways to know what the number is worth.

Usable without the harness: a model is anything with `generate` and `choice_logprobs`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from utilities.combine import combinations, combine_evaluations
    from utilities.core import (
        ChoiceLogprobs,
        Evaluation,
        Generation,
        Item,
        ItemResult,
        Model,
        Reason,
        Score,
        Scorer,
        Unscored,
        Usage,
        scorer_registry,
    )
    from utilities.errors import UserError
    from utilities.registry import Registry
    from utilities.scorers import MultipleChoice
    from utilities.statistics import Difference, paired_difference
    from utilities.tasks import ItemSet, Task, list_tasks, load_task

_HOME = {
    "ChoiceLogprobs": "utilities.core",
    "Difference": "utilities.statistics",
    "Evaluation": "utilities.core",
    "Generation": "utilities.core",
    "Item": "utilities.core",
    "ItemResult": "utilities.core",
    "ItemSet": "utilities.tasks",
    "Model": "utilities.core",
    "MultipleChoice": "utilities.scorers",
    "Reason": "utilities.core",
    "Registry": "utilities.registry",
    "Score": "utilities.core",
    "Scorer": "utilities.core",
    "Task": "utilities.tasks",
    "Unscored": "utilities.core",
    "Usage": "utilities.core",
    "UserError": "utilities.errors",
    "combinations": "utilities.combine",
    "combine_evaluations": "utilities.combine",
    "list_tasks": "utilities.tasks",
    "load_task": "utilities.tasks",
    "paired_difference": "utilities.statistics",
    "scorer_registry": "utilities.core",
}

__all__ = [
    "ChoiceLogprobs",
    "Difference",
    "Evaluation",
    "Generation",
    "Item",
    "ItemResult",
    "ItemSet",
    "Model",
    "MultipleChoice",
    "Reason",
    "Registry",
    "Score",
    "Scorer",
    "Task",
    "Unscored",
    "Usage",
    "UserError",
    "combinations",
    "combine_evaluations",
    "list_tasks",
    "load_task",
    "paired_difference",
    "scorer_registry",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: `import utilities.errors` alone must not load numpy."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'utilities' has no attribute {name!r}")
