"""What every engine must do, as pytest tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.embedded import BASE, expert_folders
from harness.engines.base import Engine, engines
from harness.engines.settings import EngineSettings
from harness.experts.pool import Pool, open_pool
from utilities.core import Chat, ChoiceLogprobs, Reason, Response, Unscored
from utilities.errors import UserError
from utilities.tasks import load_task

__all__ = ["EngineConformance"]

Row = NDArray[np.float64]


class EngineConformance:
    """Checks an engine against the local one, on the embedded base model and five of its experts, in float32.

    Log-probabilities agree within `tolerance`, generated texts are equal, particles evaluated together answer as they
    do alone, and what does not fit into the context is unscored in its place.

    Example:
        >>> from harness.testing import EngineConformance
        >>> class TestMyEngine(EngineConformance):
        ...     name = "my_engine"  # registered, or "my_engine.py:MyEngine"
        ...     settings = {"device": "cpu"}
    """

    name = "local"
    """Registered name, or `FILE.py:NAME`."""
    settings: ClassVar[dict[str, Any]] = {}
    """Fields of `EngineSettings`, over float32 on the CPU."""
    tolerance = 1e-3
    """Of log-probabilities, in nats; and of the two best options if the best one must be equal."""
    parity_items = 200
    """Questions on which log-probabilities are compared."""
    mixtures: Sequence[Row] = (
        np.full(5, 0.2),
        np.array([0.9, -0.3, 0.4, 0.2, 0.1]),
        np.array([0.0, 0.0, 1.3, 0.0, -0.2]),
        np.tile([0.9, -0.3, 0.4, 0.2, 0.1], 4) + np.repeat([0.3, -0.1, 0.2, -0.4], 5),  # coefficients for each layer
    )

    @pytest.fixture(scope="class")
    @classmethod
    def base(cls) -> Path:
        """Folder of the base model."""
        return BASE

    @pytest.fixture(scope="class")
    @classmethod
    def pool(cls, base: Path) -> Pool:
        """Five experts, with coefficients for each of four layers."""
        return open_pool([str(folder) for folder in expert_folders()[:5]], base).grouped("layer")

    @pytest.fixture(scope="class")
    @classmethod
    def reference(cls, base: Path, pool: Pool) -> Iterator[Engine]:
        """The local engine."""
        engine = engines.get("local")(base, pool, EngineSettings(dtype="float32", device="cpu"), {})
        yield engine
        engine.close()

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, base: Path, pool: Pool) -> Iterator[Engine]:
        """The engine under test."""
        settings = EngineSettings(**{"dtype": "float32", "device": "cpu", **cls.settings})
        engine = engines.get(cls.name)(base, pool, settings, {})
        yield engine
        engine.close()

    @pytest.fixture(scope="class")
    @classmethod
    def questions(cls) -> tuple[list[str], list[list[str]]]:
        """Prompts and options, short ones and long ones."""
        task = load_task("medical", edition="mini", limit=cls.parity_items // 2)
        items = [item for s in task.item_sets.values() for item in s.dev]
        return (
            [item.question for item in items],
            [[f" {text}" for text in (item.choices or {}).values()] for item in items],
        )

    @staticmethod
    def logprobs(
        engine: Engine, rows: Sequence[Row | None], prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[list[Any]]:
        """Answers of several particles at the same time, [rows][prompts]."""

        async def all_rows() -> list[list[Any]]:
            return await asyncio.gather(*(engine.particle(row).choice_logprobs(prompts, options) for row in rows))

        return asyncio.run(all_rows())

    @staticmethod
    def texts(
        engine: Engine, rows: Sequence[Row | None], prompts: Sequence[str], **options: Any
    ) -> list[list[Response | Unscored]]:
        """Generated responses of several particles at the same time, [rows][prompts]."""

        async def all_rows() -> list[list[Response | Unscored]]:
            return await asyncio.gather(*(engine.particle(row).generate(prompts, **options) for row in rows))

        return asyncio.run(all_rows())

    def test_log_probabilities_agree_with_the_local_engine(
        self, engine: Engine, reference: Engine, questions: Any
    ) -> None:
        """Those of every expert; the best option too, unless the two best are closer than the tolerance."""
        rows: list[Row | None] = list(np.eye(5))
        for mine, theirs in zip(
            self.logprobs(engine, rows, *questions), self.logprobs(reference, rows, *questions), strict=True
        ):
            for a, b in zip(mine, theirs, strict=True):
                assert a.tokens == b.tokens
                np.testing.assert_allclose(a.logprobs, b.logprobs, atol=self.tolerance, rtol=0)
                second, best = sorted(b.logprobs)[-2:]
                assert np.argmax(a.logprobs) == np.argmax(b.logprobs) or best - second <= self.tolerance

    def test_generated_texts_are_those_of_the_local_engine(
        self, engine: Engine, reference: Engine, questions: Any
    ) -> None:
        """Greedy continuations of mixtures and of the base model, with and without stop texts."""
        rows: list[Row | None] = [*self.mixtures, None]
        for options in ({"max_tokens": 12}, {"max_tokens": 12, "stop": [".", " of"]}):
            expected = self.texts(reference, rows, questions[0][:12], **options)
            assert self.texts(engine, rows, questions[0][:12], **options) == expected

    def test_particles_evaluated_together_answer_as_they_do_alone(self, engine: Engine, questions: Any) -> None:
        """Nine models at the same time, each different from the others."""
        prompts, options = questions[0][:20], questions[1][:20]
        rows = [*np.eye(5), *self.mixtures, None]
        together = self.logprobs(engine, rows, prompts, options)
        for row, answers in zip(rows, together, strict=True):
            (alone,) = self.logprobs(engine, [row], prompts, options)
            for a, b in zip(answers, alone, strict=True):
                np.testing.assert_allclose(a.logprobs, b.logprobs, atol=self.tolerance, rtol=0)
        values = np.array([[a.logprobs[0] for a in answers] for answers in together])
        assert len(np.unique(values.round(3), axis=0)) == len(rows)

    def test_a_row_of_zeros_is_the_base_model(self, engine: Engine, questions: Any) -> None:
        """To 1e-6 nats."""
        zero, base = self.logprobs(engine, [np.zeros(5), None], questions[0][:5], questions[1][:5])
        for a, b in zip(zero, base, strict=True):
            np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-6, rtol=0)

    def test_options_of_different_lengths_agree_with_the_local_engine(self, engine: Engine, reference: Engine) -> None:
        """Options of one token and of many, for prompts of different lengths."""
        prompts = ["The answer is", "Answer: B, then"]
        options = [[" A", " B", " C"], [" a", " a very long answer", " B"]]
        (mine,), (theirs,) = (self.logprobs(e, [self.mixtures[1]], prompts, options) for e in (engine, reference))
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(a.logprobs, b.logprobs, atol=self.tolerance, rtol=0)

    def test_what_does_not_fit_is_unscored_in_its_place(self, engine: Engine) -> None:
        """A prompt longer than the context; the prompts around it are answered."""
        prompts = ["short", "long " * 3000, "short too"]
        (texts,) = self.texts(engine, [None], prompts, max_tokens=4)
        assert [type(one) for one in texts] == [Response, Unscored, Response]
        assert isinstance(texts[1], Unscored)
        assert texts[1].reason is Reason.TRUNCATED
        (logprobs,) = self.logprobs(engine, [self.mixtures[0]], prompts, [[" a", " b"]] * 3)
        assert [type(one) for one in logprobs] == [ChoiceLogprobs, Unscored, ChoiceLogprobs]

    def test_no_prompts_give_no_answers(self, engine: Engine) -> None:
        """Empty lists are accepted."""
        assert self.texts(engine, [None, self.mixtures[0]], [], max_tokens=4) == [[], []]
        assert self.logprobs(engine, [self.mixtures[0]], [], []) == [[]]

    def test_a_missing_chat_template_is_a_user_error(self, engine: Engine) -> None:
        """The base model has no chat template."""
        with pytest.raises(UserError, match="chat template"):
            self.texts(engine, [None], [Chat.of([("user", "hello")])], max_tokens=4)

    def test_it_reports_its_device_and_times(self, engine: Engine, questions: Any) -> None:
        """`device` is for people, `times.forward` in seconds."""
        self.logprobs(engine, [None], questions[0][:1], questions[1][:1])
        assert engine.device
        assert engine.times.forward > 0
