"""A topic of one's own: a person's interest becomes instructions, and these a task file that can be read and edited.

A judge model writes the instructions, for several personas, so that they differ. The embedded judge writes none; with
it, subjects of the bundled corpus that fit the topic are asked about. Or the user brings a file.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from harness.topics.instructions import (
    FEWEST,
    LONGEST_INSTRUCTION,
    Persona,
    Strict,
    TopicDraft,
    bare,
    checked_topic,
    is_instruction,
    parted,
)
from harness.topics.read_instructions import read_instructions
from harness.topics.task_file import slug, to_task_file
from utilities.core import Reason, Unscored
from utilities.errors import UserError
from utilities.judges.budget import Spent
from utilities.judges.settings import EMBEDDED, JudgeSettings
from utilities.prompts import prompt_hash
from utilities.text_similarity import stems, without_repeats

if TYPE_CHECKING:
    from harness.session.settings import RunSettings
    from utilities.judges.client import JudgeClient
    from utilities.judges.panel import Panel

__all__ = ["count_line", "draft_topic", "offline_topic", "topic_task", "write_topic"]

S = TypeVar("S", bound=BaseModel)
T = TypeVar("T")

PERSONAS = 8
ROUNDS = 4
"""How often personas are asked for more, where repetitions have left too few instructions."""
SPARE = 1.5
"""Instructions asked for, of those that are missing: about a third repeats another or is near to both splits."""
ROOM = 2048
"""Tokens of a reply at most; a dozen instructions take about five hundred, more in scripts that tokenizers split."""
PERSONA_TOKENS, INSTRUCTION_TOKENS = 50, 40
"""About what one takes in a reply; for an estimate beforehand."""


class Personas(Strict):
    """A judge's reply: personas."""

    personas: list[Persona]


class Instructions(Strict):
    """A judge's reply: instructions of one persona."""

    instructions: list[str]


async def write_topic(topic: str, panel: Panel, *, dev: int = 25, test: int = 25, seed: int = 0) -> TopicDraft:
    """Has the panel's first judge but the embedded one write instructions: 25 and 25, as the paper's topics have.

    Args:
        topic: The interest in the user's words, in any language; the instructions are in the same.
        panel: The judges; what is written counts against their budget.
        dev: Instructions of dev.
        test: Instructions of test.
        seed: Decides which instructions become dev and which test.

    Raises:
        UserError: No topic, or the judge does not write enough different instructions in `ROUNDS` rounds.
    """
    topic = checked_topic(topic)
    writer = next((judge for judge in panel.judges if judge.name != EMBEDDED), panel.judges[0])
    personas = await _personas(topic, writer)
    leave_out = frozenset(stems(topic))
    kept: list[str] = []
    dropped = unreadable = 0
    splits: tuple[list[str], list[str]] = ([], [])
    for turn in range(ROUNDS):
        missing = dev + test - len(splits[0]) - len(splits[1])
        count = max(3, math.ceil(SPARE * missing / len(personas)))
        asked = [_instructions(topic, persona, count, kept, writer, turn) for persona in personas]
        replies = await asyncio.gather(*asked)
        failed = [reply for reply in replies if isinstance(reply, Unscored)]
        if len(failed) == len(replies):  # four rounds of this would cost four times as much and bring as little
            raise UserError(f"{writer.name} wrote no instructions for {topic!r}: {_told(failed[0])}")
        found = [text for reply in replies if not isinstance(reply, Unscored) for text in reply]
        before, kept = len(kept) + len(found), without_repeats([*kept, *found], leave_out)
        dropped += before - len(kept)
        unreadable += len(failed)
        splits = parted(kept, dev, test, seed, leave_out)
        if len(splits[0]) == dev and len(splits[1]) == test:
            return TopicDraft(topic, tuple(splits[0]), tuple(splits[1]), writer.name, personas, dropped)
        if spent := [reply for reply in failed if reply.reason is Reason.BUDGET]:
            raise UserError(f"{writer.name} wrote only {len(kept)} instructions for {topic!r}: {_told(spent[0])}")
    raise UserError(
        f"{writer.name} wrote too few different instructions for {topic!r}: after {ROUNDS} rounds"
        f" {len(splits[0])} of {dev} for dev and {len(splits[1])} of {test} for test ({dropped} repeated others,"
        f" {unreadable} replies could not be read). Ask for fewer with --dev and --test, name another --judge, or give"
        " your own with --instructions FILE"
    )


