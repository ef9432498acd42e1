"""A topic of one's own: a person's interest becomes instructions, and these a task file that can be read and edited.

A judge model writes the instructions, for several personas, so that they differ. The embedded judge writes none; with
it, subjects of the bundled corpus that fit the topic are asked about. Or the user brings a file. However they came,
dev and test ask about different matters: what dev has chosen, test could not have given away.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from utilities.core import Reason, Unscored
from utilities.errors import UserError, in_words
from utilities.judges.budget import Spent
from utilities.judges.settings import EMBEDDED, JudgeSettings
from utilities.nearness import NEAR, nearness, stems, without_repeats
from utilities.prompts import prompt_hash

if TYPE_CHECKING:
    from rich.console import Console

    from harness.settings import RunSettings
    from utilities.judges.client import JudgeClient
    from utilities.judges.panel import Panel

__all__ = [
    "Persona",
    "TopicDraft",
    "draft_topic",
    "offline_topic",
    "read_instructions",
    "run_topic",
    "slug",
    "to_task_file",
    "write_topic",
]

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
LONGEST_TOPIC, LONGEST_INSTRUCTION = 300, 2000
"""In characters: a topic is an interest in a sentence, and an instruction no document."""
FEWEST = 4
"""Instructions that a task needs at least, two a split: of one alone nothing can be said about noise."""


class _Strict(BaseModel):
    # As strict servers want a schema; lengths are checked where replies are read, for they refuse those in it.
    model_config = ConfigDict(frozen=True, json_schema_extra={"additionalProperties": False})


class Persona(_Strict):
    """Somebody who is interested in the topic."""

    name: str
    interest: str


class Personas(_Strict):
    """A judge's reply: personas."""

    personas: list[Persona]


class Instructions(_Strict):
    """A judge's reply: instructions of one persona."""

    instructions: list[str]


@dataclass(frozen=True, slots=True)
class TopicDraft:
    """Instructions on a topic, before a person has looked at them."""

    topic: str
    dev: tuple[str, ...]
    test: tuple[str, ...]
    source: str
    """Who or what they come from."""
    personas: tuple[Persona, ...] = ()
    dropped: int = 0
    """Instructions that were left out because another one asks the same."""
    embedded: bool = False
    """Whether they are such as the bundled model family can answer."""


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
    topic = _checked(topic)
    writer = next((judge for judge in panel.judges if judge.name != EMBEDDED), panel.judges[0])
    personas = await _personas(topic, writer)
    leave_out = frozenset(stems(topic))
    kept: list[str] = []
    dropped = unreadable = 0
    parted: tuple[list[str], list[str]] = ([], [])
    for turn in range(ROUNDS):
        missing = dev + test - len(parted[0]) - len(parted[1])
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
        parted = _part(kept, dev, test, seed, leave_out)
        if len(parted[0]) == dev and len(parted[1]) == test:
            return TopicDraft(topic, tuple(parted[0]), tuple(parted[1]), writer.name, personas, dropped)
        if spent := [reply for reply in failed if reply.reason is Reason.BUDGET]:
            raise UserError(f"{writer.name} wrote only {len(kept)} instructions for {topic!r}: {_told(spent[0])}")
    raise UserError(
        f"{writer.name} wrote too few different instructions for {topic!r}: after {ROUNDS} rounds"
        f" {len(parted[0])} of {dev} for dev and {len(parted[1])} of {test} for test ({dropped} repeated others,"
        f" {unreadable} replies could not be read). Ask for fewer with --dev and --test, name another --judge, or give"
        " your own with --instructions FILE"
    )


async def _personas(topic: str, writer: JudgeClient) -> tuple[Persona, ...]:
    told = await _ask(writer, "topic_personas", Personas, _read_personas, 0, topic=topic, count=PERSONAS)
    if isinstance(told, Unscored):
        raise UserError(f"{writer.name} wrote no personas for {topic!r}: {_told(told)}")
    return told


def _read_personas(told: Personas) -> tuple[Persona, ...] | Unscored:
    plain = [Persona(name=_plain(one.name), interest=_plain(one.interest)) for one in told.personas]
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
    fit = [plain for text in told.instructions if _is_instruction(plain := _plain(text))]
    return fit or Unscored(Reason.MALFORMED, f"no instruction of at most {LONGEST_INSTRUCTION} characters")


