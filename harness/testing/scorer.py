"""What every scorer must do, as pytest tests."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from hashlib import sha256

import pytest

from utilities.core import (
    ChoiceLogprobs,
    Evaluation,
    Item,
    Model,
    Reason,
    Response,
    Score,
    Scorer,
    Unscored,
)

__all__ = ["ConstantModel", "ScorerConformance"]


class ConstantModel:
    """A model without weights: it generates the given texts in turn, and its log-probabilities depend on the text only.

    Args:
        texts: Generated texts, the first for the first prompt; repeated if there are more prompts.
        missing: Prompts that contain one of these texts get no answer.
    """

    def __init__(self, texts: Sequence[str], missing: Sequence[str] = ()) -> None:
        self.texts, self.missing = texts, missing

    async def generate(
        self, prompts: Sequence[str], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> list[Response | Unscored]:
        """The texts in turn."""
        return [
            self._missing(prompt) or Response(self.texts[k % len(self.texts)], tokens=3)
            for k, prompt in enumerate(prompts)
        ]

    async def choice_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[ChoiceLogprobs | Unscored]:
        """Log-probabilities between -8 and 0, from a hash of prompt and option."""

        def logprob(prompt: str, option: str) -> float:
            return -sha256(f"{prompt}|{option}".encode()).digest()[0] / 32

        return [
            self._missing(prompt)
            or ChoiceLogprobs(tuple(logprob(prompt, one) for one in own), tuple(max(1, len(one)) for one in own))
            for prompt, own in zip(prompts, options, strict=True)
        ]

    def _missing(self, prompt: str) -> Unscored | None:
        unanswered = any(text in prompt for text in self.missing)
        return Unscored(Reason.TRUNCATED, "prompt too long") if unanswered else None


class ScorerConformance:
    """Checks a scorer on a few items of your own, whose questions differ.

    A scorer gives one outcome an item in the order of the items, scores stored responses as it scored them first, keeps
    the reason of an item without an answer, and returns finite numbers within its `bounds`.

    Example:
        >>> import pytest
        >>> from harness.testing import ScorerConformance
        >>> from utilities import ExactMatch, Item
        >>> class TestExactMatch(ScorerConformance):
        ...     @pytest.fixture
        ...     def scorer(self):
        ...         return ExactMatch()
        ...
        ...     @pytest.fixture
        ...     def items(self):
        ...         return [Item(id=str(k), question=f"What is {k} + 1?", answer=str(k + 1)) for k in range(4)]
        ...
        ...     @pytest.fixture
        ...     def texts(self):  # responses to the items: at least two with different scores
        ...         return ["1", "It is 2.", "7"]
    """

    @pytest.fixture
    def scorer(self) -> Scorer:
        """The scorer; override it."""
        raise NotImplementedError("override the fixture `scorer`")

    @pytest.fixture
    def items(self) -> Sequence[Item]:
        """At least three items that it can score; override it."""
        raise NotImplementedError("override the fixture `items`")

    @pytest.fixture
    def texts(self) -> Sequence[str]:
        """Responses to the items, in turn; override it if the scorer reads generated text."""
        return ["A", "B", "no answer"]

    @staticmethod
    def evaluate(scorer: Scorer, model: Model, items: Sequence[Item]) -> Evaluation:
        """The evaluation of a model."""

        async def run() -> Evaluation:
            return await scorer(model, items)

        return asyncio.run(run())

    def test_it_accepts_its_items(self, scorer: Scorer, items: Sequence[Item]) -> None:
        """`check` returns None for items that can be scored."""
        assert len(items) >= 3
        assert [scorer.check(item) for item in items] == [None] * len(items)

    def test_it_returns_one_outcome_an_item_in_order(
        self, scorer: Scorer, items: Sequence[Item], texts: Sequence[str]
    ) -> None:
        """Results are in the order of the items, and the value is the mean of finite scores."""
        evaluation = self.evaluate(scorer, ConstantModel(texts), items)
        assert [result.item_id for result in evaluation.results] == [item.id for item in items]
        scores = [one.outcome.value for one in evaluation.results if isinstance(one.outcome, Score)]
        assert (evaluation.n, evaluation.n_unscored) == (len(scores), len(items) - len(scores))
        assert evaluation.value is not None, evaluation.problem
        assert math.isfinite(evaluation.value)
        assert evaluation.value == pytest.approx(math.fsum(scores) / len(scores))

    def test_scores_are_within_its_bounds(self, scorer: Scorer, items: Sequence[Item], texts: Sequence[str]) -> None:
        """`bounds`, if the scorer declares them, hold for every score."""
        low, high = getattr(scorer, "bounds", None) or (-math.inf, math.inf)
        evaluation = self.evaluate(scorer, ConstantModel(texts), items)
        for result in evaluation.results:
            assert isinstance(result.outcome, Unscored) or low <= result.outcome.value <= high

    def test_stored_responses_score_as_they_did_first(
        self, scorer: Scorer, items: Sequence[Item], texts: Sequence[str]
    ) -> None:
        """`score` needs no model, and returns the outcomes of the evaluation; also in another order."""
        results = self.evaluate(scorer, ConstantModel(texts), items).results
        responses = [result.response for result in results]
        outcomes = asyncio.run(scorer.score(items, responses))
        assert outcomes == [result.outcome for result in results]
        rotated = asyncio.run(scorer.score([*items[1:], items[0]], [*responses[1:], responses[0]]))
        assert rotated == [*outcomes[1:], outcomes[0]]
        assert asyncio.run(scorer.score([], [])) == []

    def test_an_item_without_an_answer_keeps_its_reason(
        self, scorer: Scorer, items: Sequence[Item], texts: Sequence[str]
    ) -> None:
        """What the model could not answer is unscored with the model's reason; the other items are scored."""
        evaluation = self.evaluate(scorer, ConstantModel(texts, missing=[items[1].question]), items)
        outcome = evaluation.results[1].outcome
        assert isinstance(outcome, Unscored)
        assert outcome.reason is Reason.TRUNCATED
        assert evaluation.n_unscored == 1
        assert evaluation.n == len(items) - 1

    def test_without_any_answer_there_is_no_value(
        self, scorer: Scorer, items: Sequence[Item], texts: Sequence[str]
    ) -> None:
        """A failure is no low value: it is None with a reason."""
        evaluation = self.evaluate(scorer, ConstantModel(texts, missing=[item.question for item in items]), items)
        assert evaluation.value is None
        assert evaluation.problem
