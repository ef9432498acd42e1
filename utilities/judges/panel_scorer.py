"""What scorers with a panel share: every judge of every response at the same time, and one score of all they say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from utilities.core import Evaluation, Item, Model, Outcome, Response, Score, Unscored
from utilities.errors import UserError
from utilities.judges.budget import estimate_tokens
from utilities.judges.text_features import words as words_of
from utilities.prompts import Prompt, cut
from utilities.scorers.generation import GenerationScorer

if TYPE_CHECKING:
    from utilities.judges.client import JudgeClient
    from utilities.judges.panel import Panel

__all__ = ["JudgedScorer", "Judgement", "PanelScorer"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one judge made of one response."""

    value: float
    measures: Mapping[str, float] = field(default_factory=dict)
    """What the value was made of, by name; the same names in every judgement of a scorer."""
    said: Mapping[str, Any] = field(default_factory=dict)
    """What the judge wrote, for the notes."""


class PanelScorer(GenerationScorer):
    """A scorer that asks a panel of judges about generated responses.

    Args:
        judge: Who judges.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`.
        stop: As in `GenerationScorer`.
        chat: As in `GenerationScorer`.
    """

    judged = True
    """Tells who makes scorers that this one is given a panel."""
    name = ""
    """As the user knows it."""

    def __init__(self, judge: Panel | None, prompt: str, max_tokens: int, stop: Sequence[str], chat: bool) -> None:
        super().__init__(prompt, max_tokens, stop, chat)
        self.judge = judge

    def check(self, item: Item) -> str | None:
        """Any instruction can be answered and judged."""
        return None

    def cost(self, items: Sequence[Item]) -> tuple[int, int]:
        """About how many judgements, and tokens of judges in all, one evaluation on `items` takes."""
        raise NotImplementedError

    async def __call__(self, model: Model, items: Sequence[Item]) -> Evaluation:
        """The mean score of the model's responses."""
        self._panel()  # known before anything is generated
        return await super().__call__(model, items)

    def _panel(self) -> Panel:
        if self.judge is None:
            raise UserError(f"{self.name} needs a judge: add --judge NAME")
        return self.judge


class JudgedScorer(PanelScorer):
    """A scorer of which each response is judged by every judge of a panel, as often as the panel repeats.

    The value is the mean over judges of their means over repeats. An item is unscored where nobody came to a
    judgement, for the first reason that was given; where only some did not, their share is the measure `unjudged`.
    Whatever a model answers is sent to the judges, an empty text too: no judgement is made here.

    Args:
        template: What the judges are asked.
        words: Words of a response that they read; what is cut off shows as the measure `cut`.
        judge: Who judges.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`.
        stop: As in `GenerationScorer`.
        chat: As in `GenerationScorer`.

    Raises:
        UserError: No words to be read.
    """

    reply_tokens = 150
    """About what a judge writes."""

    def __init__(
        self,
        template: Prompt,
        words: int,
        judge: Panel | None,
        prompt: str,
        max_tokens: int,
        stop: Sequence[str],
        chat: bool,
    ) -> None:
        super().__init__(judge, prompt, max_tokens, stop, chat)
        if not isinstance(words, int) or words < 1:
            raise UserError(f"words is {words!r}; a whole number from 1 is accepted")
        self.template, self.words = template, words

    def cost(self, items: Sequence[Item]) -> tuple[int, int]:
        """About how many judgements, and tokens of judges in all, one evaluation on `items` takes."""
        panel = self._panel()
        each = estimate_tokens(self.template.source) + self.max_tokens + self.reply_tokens
        times = len(panel.judges) * panel.repeats
        return times * len(items), times * sum(each + estimate_tokens(item.question) for item in items)

    async def score(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Outcome]:
        """What the panel makes of each response; all are judged at the same time.

        Raises:
            UserError: There is no judge, or one that will never answer.
        """
        panel = self._panel()
        pairs = zip(items, responses, strict=True)
        return list(await asyncio.gather(*(self._outcome(panel, item, response) for item, response in pairs)))

    async def judgement(self, judge: JudgeClient, replicate: int, item: Item, answer: str) -> Judgement | Unscored:
        """Asks one judge once; what a subclass defines.

        Args:
            judge: Who is asked.
            replicate: Which of its repeats this is.
            item: What the model was asked.
            answer: What it answered, no longer than `words`.
        """
        raise NotImplementedError

    async def _outcome(self, panel: Panel, item: Item, response: Response) -> Outcome:
        answer = cut(response.text, self.words)
        asked = [(judge, replicate) for judge in panel.judges for replicate in range(panel.repeats)]
        found = await asyncio.gather(*(self.judgement(judge, k, item, answer) for judge, k in asked))
        by_judge: dict[str, list[Judgement]] = {}
        for (judge, _), one in zip(asked, found, strict=True):
            if isinstance(one, Judgement):
                by_judge.setdefault(judge.name, []).append(one)
        missing = [one for one in found if isinstance(one, Unscored)]
        if not by_judge:
            return missing[0]
        of_judges = {name: fmean(one.value for one in ones) for name, ones in by_judge.items()}
        measures = {f"judge:{name}": value for name, value in of_judges.items()}
        for part in next(iter(by_judge.values()))[0].measures:
            measures[part] = fmean(fmean(one.measures[part] for one in ones) for ones in by_judge.values())
        measures |= {"words": float(len(words_of(response.text))), "cut": float(answer != response.text)}
        if len(found) > 1:
            measures["unjudged"] = len(missing) / len(found)
        about = {"prompt": self.template.name, "version": self.template.version, "hash": self.template.hash}
        told = [{"judge": j.name, "replicate": k, **_told(one)} for (j, k), one in zip(asked, found, strict=True)]
        return Score(fmean(of_judges.values()), measures, json.dumps({**about, "judgements": told}))


def _told(one: Judgement | Unscored) -> dict[str, Any]:
    """A judgement as it stands in the records."""
    if isinstance(one, Unscored):
        return {"unscored": one.reason.value, "detail": one.detail}
    return {"value": one.value, **one.said}