async def _ask(
    writer: JudgeClient, prompt: str, shape: type[S], read: Callable[[S], T | Unscored], turn: int, **variables: object
) -> T | Unscored:
    from utilities.judges.reply import Message, Reply, as_object
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


def _checked(topic: str) -> str:
    plain = _line(topic)
    if not any(character.isalpha() for character in plain):
        raise UserError(f"the topic is {topic!r}; a few words are expected, such as 'applying for a PhD in robotics'")
    if len(plain) > LONGEST_TOPIC:
        raise UserError(
            f"the topic has {len(plain)} characters; at most {LONGEST_TOPIC} are accepted, a sentence or two"
        )
    return plain


_MARKER = re.compile(r"^(?:[-*•]|\d{1,3}[.)])\s+")
"""What a line of a list begins with."""


def _line(text: str) -> str:
    """A text on one line, without control characters."""
    shown = "".join(" " if unicodedata.category(character) in {"Cc", "Cs"} else character for character in text)
    return " ".join(shown.split())


def _plain(text: str) -> str:
    """A text on one line, without the mark that an entry of a list begins with."""
    return _MARKER.sub("", _line(text))


def _is_instruction(text: str) -> bool:
    return len(text) <= LONGEST_INSTRUCTION and any(character.isalpha() for character in text)


def _part(
    texts: Sequence[str], dev: int, test: int, seed: int, leave_out: Set[str] = frozenset()
) -> tuple[list[str], list[str]]:
    """At most `dev` and `test` of the texts, such that no text of one split is near to one of the other.

    A text that is near to one split can only go there, and one that is near to both to neither; of the others each goes
    where more is missing, and those that are near to it come next. The order is the seed's; within a split it is that
    of `texts`.
    """
    mine = [frozenset(stems(text)) - leave_out for text in texts]
    near: list[set[int]] = [set() for _ in texts]
    for one, other in combinations(range(len(texts)), 2):
        if nearness(mine[one], mine[other]) >= NEAR:
            near[one].add(other)
            near[other].add(one)
    shuffled = random.Random(seed).sample(range(len(texts)), len(texts))
    splits: tuple[list[int], list[int]] = ([], [])
    for k in dict.fromkeys(one for first in shuffled for one in (first, *sorted(near[first]))):
        belongs = [not near[k].isdisjoint(split) for split in splits]
        missing = [size - len(split) for size, split in zip((dev, test), splits, strict=True)]
        where = belongs.index(True) if any(belongs) else int(missing[1] > missing[0])
        if not all(belongs) and missing[where] > 0:
            splits[where].append(k)
    chosen = [[texts[k] for k in sorted(split)] for split in splits]
    return chosen[0], chosen[1]


def offline_topic(topic: str, *, dev: int = 25, test: int = 25, seed: int = 0) -> TopicDraft:
    """Asks about subjects of the bundled corpus that fit the topic: without a model, and so for the bundled family.

    Those that fit best come first. Where they are too few, some are asked about in other words too, and there may still
    be fewer than `dev` and `test` instructions.

    Raises:
        UserError: No topic, or the corpus has hardly anything on it.
    """
    from harness.embedded.on_topic import fitting_subjects, wishes

    topic = _checked(topic)
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
            tell(writing_estimate(_checked(topic), panel, dev, test))
            return await write_topic(topic, panel, dev=dev, test=test, seed=seed), panel.spent
        finally:
            await panel.close()

    return asyncio.run(written())


