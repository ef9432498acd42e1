"""Base class of scorers of generated answers: generate, store the responses, score them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Unpack

from utilities.core import Evaluation, Item, Model, Outcome, Response, Usage
from utilities.errors import UserError
from utilities.prompt_format import PromptOptions, prompt_format
from utilities.prompts import prompt_hash
from utilities.scorers.base import PromptedScorer, item_results

__all__ = ["GenerationScorer"]


class GenerationScorer(PromptedScorer):
    """A scorer that generates, extracts, and scores; subclasses define the score of one response.

    A response without an extractable answer is wrong, not unscored: the model failed, not the measurement. An item is
    unscored if the measurement failed (a prompt too long, an unreachable judge).

    Args:
        prompt: Name, file or text of the template, see `load_prompt`.
        max_tokens: Maximum tokens of a response; the paper generates 10, and 200 for gsm8k.
        stop: Stop sequence or sequences; by default those of the prompt, see `PromptFormat.stop`.
        options: `chat`, `system_prompt` and `few_shot`, see `PromptOptions`.

    Raises:
        UserError: The prompt does not exist, or an option has an invalid value.
    """

    around: Callable[[], AbstractAsyncContextManager[None]] = staticmethod(nullcontext)
    """Context entered while responses are scored; set if the scorer shares the model's GPU."""

    def __init__(
        self, prompt: str = "bare", max_tokens: int = 10, stop: Sequence[str] = (), **options: Unpack[PromptOptions]
    ) -> None:
        if not isinstance(max_tokens, int) or max_tokens < 1:
            raise UserError(f"max_tokens is {max_tokens!r}; a whole number from 1 is accepted")
        self.prompt, self.max_tokens = prompt_format(prompt, **options), max_tokens
        self._stop = (stop,) if isinstance(stop, str) else tuple(stop)

    @property
    def stop(self) -> tuple[str, ...]:
        """The stop sequences."""
        return self._stop or self.prompt.stop

    def check(self, item: Item) -> str | None:
        """Requires an item with an answer."""
        return None if (item.answer or "").strip() else "the item has no answer"

    async def __call__(self, model: Model, items: Sequence[Item]) -> Evaluation:
        """The mean score of the model's responses."""
        prompts = [self.prompt.render(item) for item in items]
        answers = await model.generate(prompts, max_tokens=self.max_tokens, stop=self.stop)
        start = time.perf_counter()
        async with self.around():
            results = await item_results(self, items, [prompt_hash(prompt) for prompt in prompts], answers)
        return Evaluation.of(results, Usage(requests=len(items), seconds=time.perf_counter() - start))

    async def score(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Outcome]:
        """Scores responses, one per item."""
        return [self.score_one(item, response) for item, response in zip(items, responses, strict=True)]

    def score_one(self, item: Item, response: Response) -> Outcome:
        """Scores one response; defined by subclasses."""
        raise NotImplementedError

    def rest(self) -> None:
        """Frees the GPU memory of the scorer's own models until the next call."""
