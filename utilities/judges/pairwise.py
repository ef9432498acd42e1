"""Pairwise comparison of a response with the reference answer, in both orders because of position bias."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Unpack

from pydantic import BaseModel, ConfigDict, Field

from utilities.core import Item, Unscored, scorer_registry
from utilities.errors import UserError
from utilities.judges.panel_scorer import JudgedScorer, Judgement
from utilities.judges.parsing import Message, Reply, as_object, without_default
from utilities.prompt_format import PromptOptions
from utilities.prompts import cut, load_prompt

if TYPE_CHECKING:
    from utilities.judges.client import JudgeClient
    from utilities.judges.panel import Panel

__all__ = ["Comparison", "Pairwise"]


class Comparison(BaseModel):
    """A judge's reply: which of two answers is better, and first why."""

    model_config = ConfigDict(
        frozen=True, json_schema_extra={"additionalProperties": False, "required": ["reason", "better"]}
    )

    reason: str = Field("", json_schema_extra=without_default)
    better: Literal["first", "second", "tie"]


def read_comparison(reply: Reply) -> Comparison | Unscored:
    """Parses the comparison in a reply."""
    return as_object(reply, Comparison)


@scorer_registry.register("pairwise")
class Pairwise(JudgedScorer):
    """Share of responses that are better than their reference answers; a tie is a half.

    A judge compares twice, with the order swapped (Zheng et al. 2023, "Judging LLM-as-a-Judge", section 3.4): 1 if it
    prefers the response both times, 0 if it prefers the reference both times, else 0.5. The measure `position_flip` is
    1 if it prefers the same position both times (position bias).

    Args:
        topic: The user's interest; empty if irrelevant.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`.
        stop: As in `GenerationScorer`.
        options: As in `GenerationScorer`.
        words: As in `JudgedScorer`; for the reference too.
        judge: The panel; the embedded judge cannot compare.

    Raises:
        UserError: The panel contains the embedded judge.
    """

    name = "pairwise"

    def __init__(
        self,
        topic: str = "",
        prompt: str = "bare",
        max_tokens: int = 512,
        stop: Sequence[str] = (),
        words: int = 2000,
        judge: Panel | None = None,
        **options: Unpack[PromptOptions],
    ) -> None:
        if judge is not None and judge.embedded:
            raise UserError("pairwise: the embedded judge cannot compare two answers; name another with --judge")
        super().__init__(load_prompt("pairwise"), words, judge, prompt, max_tokens, stop, **options)
        self.topic = topic

    def check(self, item: Item) -> str | None:
        """The item needs a reference answer."""
        return None if _reference(item).strip() else "the item has no answer"

    async def judgement(self, judge: JudgeClient, replicate: int, item: Item, answer: str) -> Judgement | Unscored:
        """Compares in both orders; if one order fails there is no judgement, because of position bias."""
        reference = cut(_reference(item), self.words)
        ahead, behind = await asyncio.gather(
            self._compare(judge, replicate, item, answer, reference),
            self._compare(judge, replicate, item, reference, answer),
        )
        if isinstance(ahead, Unscored):
            return ahead
        if isinstance(behind, Unscored):
            return behind
        verdicts = (ahead.better, behind.better)
        value = {("first", "second"): 1.0, ("second", "first"): 0.0}.get(verdicts, 0.5)
        flip = float(verdicts in {("first", "first"), ("second", "second")})
        details = {"raw": list(verdicts), "reasons": [ahead.reason, behind.reason]}
        return Judgement(value, {"position_flip": flip}, details)

    async def _compare(
        self, judge: JudgeClient, replicate: int, item: Item, first: str, second: str
    ) -> Comparison | Unscored:
        rendered = self.template.render(topic=self.topic, instruction=item.question, first=first, second=second)
        result = await judge.ask_for(
            [Message("user", rendered)],
            read_comparison,
            max_tokens=512,
            schema=Comparison.model_json_schema(),
            replicate=replicate,
        )
        return result if isinstance(result, Unscored) else result.value


def _reference(item: Item) -> str:
    """The text of an item's correct answer; '' if it has none."""
    answer = item.answer or ""
    return (item.choices or {}).get(answer, answer)
