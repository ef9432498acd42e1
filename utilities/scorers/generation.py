"""What all scorers of generated answers share: ask, keep what was answered, score it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from utilities.core import Evaluation, Item, Model, Outcome, Response, Scorer, Usage
from utilities.errors import UserError
from utilities.prompts import load_prompt, prompt_hash
from utilities.scorers.base import item_results, prompt_variables

__all__ = ["GenerationScorer"]


class GenerationScorer(Scorer):
    """A scorer that generates, extracts, and scores; a subclass says how one response is scored.

    A reply from which nothing can be read is a wrong reply, not an unscored one: it is the model that failed, not the
    measurement. Unscored is what the measurement could not reach (a prompt too long, a judge that did not answer).

    Args:
        prompt: Name of the template in `prompts/`; it sees `question`, `choices` and `preamble`.
        max_tokens: Tokens a response has at most; the paper generates 10, and 200 for gsm8k.
        stop: Texts that end a response, or a single one; by default what the prompt says, see `FrontMatter`.
        chat: Whether the prompt is a user's message, to be put into the model's chat template.

    Raises:
        UserError: There is no such prompt, or no room for a response.
    """

    around: Callable[[], AbstractAsyncContextManager[None]] = staticmethod(nullcontext)
    """Entered while responses are scored; set where the scorer shares the model's GPU."""

    def __init__(
        self, prompt: str = "bare", max_tokens: int = 10, stop: Sequence[str] = (), chat: bool = False
    ) -> None:
        if not isinstance(max_tokens, int) or max_tokens < 1:
            raise UserError(f"max_tokens is {max_tokens!r}; a whole number from 1 is accepted")
        self.prompt, self.max_tokens = load_prompt(prompt), max_tokens
        own = () if chat else self.prompt.stop
        self.stop = (stop,) if isinstance(stop, str) else tuple(stop) or own
        self.chat = chat

    def check(self, item: Item) -> str | None:
        """An item without an answer cannot be scored here."""
        return None if (item.answer or "").strip() else "the item has no answer"

    async def __call__(self, model: Model, items: Sequence[Item]) -> Evaluation:
        """The mean score of the model's responses."""
        prompts = [self.prompt.render(**prompt_variables(item)) for item in items]
        # A model of one's own need not know chat templates as long as nobody asks for one.
        chat = {"chat": True} if self.chat else {}
        answers = await model.generate(prompts, max_tokens=self.max_tokens, stop=self.stop, **chat)
        start = time.perf_counter()
        async with self.around():
            results = await item_results(self, items, [prompt_hash(prompt) for prompt in prompts], answers)
        return Evaluation.of(results, Usage(requests=len(items), seconds=time.perf_counter() - start))

    async def score(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Outcome]:
        """Scores responses, one an item."""
        return [self.score_one(item, response) for item, response in zip(items, responses, strict=True)]

    def score_one(self, item: Item, response: Response) -> Outcome:
        """Scores one response; what a subclass defines."""
        raise NotImplementedError

    def rest(self) -> None:
        """Frees the GPU memory of the scorer's own models until the next call."""