def read_instructions(path: Path, *, topic: str | None = None, seed: int = 0) -> TopicDraft:
    """The user's own instructions: text with one a line, or JSON, JSON lines or YAML with a list of them.

    A file with `dev` and `test` is split already. Otherwise it is split in half, near ones into the same half as far as
    that goes. What stands there twice, but for writing, is kept once, and in dev where it stands in both.

    Args:
        path: A file .txt, .json, .jsonl, .yaml or .yml.
        topic: What they are about; by default what the file's name says.
        seed: Decides on the halves.

    Raises:
        UserError: No such file, another format, something that is no instruction, or fewer than `FEWEST` of them.
    """
    topic = _checked(path.stem.replace("_", " ") if topic is None else topic)
    given = _read(path)
    splits = given if isinstance(given, dict) else {"": given}
    seen: set[str] = set()
    kept: dict[str, list[str]] = {name: [] for name in splits}
    for name, entries in splits.items():
        for k, entry in enumerate(entries, 1):
            text = _entry(entry, f"{path}: {name or 'instruction'} {k}")
            if (key := " ".join(re.findall(r"\w+", text.casefold()))) not in seen:
                seen.add(key)
                kept[name].append(text)
    total = sum(len(entries) for entries in splits.values())
    if len(seen) < FEWEST or any(len(texts) < FEWEST // 2 for texts in kept.values()):
        counts = ", ".join(f"{len(texts)} {name}".strip() for name, texts in kept.items())
        raise UserError(
            f"{path}: {counts} different instructions of {total}; at least {FEWEST} are needed, {FEWEST // 2} a split"
        )
    dev, test = (kept["dev"], kept["test"]) if isinstance(given, dict) else _halves(kept[""], topic, seed)
    return TopicDraft(topic, tuple(dev), tuple(test), path.name, dropped=total - len(seen))


def _halves(texts: Sequence[str], topic: str, seed: int) -> tuple[list[str], list[str]]:
    size = len(texts) // 2
    dev, test = _part(texts, size, len(texts) - size, seed, frozenset(stems(topic)))
    for text in texts:
        if text not in dev and text not in test:  # near to both, or to a half that is full
            (dev if len(dev) < size else test).append(text)
    return dev, test


ACCEPTED = "a list of texts, or a mapping with the lists dev and test, as .json, .jsonl or .yaml; or a .txt, one a line"


def _read(path: Path) -> list[Any] | dict[str, list[Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; expected {ACCEPTED}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as text ({error}); expected {ACCEPTED}") from error
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        match path.suffix.lower():
            case ".txt":
                return lines
            case ".json":
                data = json.loads(text)
            case ".jsonl":
                data = [json.loads(line) for line in lines]
            case ".yaml" | ".yml":
                data = yaml.safe_load(text)
            case _:
                raise UserError(f"{path}: files of this kind are not read; expected {ACCEPTED}")
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable: {' '.join(str(error).split())}; expected {ACCEPTED}") from error
    if isinstance(data, list):
        return data
    if isinstance(data, dict) and isinstance(data.get("dev"), list) and isinstance(data.get("test"), list):
        return {"dev": data["dev"], "test": data["test"]}
    raise UserError(f"{path}: expected {ACCEPTED}")


def _entry(entry: Any, where: str) -> str:
    """An instruction: a text, or an object that holds one as the published files do."""
    if isinstance(entry, dict):
        entry = next((entry[name] for name in ("instruction", "prompt", "question") if name in entry), entry)
    text = _plain(entry) if isinstance(entry, str) else ""
    if not _is_instruction(text):
        raise UserError(
            f"{where}: expected a text of at most {LONGEST_INSTRUCTION} characters, found {str(entry)[:60]!r}"
        )
    return text


def slug(topic: str) -> str:
    """A name for files, of the topic's Latin letters and digits; "topic" where it has none."""
    ascii_only = unicodedata.normalize("NFKD", topic).encode("ascii", "ignore").decode().lower()
    return "_".join(re.findall(r"[a-z0-9]+", ascii_only))[:40].strip("_") or "topic"


def to_task_file(draft: TopicDraft, *, embedded: bool | None = None) -> str:
    """The draft as a task file for people to read and edit.

    Args:
        draft: The instructions.
        embedded: Whether a model of the bundled family will answer them, which needs other options than models that
            were made for chatting; by default what the draft says.
    """
    small = draft.embedded if embedded is None else embedded
    answering: dict[str, Any] = (
        {"prompt": "plain", "chat": False, "max_tokens": 40}
        if small
        else {"prompt": "bare", "chat": True, "max_tokens": 512}
    )
    head = [
        f"Instructions on a topic of one's own: {draft.topic}",
        f"From {_line(draft.source)}; {len(draft.dev)} dev, {len(draft.test)} test.",
        "Read them before they are used: take out what nobody would ask, change it, add your own, one a line.",
        "dev chooses the winner and test is read once, so nothing in one should ask what the other asks.",
        "Then: python run.py --task THIS_FILE",
        *(f"persona: {persona.name}: {persona.interest}" for persona in draft.personas),
    ]
    # Two supported facts are what 40 tokens hold; longer answers are measured by the scorer's own K.
    factuality = {"scorer": "factuality", "options": {"k": 2} if small else {}}
    body = {
        "name": slug(draft.topic),
        "title": draft.topic,
        "editions": {
            "own": {
                "item_sets": {
                    "instructions": {
                        "scorer": "topic_interest",
                        "options": {"topic": draft.topic, **answering},
                        "items": {"dev": list(draft.dev), "test": list(draft.test)},
                    }
                },
                "beside": {"factuality": factuality},
            }
        },
    }
    comments = "".join(f"# {line}\n" for line in head)
    return comments + yaml.dump(body, Dumper=_Readable, allow_unicode=True, sort_keys=False, width=math.inf)


class _Readable(yaml.SafeDumper):
    """Texts with spaces in quotes, so that an editing hand may put colons and the like into them; lists indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style='"' if " " in text or not text.isascii() else None
    )


_Readable.add_representer(str, _text)


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
        topic = _checked(topic or "")
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
    tell(f"{_counted(draft)} They are in {path}, to read and edit")
    return path, spent


def run_topic(
    topic: str, out: Path | None, given: Mapping[str, Any], *, force: bool, dev: int, test: int, seed: int
) -> None:
    """The verb `topic`: drafts instructions, writes the task file, and shows what is in it.

    Args:
        topic: As in `write_topic`.
        out: The task file; by default named after the topic, in the working directory.
        given: Settings of the judges, by name; None means not given.
        force: Whether a file that is there may be replaced.
        dev: As in `write_topic`.
        test: As in `write_topic`.
        seed: As in `write_topic`.

    Raises:
        UserError: As in `draft_topic`, or a file that cannot be written; known before anything is paid for.
    """
    from rich.console import Console

    topic = _checked(topic)
    out = Path(f"{slug(topic)}.yaml") if out is None else out
    if out.suffix not in {".yaml", ".yml"}:
        raise UserError(f"--out {out}: a task file's name ends in .yaml")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}")
    if out.exists() and not (force and out.is_file()):
        raise UserError(f"{out} exists already; replace it with --force, or name another file with --out")
    try:
        judging = JudgeSettings.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise UserError(f"settings: {in_words(error)}") from error
    console = Console()

    def tell(text: str) -> None:
        console.print(text, style="dim", markup=False, highlight=False)

    draft, spent = draft_topic(topic, judging, dev=dev, test=test, seed=seed, tell=tell)
    out.write_text(to_task_file(draft), encoding="utf-8")
    _show(draft, console)
    if spent.requests or spent.cached:
        cost = "" if not spent.usd else f", ${spent.usd:,.4f}"
        told = f"{spent.requests} requests ({spent.cached} more from the cache), {spent.tokens:,} tokens{cost}"
        tell(told)
    console.print(f"Written to {out}: read and edit it, then: python run.py --task {out}", markup=False, soft_wrap=True)


def _show(draft: TopicDraft, console: Console) -> None:
    """The personas and instructions, for review."""
    from rich.table import Table
    from rich.text import Text

    if draft.personas:
        personas = Table(title="Who asks", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        personas.add_column("persona")
        personas.add_column("interest")
        for one in draft.personas:
            personas.add_row(Text(one.name), Text(one.interest))
        console.print(personas)
    asked = Table(title=Text(draft.topic), title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    asked.add_column("split")
    asked.add_column("instruction")
    for name, texts in (("dev", draft.dev), ("test", draft.test)):
        for text in texts:
            asked.add_row(name, Text(text))
    console.print(asked)
    console.print(_counted(draft), markup=False, highlight=False)


def _counted(draft: TopicDraft) -> str:
    repeated = f"; {draft.dropped} that repeated others were left out" if draft.dropped else ""
    return f"{len(draft.dev)} instructions for dev and {len(draft.test)} for test, from {draft.source}{repeated}."
