"""A panel whose judges say what a test wants, without any transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from utilities.core import Reason, Unscored
from utilities.judges.parsing import Message, Reply

__all__ = ["Asked", "Said", "ScriptedJudge", "ScriptedPanel", "lost"]


@dataclass(frozen=True)
class Asked:
    """One question to a judge."""

    messages: Sequence[Message]
    options: dict[str, Any]

    @property
    def text(self) -> str:
        (message,) = self.messages
        assert message.role == "user"
        return message.content


class Said(NamedTuple):
    """What `ask_for` gives back, as far as scorers read it."""

    value: Any
    reply: Reply


@dataclass
class ScriptedJudge:
    """Answers each question by a function of it; `say` may be asynchronous."""

    say: Callable[[Asked], Any]
    name: str = "scripted"
    asked: list[Asked] = field(default_factory=list)

    async def ask_for(self, messages: Sequence[Message], read: Callable[[Reply], Any], **options: Any) -> Any:
        self.asked.append(asked := Asked(messages, options))
        said = self.say(asked)
        if hasattr(said, "__await__"):
            said = await said
        if isinstance(said, Unscored):
            return said
        reply = said if isinstance(said, Reply) else Reply(said)
        value = read(reply)
        return value if isinstance(value, Unscored) else Said(value, reply)


@dataclass
class ScriptedPanel:
    """The interface of a panel."""

    judges: Sequence[ScriptedJudge]
    repeats: int = 1
    embedded: bool = False


def lost(detail: str = "no answer after 5 attempts") -> Unscored:
    """What a judge gives that could not be reached."""
    return Unscored(Reason.TRANSPORT, detail, 5)
