"""A user's topic: an interest becomes instructions, and these a task file that can be read and edited.

A judge model writes the instructions for several personas, so that they differ. The bundled judges cannot write; with
them, the instructions ask about subjects of the bundled corpus that fit the topic. Or the user provides a file.
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
    split_apart,
)
from harness.topics.read_instructions import read_instructions
from harness.topics.task_file import slug, to_task_file
from utilities.core import Reason, Unscored
from utilities.errors import UserError
from utilities.judges.budget import Spent
from utilities.judges.settings import BUNDLED, EMBEDDED, JudgeSettings
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
"""Rounds of requests, if repetitions leave too few instructions."""
SPARE = 1.5
"""Instructions requested for each missing one: about a third repeats another or is near to both splits."""
ROOM = 2048
"""Most tokens of a reply; a dozen instructions take about 500, more in scripts that tokenizers split."""
PERSONA_TOKENS, INSTRUCTION_TOKENS = 50, 40
"""Approximate tokens of one in a reply, for the cost estimate."""


class Personas(Strict):
    """A judge's reply: personas."""

    personas: list[Persona]


class Instructions(Strict):
    """A judge's reply: instructions of one persona."""

    instructions: list[str]


async def write_topic(topic: str, panel: Panel, *, dev: int = 25, test: int = 25, seed: int = 0) -> TopicDraft:
    """Has the panel's first judge that is not a bundled one write instructions: 25 and 25, as the paper's topics have.

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
    writer = next((judge for judge in panel.judges if judge.name not in BUNDLED), panel.judges[0])
    personas = await _personas(topic, writer)
    leave_out = frozenset(stems(topic))
    texts: list[str] = []
    dropped = unreadable = 0
    splits: tuple[list[str], list[str]] = ([], [])
    for turn in range(ROUNDS):
        missing = dev + test - len(splits[0]) - len(splits[1])
        count = max(3, math.ceil(SPARE * missing / len(personas)))
        requests = [_instructions(topic, persona, count, texts, writer, turn) for persona in personas]
        replies = await asyncio.gather(*requests)
        failed = [reply for reply in replies if isinstance(reply, Unscored)]
        if len(failed) == len(replies):  # further rounds would cost as much and give as little
            raise UserError(f"{writer.name} wrote no instructions for {topic!r}: {_reason(failed[0])}")
        new = [text for reply in replies if not isinstance(reply, Unscored) for text in reply]
        before, texts = len(texts) + len(new), without_repeats([*texts, *new], leave_out)
        dropped += before - len(texts)
        unreadable += len(failed)
        splits = split_apart(texts, dev, test, seed, leave_out)
        if len(splits[0]) == dev and len(splits[1]) == test:
            return TopicDraft(topic, tuple(splits[0]), tuple(splits[1]), writer.name, personas, dropped)
        if spent := [reply for reply in failed if reply.reason is Reason.BUDGET]:
            raise UserError(f"{writer.name} wrote only {len(texts)} instructions for {topic!r}: {_reason(spent[0])}")
    raise UserError(
        f"{writer.name} wrote too few different instructions for {topic!r}: after {ROUNDS} rounds"
        f" {len(splits[0])} of {dev} for dev and {len(splits[1])} of {test} for test ({dropped} repeated others,"
        f" {unreadable} replies could not be read). Ask for fewer with --dev and --test, name another --judge, or give"
        " your own with --instructions FILE"
    )


async def _personas(topic: str, writer: JudgeClient) -> tuple[Persona, ...]:
    reply = await _request(writer, "topic_personas", Personas, _read_personas, 0, topic=topic, count=PERSONAS)
    if isinstance(reply, Unscored):
        raise UserError(f"{writer.name} wrote no personas for {topic!r}: {_reason(reply)}")
    return reply


def _read_personas(reply: Personas) -> tuple[Persona, ...] | Unscored:
    plain = [Persona(name=bare(one.name), interest=bare(one.interest)) for one in reply.personas]
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
    return await _request(writer, "topic_instructions", Instructions, _read_list, turn, **about)


def _read_list(reply: Instructions) -> list[str] | Unscored:
    fit = [plain for text in reply.instructions if is_instruction(plain := bare(text))]
    return fit or Unscored(Reason.MALFORMED, f"no instruction of at most {LONGEST_INSTRUCTION} characters")


async def _request(
    writer: JudgeClient, prompt: str, shape: type[S], read: Callable[[S], T | Unscored], turn: int, **variables: object
) -> T | Unscored:
    from utilities.judges.parsing import Message, Reply, as_object
    from utilities.prompts import load_prompt

    def read_reply(reply: Reply) -> T | Unscored:
        parsed = as_object(reply, shape)
        return parsed if isinstance(parsed, Unscored) else read(parsed)

    question = [Message("user", load_prompt(prompt).render(**variables))]
    schema = shape.model_json_schema()
    result = await writer.ask_for(question, read_reply, max_tokens=ROOM, schema=schema, replicate=turn)
    return result if isinstance(result, Unscored) else result.value


def _reason(failure: Unscored) -> str:
    return f"{failure.reason.value}{f', {failure.detail}' if failure.detail else ''}"


def offline_topic(topic: str, *, dev: int = 25, test: int = 25, seed: int = 0) -> TopicDraft:
    """Instructions about subjects of the bundled corpus that fit the topic, for the bundled models; needs no judge.

    Subjects that fit best come first. If they are too few, a second wording asks about some of them again, and there
    may still be fewer than `dev` and `test` instructions.

    Raises:
        UserError: No topic, or the corpus has too few subjects that fit it.
    """
    from harness.embedded.on_topic import fitting_subjects, wishes

    topic = checked_topic(topic)
    subjects = fitting_subjects(topic, seed)
    if any(len(fitting) < FEWEST // 2 for fitting in subjects.values()):
        raise UserError(
            f"the bundled corpus has too few subjects on {topic!r} ({len(subjects['dev'])} for dev,"
            f" {len(subjects['test'])} for test), and the bundled judges cannot write instructions: name a judge that"
            " can with --judge, or give your own instructions with --instructions FILE"
        )
    texts = {split: wishes(subjects[split], size) for split, size in (("dev", dev), ("test", test))}
    return TopicDraft(topic, texts["dev"], texts["test"], "the bundled corpus of facts", embedded=True)


def writing_estimate(topic: str, panel: Panel, dev: int, test: int) -> str:
    """The estimated cost of writing instructions, as a sentence; repetitions add to it."""
    from utilities.judges.budget import estimate_tokens
    from utilities.prompts import load_prompt

    (writer,), requests = panel.judges, 1 + PERSONAS
    prompts = estimate_tokens(load_prompt("topic_instructions").source + topic) * requests
    replies = INSTRUCTION_TOKENS * math.ceil(SPARE * (dev + test)) + PERSONA_TOKENS * PERSONAS
    text = f"{writer.name} writes instructions: about {requests} requests, {prompts + replies:,} tokens in all"
    if writer.price is None:
        return f"{text}, price unknown"
    return f"{text}, about ${usd:,.4f}" if (usd := writer.price.usd(prompts, replies)) else f"{text}, $0.00"


def draft_topic(
    topic: str,
    judging: JudgeSettings,
    *,
    dev: int = 25,
    test: int = 25,
    seed: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[TopicDraft, Spent]:
    """Instructions by the first judge that can write, or else from the bundled corpus, and their cost.

    Args:
        topic: As in `write_topic`.
        judging: The judges and their limits. No judge, or bundled judges alone, means the corpus.
        dev: As in `write_topic`.
        test: As in `write_topic`.
        seed: As in `write_topic`.
        tell: Receives the cost estimate, before any request, and notes on the judge's server.

    Raises:
        UserError: As in `write_topic`, `offline_topic` and `open_panel`.
    """
    from utilities.judges.panel import open_panel

    writers = tuple(name for name in judging.judge if name not in BUNDLED)
    if not writers:
        return offline_topic(topic, dev=dev, test=test, seed=seed), Spent()

    async def written() -> tuple[TopicDraft, Spent]:
        panel = open_panel(judging.model_copy(update={"judge": writers[:1]}))
        try:
            tell(writing_estimate(checked_topic(topic), panel, dev, test))
            return await write_topic(topic, panel, dev=dev, test=test, seed=seed), panel.spent
        finally:
            for note in panel.take_notes():
                tell(f"note: {note}")
            await panel.close()

    return asyncio.run(written())


def topic_task(
    topic: str | None, instructions: Path | None, settings: RunSettings, out: Path, tell: Callable[[str], None]
) -> tuple[Path, Spent]:
    """A task file on a topic, drafted or with the user's own instructions, in the folder of the runs, and its cost.

    An existing file of the topic is used unchanged: it may have been edited, and a draft costs money.

    Args:
        topic: The interest; by default the file name of `instructions`.
        instructions: The user's own file.
        settings: The judges, and the model that answers.
        out: Folder of run folders.
        tell: Receives the cost estimate, and what was drafted.

    Raises:
        UserError: As in `draft_topic` and `read_instructions`.
    """
    spent, embedded = Spent(), settings.base_model == EMBEDDED
    if instructions is None:
        topic = checked_topic(topic or "")
        path = out / f"topic-{slug(topic)}-{prompt_hash(topic)[:6]}.yaml"  # scripts without Latin letters share a slug
        if path.is_file():
            tell(f"the instructions in {path} are used unchanged")
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
    repeated = f"; {draft.dropped} repetitions were dropped" if draft.dropped else ""
    return f"{len(draft.dev)} instructions for dev and {len(draft.test)} for test, from {draft.source}{repeated}."
