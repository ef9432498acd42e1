"""The library of utility functions, `f(model) -> number`, and of ways to know what the number is worth.

Usable without the harness: a model is anything with `generate` and `choice_logprobs`.
"""

from typing import TYPE_CHECKING

from utilities.lazy import lazy

if TYPE_CHECKING:
    from utilities.combine import combinations, combine_evaluations
    from utilities.core import (
        ChoiceLogprobs,
        Evaluation,
        Item,
        ItemResult,
        Model,
        Outcome,
        Reason,
        Response,
        Score,
        Scorer,
        Unscored,
        Usage,
        Utility,
        scorer_registry,
    )
    from utilities.errors import UserError
    from utilities.registry import Registry
    from utilities.scorer_by_name import make_scorer
    from utilities.scorers import (
        Abstain,
        ExactMatch,
        FunctionScorer,
        GenerationScorer,
        GoldLogprob,
        LegacyLetter,
        LegacyNumber,
        MultipleChoice,
        MultipleChoiceGenerated,
        Numeric,
        Regex,
        TokenF1,
        Toxicity,
        YesNo,
        utility,
    )
    from utilities.statistics import Difference, paired_difference
    from utilities.sync import evaluate
    from utilities.task_file import list_tasks
    from utilities.tasks import ItemSet, Task, load_task

__all__ = [
    "Abstain",
    "ChoiceLogprobs",
    "Difference",
    "Evaluation",
    "ExactMatch",
    "FunctionScorer",
    "GenerationScorer",
    "GoldLogprob",
    "Item",
    "ItemResult",
    "ItemSet",
    "LegacyLetter",
    "LegacyNumber",
    "Model",
    "MultipleChoice",
    "MultipleChoiceGenerated",
    "Numeric",
    "Outcome",
    "Reason",
    "Regex",
    "Registry",
    "Response",
    "Score",
    "Scorer",
    "Task",
    "TokenF1",
    "Toxicity",
    "Unscored",
    "Usage",
    "UserError",
    "Utility",
    "YesNo",
    "combinations",
    "combine_evaluations",
    "evaluate",
    "list_tasks",
    "load_task",
    "make_scorer",
    "paired_difference",
    "scorer_registry",
    "utility",
]


__getattr__ = lazy(__name__)
