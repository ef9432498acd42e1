"""How the items of a set become prompts: a template, answered examples, a system prompt, a chat template or none.

Example:
    >>> from utilities.core import Item
    >>> item = Item(id="1", question="What is 2 + 2?")
    >>> PromptFormat(load_prompt("Q: {{ question }}\\nA:"), system_prompt="Be brief.").render(item)
    'Be brief.\\n\\nQ: What is 2 + 2?\\nA:'
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TypedDict

from utilities.core import Chat, Item
from utilities.errors import UserError
from utilities.prompts import Columns, Prompt, load_prompt

__all__ = ["Example", "PromptFormat", "PromptOptions", "draw_examples", "prompt_format"]

BETWEEN = "\n\n"
"""Stands between a system prompt, the examples and the question if there is no chat template."""


class PromptOptions(TypedDict, total=False):
    """Options that all scorers with a prompt have besides the template."""

    chat: bool
    """Whether prompts are put into the model's chat template; the answer is the assistant's message."""
    system_prompt: str
    """Text before everything else: the system message of a chat, else the first paragraph."""
    few_shot: int
    """Number of answered examples before each question, see `draw_examples`."""


@dataclass(frozen=True)
class Example:
    """An item and its correct answer as the model should have written it."""

    item: Item
    answer: str


@dataclass(frozen=True)
class PromptFormat:
    """Turns items into prompts.

    Args:
        template: The template, with the variables `question`, `choices`, `preamble` and `row`.
        chat: As in `PromptOptions`.
        system_prompt: As in `PromptOptions`.
        few_shot: As in `PromptOptions`.
        examples: The examples to choose from, in order; set when the data is loaded.
    """

    template: Prompt
    chat: bool = False
    system_prompt: str = ""
    few_shot: int = 0
    examples: tuple[Example, ...] = field(default=(), repr=False)

    def render(self, item: Item, **variables: str) -> str:
        """The prompt of an item: a text, or a `Chat`.

        Its examples are the first `few_shot` ones that share neither question nor source with it. `variables` are those
        of the template besides the item's.
        """
        examples = [one for one in self.examples if not _related(one.item, item)][: self.few_shot]
        shown = [*(one.item for one in examples), item]
        questions = [self._question(one, k == 0, variables) for k, one in enumerate(shown)]
        answers = [one.answer for one in examples]
        if self.chat:
            turns = [("system", self.system_prompt)] if self.system_prompt else []
            for question, answer in zip(questions, answers, strict=False):
                turns += [("user", question), ("assistant", answer)]
            return Chat.of([*turns, ("user", questions[-1])])
        answered = [
            f"{question}{'' if question[-1:].isspace() else ' '}{answer}"
            for question, answer in zip(questions, answers, strict=False)
        ]
        return BETWEEN.join([*filter(None, [self.system_prompt]), *answered, questions[-1]])

    def _question(self, item: Item, first: bool, variables: Mapping[str, str]) -> str:
        preamble = (item.preamble or "") if first else ""
        values = {"question": item.question, "choices": item.choices or {}, "preamble": preamble, **variables}
        text = self.template.render(**values, row=Columns(item.row or {}))
        return text if preamble or not self.examples else text.lstrip("\n")

    @property
    def stop(self) -> tuple[str, ...]:
        """What ends a generated answer by default: the beginning of a next question, or the gap after an example."""
        if self.chat:
            return ()
        gap = self.few_shot and not any(BETWEEN in one.answer for one in self.examples)
        return (*self.template.stop, *([BETWEEN] if gap else []))

    @property
    def fingerprint(self) -> str:
        """Hash of what the prompts are made of besides the items: the template's text and the examples."""
        texts = [self.template.source, *(f"{one.item.model_dump_json()} {one.answer}" for one in self.examples)]
        return sha256("\0".join(texts).encode(errors="replace")).hexdigest()[:16]

    def describe(self) -> str:
        """The format in one line, for `validate`."""
        parts = [f"{self.template.name:.40}", *(["chat template"] if self.chat else [])]
        parts += ["system prompt"] if self.system_prompt else []
        return ", ".join([*parts, *([f"{self.few_shot} examples"] if self.few_shot else [])])


def prompt_format(prompt: str, *, chat: bool = False, system_prompt: str = "", few_shot: int = 0) -> PromptFormat:
    """The format with a template by name, file or text.

    Raises:
        UserError: The template does not exist, or an option has an invalid value.
    """
    if not isinstance(chat, bool):
        raise UserError(f"chat is {chat!r}; true and false are accepted")
    if not isinstance(system_prompt, str):
        raise UserError(f"system_prompt is {system_prompt!r}; a text is accepted")
    if not isinstance(few_shot, int) or isinstance(few_shot, bool) or few_shot < 0:
        raise UserError(f"few_shot is {few_shot!r}; a whole number from 0 is accepted")
    return PromptFormat(load_prompt(prompt), chat, system_prompt, few_shot)


def draw_examples(count: int, items: Sequence[Item], asked: Sequence[Item]) -> list[Item] | None:
    """Items to show as examples: a seeded order, of which every other asked item has `count` unrelated ones.

    An example is related to an item with the same question or the same source, because it gives its answer away.

    Args:
        count: Number of examples of each prompt.
        items: The items to draw from.
        asked: All items that are asked; those that are drawn are not asked any more.

    Returns:
        The drawn items in order, usually `count` of them; None if there are not enough.
    """
    order = list(items)
    random.Random(0).shuffle(order)
    drawn: list[Item] = []
    shared: Counter[tuple[str, str]] = Counter()
    identities = set()
    for item in order:
        drawn.append(item)
        identities.add(id(item))
        shared.update(_keys(item))
        if len(drawn) >= count and all(
            len(drawn) - sum(shared[key] for key in _keys(other)) >= count
            for other in asked
            if id(other) not in identities
        ):
            return drawn
    return None


def _keys(item: Item) -> Iterator[tuple[str, str]]:
    yield "question", item.text
    if item.source is not None:
        yield "source", item.source


def _related(one: Item, other: Item) -> bool:
    return not set(_keys(one)).isdisjoint(_keys(other))
