"""A draft of instructions as a task file, to read and edit."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

import yaml

from harness.topics.instructions import TopicDraft, on_one_line

__all__ = ["slug", "to_task_file"]


def slug(topic: str) -> str:
    """A file name made of the topic's Latin letters and digits; "topic" if it has none."""
    ascii_only = unicodedata.normalize("NFKD", topic).encode("ascii", "ignore").decode().lower()
    return "_".join(re.findall(r"[a-z0-9]+", ascii_only))[:40].strip("_") or "topic"


def to_task_file(draft: TopicDraft, *, embedded: bool | None = None) -> str:
    """The draft as a task file, to read and edit.

    Args:
        draft: The instructions.
        embedded: Whether a bundled model will answer them, which needs other options than a chat model; by default the
            draft's own.
    """
    small = draft.embedded if embedded is None else embedded
    answering: dict[str, Any] = (
        {"prompt": "plain", "chat": False, "max_tokens": 40}
        if small
        else {"prompt": "bare", "chat": True, "max_tokens": 512}
    )
    head = [
        f"Instructions on the topic: {draft.topic}",
        f"From {on_one_line(draft.source)}; {len(draft.dev)} dev, {len(draft.test)} test.",
        "Review them first: remove or edit instructions, or add your own, one a line.",
        "The winner is selected on dev and test is read once: do not use an instruction in both.",
        "Then: python run.py --task THIS_FILE",
        *(f"persona: {persona.name}: {persona.interest}" for persona in draft.personas),
    ]
    # 40 tokens hold two supported facts; for longer answers the scorer's own k applies.
    factuality = {"scorer": "factuality", "options": {"k": 2} if small else {}}
    body = {
        "name": slug(draft.topic),
        "title": draft.topic,
        "editions": {
            "own": {
                **({"settings": {"iterations": 4}} if small else {}),  # as the bundled topics recommend
                "item_sets": {
                    "instructions": {
                        "scorer": "topic_interest",
                        "options": {"topic": draft.topic, **answering},
                        "items": {"dev": list(draft.dev), "test": list(draft.test)},
                    }
                },
                "report_only": {"factuality": factuality},
            }
        },
    }
    comments = "".join(f"# {line}\n" for line in head)
    return comments + yaml.dump(body, Dumper=_Readable, allow_unicode=True, sort_keys=False, width=math.inf)


class _Readable(yaml.SafeDumper):
    """Quotes texts with spaces, so that they can be edited to contain colons; indents lists."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style='"' if " " in text or not text.isascii() else None
    )


_Readable.add_representer(str, _text)
