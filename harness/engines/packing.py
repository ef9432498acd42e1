"""Batches of multiple-choice questions: one sequence a question, all its options after one shared prompt.

An option attends to the prompt and to itself, not to the other options, and its positions go on from the prompt's end.
So the prompt is computed once a question, and every option is answered as if it stood there alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from utilities.core import ChoiceLogprobs

__all__ = ["Batch", "pack"]

Ids = list[int]
PROMPT = 0
"""Segment number of the prompt; options are 1, 2, ...; padding is -1."""


@dataclass(frozen=True)
class Row:
    """One sequence: a prompt and the options that share it."""

    item: int
    """Position of the question in the prompt set."""
    first_option: int
    prompt: Ids
    options: list[Ids]

    @property
    def answer_length(self) -> int:
        """Tokens of all its options."""
        return sum(len(option) for option in self.options)


class Batch:
    """Questions that are computed together; prompts are padded on the left so that all answers begin in one column."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = list(rows)
        self._width = max(len(row.prompt) for row in rows)
        self._answer = max(row.answer_length for row in rows)
        length = self._width + self._answer
        self._ids = torch.zeros(len(rows), length, dtype=torch.long)
        self._positions = torch.zeros(len(rows), length, dtype=torch.long)
        self._segments = torch.full((len(rows), length), -1, dtype=torch.long)
        # For each answer token: which sequence, which column predicts it, which token it is.
        where: list[tuple[int, int, int]] = []
        for k, row in enumerate(rows):
            start = self._width - len(row.prompt)
            self._ids[k, start : self._width] = torch.tensor(row.prompt)
            self._positions[k, start : self._width] = torch.arange(len(row.prompt))
            self._segments[k, start : self._width] = PROMPT
            at = self._width
            for number, option in enumerate(row.options, 1):
                end = at + len(option)
                self._ids[k, at:end] = torch.tensor(option)
                self._positions[k, at:end] = torch.arange(len(row.prompt), len(row.prompt) + len(option))
                self._segments[k, at:end] = number
                previous = [self._width - 1, *range(at, end - 1)]
                where += [(k, column - self._width + 1, token) for column, token in zip(previous, option, strict=True)]
                at = end
        self._where = torch.tensor(where).T
        self.tokens = length * len(rows)
        """Rows times length, padding included."""
        self.items = list(dict.fromkeys(row.item for row in rows))
        """Positions of the batch's questions, in the order of `logprobs`."""

    def __len__(self) -> int:
        return len(self._rows)

    def halves(self) -> list[Batch]:
        """The same questions in two batches; the options of a question stay together."""
        items = self.items[: max(1, len(self.items) // 2)]
        parts = [[r for r in self._rows if r.item in items], [r for r in self._rows if r.item not in items]]
        return [Batch(part) for part in parts if part]

    def _mask(self, device: torch.device) -> torch.Tensor:
        """[rows, 1, length, length]: True where a column (last axis) is seen by a token (second to last).

        Where no sequence holds two options it is the ordinary [rows, length], which every model understands.
        """
        segments = self._segments.to(device)
        if all(len(row.options) == 1 for row in self._rows):
            return (segments >= 0).long()
        seen = segments[:, None, :]
        seeing = segments[:, :, None]
        length = segments.shape[1]
        order = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        mask = order & ((seen == PROMPT) | (seen == seeing)) & (seen >= 0)
        # Padding sees itself: a row of a softmax with nothing to see is not a number.
        return (mask | torch.eye(length, dtype=torch.bool, device=device))[:, None]

    def logprobs(self, model: Any, device: torch.device) -> list[ChoiceLogprobs]:
        """Summed log-probabilities of each question's options, in the order of `items`."""
        logits = model(
            input_ids=self._ids.to(device),
            attention_mask=self._mask(device),
            position_ids=self._positions.to(device),
            use_cache=False,
            logits_to_keep=self._answer + 1,
        ).logits
        row, column, token = self._where.to(device)
        chosen = logits[row, column].float()
        values = (chosen.gather(1, token[:, None])[:, 0] - chosen.logsumexp(dim=-1)).tolist()
        answers: dict[int, list[tuple[float, int]]] = {item: [] for item in self.items}
        at = 0
        for one in self._rows:
            for option in one.options:
                answers[one.item].append((sum(values[at : at + len(option)]), len(option)))
                at += len(option)
        return [
            ChoiceLogprobs(tuple(value for value, _ in told), tuple(tokens for _, tokens in told))
            for told in answers.values()
        ]


def pack(
    prompts: Sequence[Ids],
    options: Sequence[Sequence[Ids]],
    items: Sequence[int],
    batch_tokens: int,
    *,
    shared_prefix: bool,
) -> list[Batch]:
    """Length-bucketed batches of at most `batch_tokens` tokens, padding included (at least one question each).

    Args:
        prompts: Token ids of each prompt.
        options: Token ids of each prompt's options.
        items: Which of them to pack.
        batch_tokens: Upper limit of rows times length.
        shared_prefix: Whether the options of a question share one sequence; otherwise each stands in its own.
    """
    groups: list[list[Row]] = []
    for k in items:
        if shared_prefix:
            groups.append([Row(k, 0, prompts[k], list(options[k]))])
        else:
            groups.append([Row(k, j, prompts[k], [option]) for j, option in enumerate(options[k])])
    groups.sort(key=lambda rows: (len(rows[0].prompt), max(row.answer_length for row in rows)))
    batches: list[Batch] = []
    current: list[Row] = []
    width = answer = 0
    for group in groups:
        new_width = max(width, len(group[0].prompt))
        new_answer = max(answer, *(row.answer_length for row in group))
        if current and (len(current) + len(group)) * (new_width + new_answer) > batch_tokens:
            batches.append(Batch(current))
            current, new_width = [], len(group[0].prompt)
            new_answer = max(row.answer_length for row in group)
        current += group
        width, answer = new_width, new_answer
    if current:
        batches.append(Batch(current))
    return batches
