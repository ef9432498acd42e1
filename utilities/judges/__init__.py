"""Judges: utilities that ask a language model, and what makes their answers worth something."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from utilities.judges.budget import Budget, Price, Spent
    from utilities.judges.cache import JudgementCache
    from utilities.judges.canary import Canary, canaries
    from utilities.judges.client import Answer, JudgeClient, JudgeStopped, named_judge, openai_judge
    from utilities.judges.companion import Companion
    from utilities.judges.evidence import Evidence, Passage, bundled_evidence, read_evidence
    from utilities.judges.factuality import Factuality
    from utilities.judges.pairwise import Pairwise
    from utilities.judges.panel import Panel, open_panel
    from utilities.judges.reply import Message, Reply
    from utilities.judges.settings import JudgeSettings
    from utilities.judges.topic_interest import TopicInterest

_HOME = {
    "Answer": "client",
    "Budget": "budget",
    "Canary": "canary",
    "Companion": "companion",
    "Evidence": "evidence",
    "Factuality": "factuality",
    "JudgeClient": "client",
    "JudgeSettings": "settings",
    "JudgeStopped": "client",
    "JudgementCache": "cache",
    "Message": "reply",
    "Pairwise": "pairwise",
    "Panel": "panel",
    "Passage": "evidence",
    "Price": "budget",
    "Reply": "reply",
    "Spent": "budget",
    "TopicInterest": "topic_interest",
    "bundled_evidence": "evidence",
    "canaries": "canary",
    "named_judge": "client",
    "open_panel": "panel",
    "openai_judge": "client",
    "read_evidence": "evidence",
}

__all__ = [
    "Answer",
    "Budget",
    "Canary",
    "Companion",
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


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: settings need no chat models."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
