"""Training texts of the experts: of the embedded ones from the corpus, of others from the user's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from utilities.bounded_input import read_json
from utilities.errors import UserError

__all__ = ["Pair", "embedded_training_texts", "read_training_texts"]


class Pair(NamedTuple):
    """One training text; the loss counts on the answer alone."""

    prompt: str
    answer: str
    source: str | None = None
    """What several texts may share (a fact, a passage); None if unknown."""


def embedded_training_texts(names: Sequence[str]) -> dict[str, list[Pair]]:
    """The texts of embedded experts, generated from the corpus as for their training."""
    from harness.embedded.corpus import read_corpus
    from harness.embedded.lessons import expert_texts

    relations = read_corpus()
    return {name: [Pair(t.prompt, t.answer) for t in expert_texts(relations, name)] for name in names}


def read_training_texts(folder: Path, names: Sequence[str]) -> Mapping[str, list[Pair]]:
    """The texts of `folder/EXPERT.jsonl`, one {"prompt": ..., "answer": ...} a line, for every expert.

    Raises:
        UserError: A file is missing or a line is not of this form; both are named.
    """
    if not folder.is_dir():
        raise UserError(f"--training-data {folder}: the folder does not exist")
    texts = {}
    for name in names:
        path = folder / f"{name}.jsonl"
        if not path.is_file():
            raise UserError(f"--training-data {folder}: {path.name} does not exist; every expert needs a file")
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not readable as text: {error}") from error
        texts[name] = [_pair(line, f"{path}, line {k}") for k, line in enumerate(lines, 1) if line.strip()]
        if not texts[name]:
            raise UserError(f"{path} is empty")
    return texts


def _pair(line: str, where: str) -> Pair:
    try:
        data = read_json(line)
        prompt, answer = data["prompt"], data["answer"]
    except (ValueError, TypeError, KeyError):
        prompt = answer = None
    if not isinstance(prompt, str) or not isinstance(answer, str) or not answer.strip():
        raise UserError(f'{where}: expected {{"prompt": "...", "answer": "..."}} with an answer that is not empty')
    return Pair(prompt, answer)
