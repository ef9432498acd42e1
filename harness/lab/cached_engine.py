"""An engine that caches answers, so that designs with the same prompt for the same adapter share them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.engines.base import Engine
from harness.swarm.drivers import row_key
from utilities.core import ChoiceLogprobs, Model, Response, Unscored

__all__ = ["CachingEngine"]


class _CachingModel:
    """A model that caches its answers; failures are not cached."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._answers: dict[Any, Any] = {}

    async def generate(
        self, prompts: Sequence[str], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> list[Response | Unscored]:
        options = (max_tokens, tuple(stop))
        new = list(dict.fromkeys(prompt for prompt in prompts if (prompt, options) not in self._answers))
        answers = await self._model.generate(new, max_tokens=max_tokens, stop=stop) if new else []
        fresh = {(prompt, options): answer for prompt, answer in zip(new, answers, strict=True)}
        return self._cache(fresh, [(prompt, options) for prompt in prompts])

    async def choice_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[ChoiceLogprobs | Unscored]:
        keys = [(prompt, tuple(one)) for prompt, one in zip(prompts, options, strict=True)]
        new = list(dict.fromkeys(key for key in keys if key not in self._answers))
        answers = (
            await self._model.choice_logprobs([prompt for prompt, _ in new], [one for _, one in new]) if new else []
        )
        return self._cache(dict(zip(new, answers, strict=True)), keys)

    def _cache(self, fresh: dict[Any, Any], keys: Sequence[Any]) -> list[Any]:
        self._answers |= {key: answer for key, answer in fresh.items() if not isinstance(answer, Unscored)}
        return [fresh[key] if key in fresh else self._answers[key] for key in keys]


class CachingEngine:
    """An engine whose models cache their answers in memory.

    Args:
        engine: Answers the prompts that are not cached.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name, self.times, self.notes, self.device = engine.name, engine.times, engine.notes, engine.device
        self._models: dict[bytes | None, _CachingModel] = {}

    def particle(self, row: NDArray[np.float64] | None) -> Model:
        """The model of a row; equal rows share one model."""
        key = None if row is None else row_key(row)
        if key not in self._models:
            self._models[key] = _CachingModel(self.engine.particle(row))
        return self._models[key]

    def forget(self) -> None:
        """Clears the cache."""
        self._models.clear()

    def state(self) -> dict[str, Any]:
        """The state of the engine."""
        return self.engine.state()

    def close(self) -> None:
        """Closes the engine."""
        self.engine.close()
