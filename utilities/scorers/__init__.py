"""Dataset scorers: generate, extract, score."""

from typing import TYPE_CHECKING

from utilities.lazy import lazy

if TYPE_CHECKING:
    from utilities.scorers.abstain import Abstain
    from utilities.scorers.exact_match import ExactMatch
    from utilities.scorers.function import FunctionScorer, utility
    from utilities.scorers.generation import GenerationScorer
    from utilities.scorers.gold_logprob import GoldLogprob
    from utilities.scorers.legacy import LegacyLetter, LegacyNumber
    from utilities.scorers.multiple_choice import MultipleChoice
    from utilities.scorers.multiple_choice_generated import MultipleChoiceGenerated
    from utilities.scorers.numeric import Numeric
    from utilities.scorers.regex import Regex
    from utilities.scorers.token_f1 import TokenF1
    from utilities.scorers.toxicity import Toxicity
    from utilities.scorers.yes_no import YesNo

__all__ = [
    "Abstain",
    "ExactMatch",
    "FunctionScorer",
    "GenerationScorer",
    "GoldLogprob",
    "LegacyLetter",
    "LegacyNumber",
    "MultipleChoice",
    "MultipleChoiceGenerated",
    "Numeric",
    "Regex",
    "TokenF1",
    "Toxicity",
    "YesNo",
    "utility",
]


__getattr__ = lazy(__name__)
