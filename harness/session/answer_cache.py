"""Answers of the base model and of the experts, stored in the user's cache folder and shared by all runs.

Another seed, optimiser or scorer sends the same prompts to the same models. The key of a stored list of answers is a
hash of all that determines them: model, prompts, engine, software and processor. So a run with the cache has exactly
the results of a run without it. Scores are never stored: answers are scored anew, by the judge's own cache if judged.
"""

from __future__ import annotations

import json
import math
import os
import platform
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from pydantic_core import to_json

import harness.engines
import harness.experts
from harness.engines.base import Engine
from harness.engines.settings import EngineSettings
from harness.experts.files import content_hash
from harness.experts.lora_pool import LoraPool
from harness.experts.pool import Pool
from utilities.cache_folder import cache_folder
from utilities.core import Chat, ChoiceLogprobs, Model, Response, Unscored

__all__ = ["AnswerCache", "CachedModel", "answers_folder"]

FORMAT = 1
"""Part of every key, so that entries in an older format are ignored."""

T = TypeVar("T", Response, ChoiceLogprobs)


def answers_folder() -> Path:
    """The folder of the stored answers."""
    return cache_folder() / "answers"


class AnswerCache:
    """Stored answers of one engine's base model and unmixed experts.

    Args:
        engine: An engine whose answers depend on nothing but the model, the prompts and `engine.state()`.
        base: Folder of the base model.
        pool: The experts.
        settings: Those of the engine.
        folder: Where entries are stored; by default in the user's cache folder.
    """

    def __init__(
        self, engine: Engine, base: Path, pool: Pool, settings: EngineSettings, folder: Path | None = None
    ) -> None:
        self._engine, self._pool, self._folder = engine, pool, folder or answers_folder()
        self.reused = 0
        """Answers that were read."""
        self._fixed = _hashed(
            FORMAT, _software(), engine.device, _processor(engine.device), settings.model_dump(mode="json"),
            content_hash(base),
        )  # fmt: skip

    def model(self, row: NDArray[np.float64] | None) -> Model:
        """The engine's model of a row; if it is the base model or one expert, its answers are stored and reused."""
        model = self._engine.particle(row)
        if row is None:
            return CachedModel(self, model, "base")
        if row.size != len(self._pool.experts) or np.count_nonzero(row) != 1 or row.max() != 1.0:
            return model
        # Adapters are rescaled to the first expert's scaling, which rounds.
        scaling = sorted(self._pool.scaling.items()) if isinstance(self._pool, LoraPool) else None
        expert = self._pool.experts[int(row.argmax())]
        return CachedModel(self, model, _hashed(self._pool.kind, scaling, content_hash(expert.folder)))

    def key(self, model: str, request: object) -> str:
        """The key of a model's answers to a request in the engine's present state."""
        return _hashed(self._fixed, self._engine.state(), model, request)

    def get(self, key: str) -> str | None:
        """The JSON text under a key; None if there is none, or if it is not exactly as it was stored."""
        try:
            digest, _, text = (self._folder / key).read_text(encoding="utf-8").partition("\n")
        except (OSError, ValueError):
            return None
        return text if digest == _hashed(key, text) else None

    def put(self, key: str, text: str) -> None:
        """Stores a JSON text. A folder that cannot be written is no error: the cache only saves time."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor, partial = tempfile.mkstemp(dir=self._folder, prefix=".")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(f"{_hashed(key, text)}\n{text}")
                Path(partial).replace(self._folder / key)
            except BaseException:
                Path(partial).unlink()
                raise


class CachedModel:
    """A model whose lists of answers are stored.

    A list is stored as a whole, since the answers of another list may differ in the last bit.
    """

    def __init__(self, answers: AnswerCache, model: Model, identity: str) -> None:
        self._answers, self._model, self._identity = answers, model, identity
        self.sent = 0
        """Prompts that were not in the cache."""

    async def generate(
        self, prompts: Sequence[str], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> list[Response | Unscored]:
        """Greedy continuations, as those of the model."""
        request = ("generate", _typed(prompts), max_tokens, list(stop))

        def fits(k: int, answer: Response) -> bool:
            return answer.tokens <= max_tokens

        return await self._once(
            prompts, request, fits, lambda: self._model.generate(prompts, max_tokens=max_tokens, stop=stop)
        )

    async def choice_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[ChoiceLogprobs | Unscored]:
        """Log-probabilities of options, as those of the model."""
        request = ("choice_logprobs", _typed(prompts), [list(each) for each in options])

        def fits(k: int, answer: ChoiceLogprobs) -> bool:
            numbers = len(options[k]) == len(answer.logprobs) == len(answer.tokens)
            return numbers and not any(map(math.isnan, answer.logprobs))

        return await self._once(prompts, request, fits, lambda: self._model.choice_logprobs(prompts, options))

    async def _once(
        self,
        prompts: Sequence[str],
        request: object,
        fits: Callable[[int, T], bool],
        answer: Callable[[], Awaitable[list[T | Unscored]]],
    ) -> list[T | Unscored]:
        """The stored answers; without valid ones, those of the model, which are stored."""
        kind = ChoiceLogprobs if isinstance(request, tuple) and request[0] == "choice_logprobs" else Response
        key = self._answers.key(self._identity, request)
        if (text := self._answers.get(key)) is not None:
            with suppress(ValueError):
                stored: list[T | Unscored] = _lists(kind).validate_json(text)
                fitting = (isinstance(one, Unscored) or fits(k, one) for k, one in enumerate(stored))
                if len(stored) == len(prompts) and all(fitting):
                    self._answers.reused += len(stored)
                    return stored
        answers = await answer()
        self.sent += len(prompts)
        if key == self._answers.key(self._identity, request):  # else batches became smaller meanwhile
            with suppress(ValueError):  # a text that is not valid Unicode
                self._answers.put(key, to_json(answers, inf_nan_mode="strings").decode())
        return answers


@cache
def _lists(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(list[kind | Unscored])  # type: ignore[valid-type]


def _typed(prompts: Sequence[str]) -> list[tuple[bool, str]]:
    """The prompts, with whether they are conversations."""
    return [(isinstance(prompt, Chat), prompt) for prompt in prompts]


def _hashed(*parts: object) -> str:
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def _software() -> str:
    """Hash of the code that turns prompts into answers, and of the libraries that it uses."""
    import torch

    rooms = [Path(file).parent for package in (harness.engines, harness.experts) if (file := package.__file__)]
    sources = [path.read_text(encoding="utf-8") for room in rooms for path in sorted(room.glob("*.py"))]
    packages = {name: version(name) for name in ("torch", "transformers", "tokenizers", "safetensors", "numpy")}
    return _hashed(sources, packages, platform.python_version(), torch.__config__.show())


def _processor(device: str) -> object:
    """What the rounding of matrix products depends on: the processor and its threads, or the GPU."""
    import torch

    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    names = [line for line in _cpu_info() if line.startswith(("model name", "flags", "Features"))]
    return (gpu, platform.machine(), platform.processor(), names[:2], torch.__config__.parallel_info())


def _cpu_info() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
