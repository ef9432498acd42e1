"""Judges: utilities that use a language model as the judge, with budget, cache, panels and canaries."""

from typing import TYPE_CHECKING

from utilities.lazy import lazy

if TYPE_CHECKING:
    from utilities.judges.budget import Budget, Price, Spent
    from utilities.judges.cache import JudgementCache
    from utilities.judges.canary import Canary, canaries
    from utilities.judges.client import Answer, JudgeClient, JudgeStopped
    from utilities.judges.evidence import Evidence, Passage, bundled_evidence, read_evidence
    from utilities.judges.factuality import Factuality
    from utilities.judges.pairwise import Pairwise
    from utilities.judges.panel import Panel, open_panel
    from utilities.judges.parsing import Message, Reply
    from utilities.judges.providers import named_judge, openai_judge
    from utilities.judges.settings import JudgeSettings
    from utilities.judges.text_features import TextFeatures
    from utilities.judges.topic_interest import TopicInterest

_HOME = {
    "Answer": "utilities.judges.client",
    "Budget": "utilities.judges.budget",
    "Canary": "utilities.judges.canary",
    "TextFeatures": "utilities.judges.text_features",
    "Evidence": "utilities.judges.evidence",
    "Factuality": "utilities.judges.factuality",
    "JudgeClient": "utilities.judges.client",
    "JudgeSettings": "utilities.judges.settings",
    "JudgeStopped": "utilities.judges.client",
    "JudgementCache": "utilities.judges.cache",
    "Message": "utilities.judges.parsing",
    "Pairwise": "utilities.judges.pairwise",
    "Panel": "utilities.judges.panel",
    "Passage": "utilities.judges.evidence",
    "Price": "utilities.judges.budget",
    "Reply": "utilities.judges.parsing",
    "Spent": "utilities.judges.budget",
    "TopicInterest": "utilities.judges.topic_interest",
    "bundled_evidence": "utilities.judges.evidence",
    "canaries": "utilities.judges.canary",
    "named_judge": "utilities.judges.providers",
    "open_panel": "utilities.judges.panel",
    "openai_judge": "utilities.judges.providers",
    "read_evidence": "utilities.judges.evidence",
}

__all__ = [
    "Answer",
    "Budget",
    "Canary",
    "TextFeatures",
    "Evidence",
    "Factuality",
    "JudgeClient",
    "JudgeSettings",
    "JudgeStopped",
    "JudgementCache",
    "Message",
    "Pairwise",
    "Panel",
    "Passage",
    "Price",
    "Reply",
    "Spent",
    "TopicInterest",
    "bundled_evidence",
    "canaries",
    "named_judge",
    "open_panel",
    "openai_judge",
    "read_evidence",
]


__getattr__ = lazy(__name__, _HOME)
