"""Base classes of scorers with a panel: all judgements run concurrently and are averaged into one score."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, Unpack

from utilities.core import Evaluation, Item, Model, Outcome, Response, Score, Unscored
from utilities.errors import UserError
from utilities.judges.budget import estimate_tokens
from utilities.judges.text_features import words as words_of
from utilities.prompt_format import PromptOptions
from utilities.prompts import Prompt, cut
from utilities.reply_text import answer_alone
from utilities.scorers.generation import GenerationScorer

if TYPE_CHECKING:
    from utilities.judges.client import JudgeClient
    from utilities.judges.panel import Panel

__all__ = ["JudgedScorer", "Judgement", "PanelScorer"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judge's judgement of one response."""

    value: float
    measures: Mapping[str, float] = field(default_factory=dict)
    """Components of the value by name; all judgements of a scorer have the same names."""
    said: Mapping[str, Any] = field(default_factory=dict)
    """The judge's reply, for the notes."""


class PanelScorer(GenerationScorer):
    """A scorer in which a panel of judges rates generated responses.

    Args:
        judge: The panel.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`.
        stop: As in `GenerationScorer`.
        options: As in `GenerationScorer`.
    """

    judged = True
    """Marks scorers that need a panel."""
    name = ""
    """Name shown to the user."""

    def __init__(
        self,
        judge: Panel | None,
        prompt: str,
        max_tokens: int,
        stop: Sequence[str],
        **options: Unpack[PromptOptions],
    ) -> None:
        super().__init__(prompt, max_tokens, stop, **options)
        self.judge = judge

    def check(self, item: Item) -> str | None:
        """Accepts every item."""
        return None

    def cost(self, items: Sequence[Item]) -> tuple[int, int]:
        """Estimated numbers of judgements and of judge tokens for one evaluation on `items`."""
        raise NotImplementedError

    async def __call__(self, model: Model, items: Sequence[Item]) -> Evaluation:
        """The mean score of the model's responses."""
        self._panel()  # fails before any generation
        return await super().__call__(model, items)

    def _panel(self) -> Panel:
        if self.judge is None:
            raise UserError(f"{self.name} needs a judge: add --judge NAME")
        return self.judge


class JudgedScorer(PanelScorer):
    """A scorer in which every judge of a panel judges each response, with the panel's repeats.

    The value is the mean over judges of their means over repeats. If all judgements of an item fail, it is unscored for
    the first reason; if some fail, their share is the measure `unjudged`. Every response is sent to the judges, even an
    empty one.

    Args:
        template: The judges' prompt.
        words: Maximum words of a response shown to the judges; the measure `cut` is 1 if it was truncated.
        judge: The panel.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`.
        stop: As in `GenerationScorer`.
        options: As in `GenerationScorer`.

    Raises:
        UserError: `words` is not a positive integer.
    """

    reply_tokens = 150
    """Approximate tokens of a judge's reply."""

    def __init__(
        self,
        template: Prompt,
        words: int,
        judge: Panel | None,
        prompt: str,
        max_tokens: int,
        stop: Sequence[str],
        **options: Unpack[PromptOptions],
    ) -> None:
        super().__init__(judge, prompt, max_tokens, stop, **options)
        if not isinstance(words, int) or words < 1:
            raise UserError(f"words is {words!r}; a whole number from 1 is accepted")
        self.template, self.words = template, words

    def cost(self, items: Sequence[Item]) -> tuple[int, int]:
        """Estimated numbers of judgements and of judge tokens for one evaluation on `items`."""
        panel = self._panel()
        each = estimate_tokens(self.template.source) + self.max_tokens + self.reply_tokens
        times = len(panel.judges) * panel.repeats
        return times * len(items), times * sum(each + estimate_tokens(item.question) for item in items)

    async def score(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Outcome]:
        """The panel's score of each response; all are judged concurrently.

        Raises:
            UserError: There is no judge, or it cannot answer.
        """
        panel = self._panel()
        pairs = zip(items, responses, strict=True)
        return list(await asyncio.gather(*(self._outcome(panel, item, response) for item, response in pairs)))

    async def judgement(self, judge: JudgeClient, replicate: int, item: Item, answer: str) -> Judgement | Unscored:
        """Requests one judgement from one judge; defined by subclasses.

        Args:
            judge: The judge.
            replicate: Number of the repetition.
            item: The item.
            answer: The model's answer, at most `words` words.
        """
        raise NotImplementedError

    async def _outcome(self, panel: Panel, item: Item, response: Response) -> Outcome:
        text = answer_alone(response.text)
        if isinstance(text, Unscored):
            return text
        answer = cut(text, self.words)
        calls = [(judge, replicate) for judge in panel.judges for replicate in range(panel.repeats)]
        results = await asyncio.gather(*(self.judgement(judge, k, item, answer) for judge, k in calls))
        by_judge: dict[str, list[Judgement]] = {}
        for (judge, _), one in zip(calls, results, strict=True):
            if isinstance(one, Judgement):
                by_judge.setdefault(judge.name, []).append(one)
        missing = [one for one in results if isinstance(one, Unscored)]
        if not by_judge:
            return missing[0]
        means = {name: fmean(one.value for one in ones) for name, ones in by_judge.items()}
        measures = {f"judge:{name}": value for name, value in means.items()}
        for part in next(iter(by_judge.values()))[0].measures:
            measures[part] = fmean(fmean(one.measures[part] for one in ones) for ones in by_judge.values())
        measures |= {"words": float(len(words_of(text))), "cut": float(answer != text)}
        if len(results) > 1:
            measures["unjudged"] = len(missing) / len(results)
        prompt_info = {"prompt": self.template.name, "version": self.template.version, "hash": self.template.hash}
        records = [{"judge": j.name, "replicate": k, **_told(one)} for (j, k), one in zip(calls, results, strict=True)]
        return Score(fmean(means.values()), measures, json.dumps({**prompt_info, "judgements": records}))


def _told(one: Judgement | Unscored) -> dict[str, Any]:
    """A judgement as stored in the records."""
    if isinstance(one, Unscored):
        return {"unscored": one.reason.value, "detail": one.detail}
    return {"value": one.value, **one.said}