async def _personas(topic: str, writer: JudgeClient) -> tuple[Persona, ...]:
    told = await _ask(writer, "topic_personas", Personas, _read_personas, 0, topic=topic, count=PERSONAS)
    if isinstance(told, Unscored):
        raise UserError(f"{writer.name} wrote no personas for {topic!r}: {_told(told)}")
    return told


def _read_personas(told: Personas) -> tuple[Persona, ...] | Unscored:
    plain = [Persona(name=bare(one.name), interest=bare(one.interest)) for one in told.personas]
    fit = {
        one.name.casefold(): one for one in plain if one.name and one.interest and len(str(one)) < LONGEST_INSTRUCTION
    }
    if len(fit) < 2:
        return Unscored(Reason.MALFORMED, "fewer than two personas with a name and an interest")
    return tuple(fit.values())[:PERSONAS]


async def _instructions(
    topic: str, persona: Persona, count: int, written: Sequence[str], writer: JudgeClient, turn: int
) -> list[str] | Unscored:
    about = {"topic": topic, "name": persona.name, "interest": persona.interest, "count": count, "written": written}
    return await _ask(writer, "topic_instructions", Instructions, _read_list, turn, **about)


def _read_list(told: Instructions) -> list[str] | Unscored:
    fit = [plain for text in told.instructions if is_instruction(plain := bare(text))]
    return fit or Unscored(Reason.MALFORMED, f"no instruction of at most {LONGEST_INSTRUCTION} characters")


async def _ask(
    writer: JudgeClient, prompt: str, shape: type[S], read: Callable[[S], T | Unscored], turn: int, **variables: object
) -> T | Unscored:
    from utilities.judges.parsing import Message, Reply, as_object
    from utilities.prompts import load_prompt

    def read_reply(reply: Reply) -> T | Unscored:
        told = as_object(reply, shape)
        return told if isinstance(told, Unscored) else read(told)

    question = [Message("user", load_prompt(prompt).render(**variables))]
    schema = shape.model_json_schema()
    told = await writer.ask_for(question, read_reply, max_tokens=ROOM, schema=schema, replicate=turn)
    return told if isinstance(told, Unscored) else told.value


def _told(failure: Unscored) -> str:
    return f"{failure.reason.value}{f', {failure.detail}' if failure.detail else ''}"


