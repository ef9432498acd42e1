"""Abstention: a model should abstain if it does not know the answer (AbstainQA; the paper, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

from utilities.core import (
    Evaluation,
    Item,
    Model,
    Outcome,
    Reason,
    Response,
    Score,
    Unscored,
    Usage,
    scorer_registry,
)
from utilities.prompt_format import PromptFormat, PromptOptions
from utilities.prompts import load_prompt
from utilities.scorers.base import PromptedScorer, item_results
from utilities.scorers.extract_letter import extract_letter
from utilities.scorers.multiple_choice import AnswerBy, MultipleChoice, Normalize
from utilities.scorers.multiple_choice_generated import MultipleChoiceGenerated
from utilities.scorers.yes_no import extract_yes_no

__all__ = ["Abstain"]

VERDICTS = ("true", "false")


@scorer_registry.register("abstain")
class Abstain(PromptedScorer):
    """Effective reliability: (answered right - answered wrong) / all questions.

    Two rounds: the question, then whether the proposed answer is true or false; "false" abstains. A correct answer
    scores 1, a wrong one -1, an abstention 0, and a reply without an answer 0.

    Args:
        prompt: Template of the first round.
        check_prompt: Template of the second round; its variables include `proposal`, the text of the proposed option.
        generated: True generates replies in both rounds, as in the paper; False compares log-likelihoods.
        answer_by: As in `MultipleChoice`, for log-likelihoods.
        normalize: As in `MultipleChoice`.
        max_tokens: Maximum tokens of a generated reply.
        options: `chat` and `system_prompt` of both rounds, and `few_shot` of the first.

    Raises:
        UserError: The prompt does not exist, or an option has an invalid value.
    """

    def __init__(
        self,
        prompt: str = "lettered",
        check_prompt: str = "true_or_false",
        generated: bool = True,
        answer_by: AnswerBy = "letter",
        normalize: Normalize = "none",
        max_tokens: int = 10,
        **options: Unpack[PromptOptions],
    ) -> None:
        self.generated, self.max_tokens = generated, max_tokens
        self.first: MultipleChoice | MultipleChoiceGenerated = (
            MultipleChoiceGenerated(prompt, max_tokens, **options)
            if generated
            else MultipleChoice(prompt, answer_by, normalize, **options)
        )
        self.check_prompt = replace(self.first.prompt, template=load_prompt(check_prompt), few_shot=0)

    @property
    def prompt(self) -> PromptFormat:  # type: ignore[override]
        """The prompts of the first round."""
        return self.first.prompt

    @property
    def prompts(self) -> tuple[PromptFormat, ...]:
        """The prompts of both rounds."""
        return self.prompt, self.check_prompt

    def gold_text(self, item: Item) -> str:
        """As in the first round."""
        return self.first.gold_text(item)

    def show_examples(self, items: Sequence[Item]) -> None:
        """Sets the examples of the first round."""
        self.first.show_examples(items)

    def check(self, item: Item) -> str | None:
        """Requires an item with options."""
        return self.first.check(item)

    async def __call__(self, model: Model, items: Sequence[Item]) -> Evaluation:
        """Runs both rounds and scores them together."""
        proposed = await self.first(model, items)
        answers: list[Response | Unscored] = [
            r.outcome if isinstance(r.outcome, Unscored) else r.response for r in proposed.results
        ]
        letters = [self._letter(item, one) for item, one in zip(items, answers, strict=True)]
        again = [k for k, letter in enumerate(letters) if letter is not None]
        prompts = [self._check_prompt(items[k], letters[k]) for k in again]
        for k, verdict in zip(again, await self._verdicts(model, prompts), strict=True):
            first = proposed.results[k].response
            answers[k] = verdict if isinstance(verdict, Unscored) else replace(first, more=(verdict,))
        results = await item_results(self, items, [r.prompt_hash for r in proposed.results], answers)
        # If the second round failed, the first response is stored, so that rescoring does not see an empty reply.
        results = [
            replace(result, response=first.response) if isinstance(result.outcome, Unscored) else result
            for result, first in zip(results, proposed.results, strict=True)
        ]
        return Evaluation.of(results, proposed.usage + Usage(requests=len(again)))

    async def score(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Outcome]:
        """1, -1 or 0 from the two stored replies."""
        return [self.score_one(item, response) for item, response in zip(items, responses, strict=True)]

    def score_one(self, item: Item, response: Response) -> Outcome:
        """The effective reliability of one item."""
        letter = self._letter(item, response)
        if letter is None:
            return Score(0.0)
        if not response.more:
            return Unscored(Reason.NOT_APPLICABLE, "the response has no second round")
        if extract_yes_no(response.more[0], VERDICTS) == "false":
            return Score(0.0)
        return Score(1.0 if letter == item.answer else -1.0)

    def _letter(self, item: Item, response: Response | Unscored) -> str | None:
        """The option proposed in the first round; None if there is none."""
        if isinstance(response, Unscored):
            return None
        if not self.generated:
            return response.text if response.text in (item.choices or {}) else None
        return extract_letter(response.text, item.choices or {})

    def _check_prompt(self, item: Item, letter: str | None) -> str:
        return self.check_prompt.render(item, proposal=(item.choices or {}).get(letter or "", ""))

    async def _verdicts(self, model: Model, prompts: Sequence[str]) -> list[str | Unscored]:
        if self.generated:
            replies = await model.generate(prompts, max_tokens=self.max_tokens)
            return [one if isinstance(one, Unscored) else one.text for one in replies]
        options = [f"{'' if self.prompt.chat else ' '}{verdict}" for verdict in VERDICTS]
        compared = await model.choice_logprobs(prompts, [options] * len(prompts))
        return [one if isinstance(one, Unscored) else _likelier(one.logprobs) for one in compared]


def _likelier(logprobs: Sequence[float]) -> str | Unscored:
    """The more likely verdict; `true` for a tie."""
    if len(logprobs) != len(VERDICTS) or any(math.isnan(value) for value in logprobs):
        return Unscored(Reason.MALFORMED, f"log-probabilities of true and false: {tuple(logprobs)}")
    return VERDICTS[0] if logprobs[0] >= logprobs[1] else VERDICTS[1]
