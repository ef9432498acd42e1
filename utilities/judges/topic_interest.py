"""Topic interest: how well answers serve a person with an interest, rated by judges (the paper's fourth objective)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import harmonic_mean
from typing import TYPE_CHECKING, Annotated, Any, Literal, Unpack, get_args

from pydantic import BaseModel, ConfigDict, Field

from utilities.core import Item, Reason, Unscored, scorer_registry
from utilities.errors import UserError
from utilities.judges.panel_scorer import JudgedScorer, Judgement
from utilities.judges.parsing import (
    Message,
    Reply,
    TokenChoice,
    as_object,
    as_rating,
    expected_rating,
    without_default,
)
from utilities.judges.word_overlap import shared_words
from utilities.prompt_format import PromptOptions
from utilities.prompts import load_prompt
from utilities.registry import unknown_name

if TYPE_CHECKING:
    from utilities.judges.client import JudgeClient
    from utilities.judges.panel import Panel

__all__ = ["CRITERIA", "Rubric", "TopicInterest"]

Variant = Literal["auto", "rubric", "paper", "brief"]
CRITERIA = ("relevance", "usefulness", "specificity", "clarity")
BRIEF_WORDS = 300
"""Words that the brief prompt shows at most: the embedded judge's context is 2,048 tokens."""

Level = Annotated[int, Field(ge=1, le=10)]


class Rubric(BaseModel):
    """A judge's reply to the rubric. The reason comes first, so that the levels can follow from it."""

    # The schema requires all fields and no others, as strict servers demand; a reply without a reason is accepted.
    model_config = ConfigDict(
        frozen=True, json_schema_extra={"additionalProperties": False, "required": ["reason", *CRITERIA]}
    )

    reason: str = Field("", json_schema_extra=without_default)
    relevance: Level
    usefulness: Level
    specificity: Level
    clarity: Level


def read_rubric(reply: Reply) -> Judgement | Unscored:
    """The harmonic mean of the four levels.

    Harmonic, so that no criterion compensates for another: a clear and concrete answer to a different question scores
    low. With log-probabilities the levels are expected values, otherwise as written; a reply without an expected level
    is then unscored, because the two are different scales.
    """
    rubric = as_object(reply, Rubric)
    if isinstance(rubric, Unscored):
        return rubric
    raw = {name: float(getattr(rubric, name)) for name in CRITERIA}
    expected = {name: level for name in CRITERIA if (level := _expected_level(reply, name)) is not None}
    if reply.tokens is not None and len(expected) < len(raw):
        return _no_expected(reply)
    levels = raw if reply.tokens is None else expected
    said = {"raw": raw, "expected": levels is expected, "reason": rubric.reason}
    return Judgement(harmonic_mean(levels.values()), levels, said)


def read_rating(reply: Reply) -> Judgement | Unscored:
    """The rating of a reply: the expected value with log-probabilities, otherwise as written."""
    raw = as_rating(reply)
    if isinstance(raw, Unscored):
        return raw
    expected = expected_rating(reply)
    if reply.tokens is not None and expected is None:
        return _no_expected(reply)
    return Judgement(raw if expected is None else expected, {}, {"raw": raw, "expected": expected is not None})


def _no_expected(reply: Reply) -> Unscored:
    detail = "the log-probabilities give no expected rating, which a whole number at the place of the rating would have"
    return Unscored(Reason.MALFORMED, detail, raw=reply.text)


def _expected_level(reply: Reply, criterion: str) -> float | None:
    """The expected level of a criterion under the judge's token probabilities; None if it cannot be computed."""
    tokens = reply.tokens or ()
    matches = list(re.finditer(rf'"{criterion}"\s*:\s*(\d+)', "".join(choice.token for choice in tokens)))
    if not matches:
        return None
    start, end = matches[-1].span(1)  # the last one, as in `as_object`
    ends = accumulate(len(choice.token) for choice in tokens)
    # Includes the token after the number, whose alternatives separate 1 from 10.
    number = [c for c, stop in zip(tokens, ends, strict=True) if start < stop and stop - len(c.token) <= end]
    alone = (TokenChoice("Rating: ", {}), *number)
    return expected_rating(replace(reply, text="".join(choice.token for choice in alone), tokens=alone))


@dataclass(frozen=True, slots=True)
class _Way:
    """Request and parser of a variant."""

    max_tokens: int
    read: Callable[[Reply], Judgement | Unscored]
    schema: Mapping[str, Any] | None = None


WAYS = {
    "rubric": _Way(512, read_rubric, Rubric.model_json_schema()),
    "paper": _Way(128, read_rating),
    "brief": _Way(8, read_rating),
}


@scorer_registry.register("topic_interest")
class TopicInterest(JudgedScorer):
    """Mean rating, 1 to 10, of answers to the instructions of a person with an interest.

    Args:
        topic: The person's interest in a few words: "electric vehicles".
        variant: `rubric`: four separate criteria. `paper`: one rating. `brief`: one rating with a short prompt, for the
            embedded judge. `auto`: `brief` if the embedded judge is on the panel, else `rubric`.
        expected: Whether a rating is the expected value under the judge's token probabilities, if its server returns
            them (G-Eval, Liu et al. 2023). It is finer than integers, so there are fewer ties.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`.
        stop: As in `GenerationScorer`.
        options: As in `GenerationScorer`.
        words: As in `JudgedScorer`; at most 300 for the brief prompt.
        judge: The panel.

    Raises:
        UserError: The topic is empty, or the variant is unknown or unsuitable for the embedded judge.
    """

    name = "topic_interest"

    def __init__(
        self,
        topic: str,
        variant: Variant = "auto",
        expected: bool = True,
        prompt: str = "bare",
        max_tokens: int = 512,
        stop: Sequence[str] = (),
        words: int = 2000,
        judge: Panel | None = None,
        **options: Unpack[PromptOptions],
    ) -> None:
        if not isinstance(topic, str) or not topic.strip():
            raise UserError('topic is empty; say what the person is interested in, as in topic="electric vehicles"')
        if variant not in get_args(Variant):
            raise unknown_name("variant", str(variant), get_args(Variant))
        embedded = judge is not None and judge.embedded
        if variant == "auto":
            variant = "brief" if embedded else "rubric"
        elif embedded and variant != "brief":
            raise UserError(f"variant={variant} is beyond the embedded judge; use variant=brief, or another --judge")
        super().__init__(load_prompt(f"topic_interest_{variant}"), words, judge, prompt, max_tokens, stop, **options)
        if variant == "brief":
            self.words = min(self.words, BRIEF_WORDS)
        self.topic, self.expected, self.way = topic, expected, WAYS[variant]
        self.reply_tokens = min(self.reply_tokens, self.way.max_tokens)

    async def judgement(self, judge: JudgeClient, replicate: int, item: Item, answer: str) -> Judgement | Unscored:
        """One rating of one answer."""
        shared = shared_words(item.question, answer)
        rendered = self.template.render(topic=self.topic, instruction=item.question, answer=answer, shared=shared)
        result = await judge.ask_for(
            # A single user message: some chat templates have no system role.
            [Message("user", rendered)],
            self.way.read,
            max_tokens=self.way.max_tokens,
            schema=self.way.schema,
            replicate=replicate,
            logprobs=self.expected,
        )
        return result if isinstance(result, Unscored) else result.value