def offline_topic(topic: str, *, dev: int = 25, test: int = 25, seed: int = 0) -> TopicDraft:
    """Asks about subjects of the bundled corpus that fit the topic: without a model, and so for the bundled family.

    Those that fit best come first. Where they are too few, some are asked about in other words too, and there may still
    be fewer than `dev` and `test` instructions.

    Raises:
        UserError: No topic, or the corpus has hardly anything on it.
    """
    from harness.embedded.on_topic import fitting_subjects, wishes

    topic = checked_topic(topic)
    subjects = fitting_subjects(topic, seed)
    if any(len(fitting) < FEWEST // 2 for fitting in subjects.values()):
        raise UserError(
            f"the bundled corpus has hardly anything on {topic!r} ({len(subjects['dev'])} subjects for dev,"
            f" {len(subjects['test'])} for test), and the embedded judge writes no instructions: name a judge that does"
            " with --judge, or give your own with --instructions FILE"
        )
    asked = {split: wishes(subjects[split], size) for split, size in (("dev", dev), ("test", test))}
    return TopicDraft(topic, asked["dev"], asked["test"], "the bundled corpus of facts", embedded=True)


def writing_estimate(topic: str, panel: Panel, dev: int, test: int) -> str:
    """What the writing of instructions is going to cost, in a sentence; more where many of them repeat others."""
    from utilities.judges.budget import estimate_tokens
    from utilities.prompts import load_prompt

    (writer,), asked = panel.judges, 1 + PERSONAS
    prompts = estimate_tokens(load_prompt("topic_instructions").source + topic) * asked
    replies = INSTRUCTION_TOKENS * math.ceil(SPARE * (dev + test)) + PERSONA_TOKENS * PERSONAS
    told = f"{writer.name} writes instructions: about {asked} questions, {prompts + replies:,} tokens in all"
    if writer.price is None:
        return f"{told}, price unknown"
    return (
        f"{told}, about ${usd:,.4f}" if (usd := writer.price.usd(prompts, replies)) else f"{told}, which cost nothing"
    )


def draft_topic(
    topic: str,
    judging: JudgeSettings,
    *,
    dev: int = 25,
    test: int = 25,
    seed: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[TopicDraft, Spent]:
    """Instructions by the first judge that can write them, or else of the bundled corpus; and what they have cost.

    Args:
        topic: As in `write_topic`.
        judging: Who judges, and the limits. Nobody, or the embedded judge alone, means the corpus.
        dev: As in `write_topic`.
        test: As in `write_topic`.
        seed: As in `write_topic`.
        tell: Is told the cost to come, before anybody is asked.

    Raises:
        UserError: As in `write_topic`, `offline_topic` and `open_panel`.
    """
    from utilities.judges.panel import open_panel

    writers = tuple(name for name in judging.judge if name != EMBEDDED)
    if not writers:
        return offline_topic(topic, dev=dev, test=test, seed=seed), Spent()

    async def written() -> tuple[TopicDraft, Spent]:
        panel = open_panel(judging.model_copy(update={"judge": writers[:1]}))
        try:
            tell(writing_estimate(checked_topic(topic), panel, dev, test))
            return await write_topic(topic, panel, dev=dev, test=test, seed=seed), panel.spent
        finally:
            await panel.close()

    return asyncio.run(written())


def topic_task(
    topic: str | None, instructions: Path | None, settings: RunSettings, out: Path, tell: Callable[[str], None]
) -> tuple[Path, Spent]:
    """A task file on a topic, drafted or with the user's own instructions, in the folder of the runs, and its cost.

    A file that is there already is used as it stands: it may have been edited, and a draft costs money.

    Args:
        topic: The interest; by default what the name of `instructions` says.
        instructions: The user's own file.
        settings: Who judges, and which model answers.
        out: Folder of run folders.
        tell: Is told the cost to come, and what was drafted.

    Raises:
        UserError: As in `draft_topic` and `read_instructions`.
    """
    spent, embedded = Spent(), settings.base_model == EMBEDDED
    if instructions is None:
        topic = checked_topic(topic or "")
        path = out / f"topic-{slug(topic)}-{prompt_hash(topic)[:6]}.yaml"  # scripts without Latin letters share a slug
        if path.is_file():
            tell(f"the instructions in {path} are used as they stand")
            return path, spent
        draft, spent = draft_topic(topic, settings.judging, tell=tell)
    else:
        draft = read_instructions(instructions, topic=topic)
        path = out / f"topic-{slug(draft.topic)}-own.yaml"
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(to_task_file(draft, embedded=embedded), encoding="utf-8")
    tell(f"{count_line(draft)} They are in {path}, to read and edit")
    return path, spent


def count_line(draft: TopicDraft) -> str:
    """How many instructions a draft has, and of which source."""
    repeated = f"; {draft.dropped} that repeated others were left out" if draft.dropped else ""
    return f"{len(draft.dev)} instructions for dev and {len(draft.test)} for test, from {draft.source}{repeated}."
