"""Batches of multiple-choice questions: one sequence per question, all its options after one shared prompt.

An option attends to the prompt and to itself, not to the other options, and its positions continue from the prompt's
end. So the prompt is computed once per question, and each option's result is as if it were the only one.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
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
    prompt: Ids
    options: list[Ids]

    @property
    def answer_length(self) -> int:
        """Input tokens of all its options: the last token of each is only predicted."""
        return sum(len(option) - 1 for option in self.options)

    @property
    def length(self) -> int:
        """Input tokens."""
        return len(self.prompt) + self.answer_length


class Batch:
    """Questions that are computed together; all rows begin in the first column.

    Args:
        rows: The sequences.
        aligned: Whether all answers begin in one column, as in generation: prompts are then padded on the left too.
    """

    def __init__(self, rows: Sequence[Row], *, aligned: bool = False) -> None:
        self._rows, self._aligned = list(rows), aligned
        widest = max(len(row.prompt) for row in rows)
        length = widest + max(row.answer_length for row in rows) if aligned else max(row.length for row in rows)
        self._ids = torch.zeros(len(rows), length, dtype=torch.long)
        self._positions = torch.zeros(len(rows), length, dtype=torch.long)
        self._segments = torch.full((len(rows), length), -1, dtype=torch.long)
        # Distinct positions (sequence, column) that predict answer tokens; every answer token with its position.
        places: dict[tuple[int, int], int] = {}
        tokens: list[tuple[int, int]] = []
        for k, row in enumerate(rows):
            width = widest if aligned else len(row.prompt)
            start = width - len(row.prompt)
            self._ids[k, start:width] = torch.tensor(row.prompt)
            self._positions[k, start:width] = torch.arange(len(row.prompt))
            self._segments[k, start:width] = PROMPT
            at = width
            for number, option in enumerate(row.options, 1):
                end = at + len(option) - 1
                self._ids[k, at:end] = torch.tensor(option[:-1])
                self._positions[k, at:end] = torch.arange(len(row.prompt), len(row.prompt) + len(option) - 1)
                self._segments[k, at:end] = number
                for column, token in zip([width - 1, *range(at, end)], option, strict=True):
                    tokens.append((places.setdefault((k, column), len(places)), token))
                at = end
        self._places = torch.tensor(list(places)).T
        self._tokens = torch.tensor(tokens).T
        self._keep = length - int(self._places[1].min())
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
        return [Batch(part, aligned=self._aligned) for part in parts if part]

    def _mask(self, device: torch.device) -> torch.Tensor:
        """Attention mask [rows, 1, length, length], True if a token (third axis) attends to a column (last axis).

        If no sequence holds tokens of two options, it is the usual [rows, length], which every model supports.
        """
        segments = self._segments.to(device)
        if int(self._segments.max()) <= 1:
            return (segments >= 0).long()
        key_segments = segments[:, None, :]
        query_segments = segments[:, :, None]
        length = segments.shape[1]
        order = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        mask = order & ((key_segments == PROMPT) | (key_segments == query_segments)) & (key_segments >= 0)
        # Padding attends to itself: a softmax over an empty row would be NaN.
        return (mask | torch.eye(length, dtype=torch.bool, device=device))[:, None]

    def logprobs(
        self, model: Any, device: torch.device, *, direct: bool = False, positions: bool = True
    ) -> list[ChoiceLogprobs]:
        """Summed log-probabilities of each question's options, in the order of `items`.

        Args:
            model: A causal language model from transformers.
            device: The model's device.
            positions: Whether to pass positions, counted from 0 at each prompt's start, and a mask. Without them, all
                sequences must have one length.
            direct: Whether the logits are just the output layer applied to the last hidden states. Then they are
                computed only at the answers' positions, which saves most of the work with large vocabularies.
        """
        inputs = {
            "input_ids": self._ids.to(device),
            "attention_mask": self._mask(device),
            "position_ids": self._positions.to(device),
            "use_cache": False,
            "logits_to_keep": self._keep,
        }
        if not positions:
            del inputs["position_ids"], inputs["attention_mask"]
        kind: Any = type(model)
        if (accepted := _accepted(kind)) is not None:
            inputs = {name: value for name, value in inputs.items() if name in accepted}
        row, column = self._places.to(device)
        if direct:
            inputs.pop("logits_to_keep", None)
            hidden = model.base_model(**inputs).last_hidden_state
            logits = model.get_output_embeddings()(hidden[row, column]).float()
        else:
            tail = model(**inputs).logits
            logits = tail[row, column - (self._ids.shape[1] - tail.shape[1])].float()
        place, token = self._tokens.to(device)
        values = (logits[place, token] - logits.logsumexp(dim=-1)[place]).tolist()
        answers: dict[int, list[tuple[float, int]]] = {item: [] for item in self.items}
        at = 0
        for one in self._rows:
            for option in one.options:
                answers[one.item].append((sum(values[at : at + len(option)]), len(option)))
                at += len(option)
        return [
            ChoiceLogprobs(tuple(value for value, _ in scores), tuple(tokens for _, tokens in scores))
            for scores in answers.values()
        ]


@cache
def _accepted(kind: Any) -> frozenset[str] | None:
    """Argument names of a model's forward pass; None if it accepts everything that `logprobs` passes."""
    parameters = inspect.signature(kind.forward).parameters
    anything = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    return None if anything and "logits_to_keep" in parameters else frozenset(parameters)


def pack(
    prompts: Sequence[Ids],
    options: Sequence[Sequence[Ids]],
    items: Sequence[int],
    batch_tokens: int,
    *,
    shared_prefix: bool,
    aligned: bool = False,
) -> list[Batch]:
    """Length-bucketed batches of at most `batch_tokens` tokens, padding included (at least one question each).

    Args:
        prompts: Token ids of each prompt.
        options: Token ids of each prompt's options.
        items: Which of them to pack.
        batch_tokens: Upper limit of rows times length.
        shared_prefix: Whether the options of a question share one sequence; otherwise each has its own.
        aligned: As in `Batch`.
    """
    groups: list[list[Row]] = []
    for k in items:
        if shared_prefix:
            groups.append([Row(k, prompts[k], list(options[k]))])
        else:
            groups.append([Row(k, prompts[k], [option]) for option in options[k]])
    groups.sort(key=lambda rows: (max(row.length for row in rows), len(rows[0].prompt)))
    batches: list[Batch] = []
    current: list[Row] = []
    for group in groups:
        rows = [*current, *group]
        length = max(row.length for row in rows)
        if aligned:
            length = max(len(row.prompt) for row in rows) + max(row.answer_length for row in rows)
        if current and len(rows) * length > batch_tokens:
            batches.append(Batch(current, aligned=aligned))
            current = []
        current += group
    if current:
        batches.append(Batch(current, aligned=aligned))
    return batches
