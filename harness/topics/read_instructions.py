"""The user's own instructions, read from a file of any of the usual formats."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.topics.instructions import (
    FEWEST,
    LONGEST_INSTRUCTION,
    TopicDraft,
    bare,
    checked_topic,
    is_instruction,
    split_apart,
)
from utilities.bounded_input import read_json, read_yaml
from utilities.errors import UserError
from utilities.text_similarity import stems

__all__ = ["read_instructions"]


def read_instructions(path: Path, *, topic: str | None = None, seed: int = 0) -> TopicDraft:
    """The user's own instructions: text with one a line, or JSON, JSON lines or YAML with a list of them.

    A file with `dev` and `test` is already split. Otherwise it is split in half, with similar instructions in the same
    half if possible. Repetitions that differ only in case and punctuation are dropped, from test if they are in both.

    Args:
        path: A file .txt, .json, .jsonl, .yaml or .yml.
        topic: Their topic; by default the file's name.
        seed: Of the split in half.

    Raises:
        UserError: The file does not exist or has another format, an entry is not an instruction, or fewer than
            `FEWEST` are left.
    """
    topic = checked_topic(path.stem.replace("_", " ") if topic is None else topic)
    content = _read(path)
    splits = content if isinstance(content, dict) else {"": content}
    seen: set[str] = set()
    unique: dict[str, list[str]] = {name: [] for name in splits}
    for name, entries in splits.items():
        for k, entry in enumerate(entries, 1):
            text = _entry(entry, f"{path}: {name or 'instruction'} {k}")
            if (key := " ".join(re.findall(r"\w+", text.casefold()))) not in seen:
                seen.add(key)
                unique[name].append(text)
    total = sum(len(entries) for entries in splits.values())
    if len(seen) < FEWEST or any(len(texts) < FEWEST // 2 for texts in unique.values()):
        counts = ", ".join(f"{len(texts)} {name}".strip() for name, texts in unique.items())
        raise UserError(
            f"{path}: {counts} different instructions of {total}; at least {FEWEST} are needed, {FEWEST // 2} a split"
        )
    dev, test = (unique["dev"], unique["test"]) if isinstance(content, dict) else _halves(unique[""], topic, seed)
    return TopicDraft(topic, tuple(dev), tuple(test), path.name, dropped=total - len(seen))


def _halves(texts: Sequence[str], topic: str, seed: int) -> tuple[list[str], list[str]]:
    size = len(texts) // 2
    dev, test = split_apart(texts, size, len(texts) - size, seed, frozenset(stems(topic)))
    for text in texts:
        if text not in dev and text not in test:  # near to both, or to a half that is full
            (dev if len(dev) < size else test).append(text)
    return dev, test


ACCEPTED = "a list of texts, or a mapping with the lists dev and test, as .json, .jsonl or .yaml; or a .txt, one a line"


def _read(path: Path) -> list[Any] | dict[str, list[Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: file does not exist; expected {ACCEPTED}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as text ({error}); expected {ACCEPTED}") from error
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        match path.suffix.lower():
            case ".txt":
                return lines
            case ".json":
                data = read_json(text)
            case ".jsonl":
                data = [read_json(line) for line in lines]
            case ".yaml" | ".yml":
                data = read_yaml(text)
            case _:
                raise UserError(f"{path}: files of this kind are not read; expected {ACCEPTED}")
    except ValueError as error:
        raise UserError(f"{path}: not readable: {' '.join(str(error).split())}; expected {ACCEPTED}") from error
    if isinstance(data, list):
        return data
    if isinstance(data, dict) and isinstance(data.get("dev"), list) and isinstance(data.get("test"), list):
        return {"dev": data["dev"], "test": data["test"]}
    raise UserError(f"{path}: expected {ACCEPTED}")


def _entry(entry: Any, where: str) -> str:
    """An instruction: a text, or an object with one, as in the published files."""
    if isinstance(entry, dict):
        entry = next((entry[name] for name in ("instruction", "prompt", "question") if name in entry), entry)
    text = bare(entry) if isinstance(entry, str) else ""
    if not is_instruction(text):
        raise UserError(
            f"{where}: expected a text of at most {LONGEST_INSTRUCTION} characters, got {str(entry)[:60]!r}"
        )
    return text
