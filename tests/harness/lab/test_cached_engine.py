"""The same question to the same model is asked once, whatever designs want the answer."""

import asyncio

import numpy as np

from harness.engines.base import Times
from harness.lab.cached_engine import CachingEngine
from harness.lab.measure import random_mixtures
from utilities.core import ChoiceLogprobs, Reason, Response, Unscored


class Counting:
    name, device, notes = "counting", "here", []
    times = Times()

    def __init__(self):
        self.asked = []

    def particle(self, row):
        return self

    async def generate(self, prompts, *, max_tokens, stop=()):
        self.asked += [(prompt, max_tokens) for prompt in prompts]
        lost = Unscored(Reason.TRANSPORT, "lost")
        return [lost if prompt == "lost" else Response(prompt.upper()) for prompt in prompts]

    async def choice_logprobs(self, prompts, options):
        self.asked += list(zip(prompts, options, strict=True))
        return [ChoiceLogprobs(tuple(map(float, map(len, o))), tuple(1 for _ in o)) for o in options]


def test_answers_are_remembered_by_model_prompt_and_length():
    engine = Counting()
    caching = CachingEngine(engine)
    model = caching.particle(np.array([1.0, 0.0]))
    first = asyncio.run(model.generate(["a", "b", "a"], max_tokens=3))
    again = asyncio.run(caching.particle(np.array([1.0, -0.0])).generate(["b", "c"], max_tokens=3))
    assert [one.text for one in [*first, *again]] == ["A", "B", "A", "B", "C"]
    assert engine.asked == [("a", 3), ("b", 3), ("c", 3)]
    asyncio.run(model.generate(["a"], max_tokens=4))
    asyncio.run(caching.particle(np.array([0.0, 1.0])).generate(["a"], max_tokens=3))
    caching.forget()
    asyncio.run(caching.particle(np.array([1.0, 0.0])).generate(["a"], max_tokens=3))
    assert engine.asked[3:] == [("a", 4), ("a", 3), ("a", 3)]


def test_a_failure_is_asked_again():
    engine = Counting()
    model = CachingEngine(engine).particle(None)
    for _ in range(2):
        assert isinstance(asyncio.run(model.generate(["lost"], max_tokens=3))[0], Unscored)
    assert len(engine.asked) == 2


def test_options_are_part_of_the_question():
    engine = Counting()
    model = CachingEngine(engine).particle(None)
    found = [asyncio.run(model.choice_logprobs(["q"], [options])) for options in (["a", "bb"], ["a"], ["a", "bb"])]
    assert found[0] == found[2]
    assert found[0][0].logprobs == (1.0, 2.0)
    assert len(engine.asked) == 2


def test_a_cloud_lies_between_two_experts_each_and_is_the_seeds():
    rows = random_mixtures(5, 40, seed=1)
    assert np.allclose(rows.sum(1), 1)
    assert ((rows > 0).sum(1) == 2).all()
    assert (rows == random_mixtures(5, 40, seed=1)).all()
    assert (rows != random_mixtures(5, 40, seed=2)).any()
    alone = random_mixtures(1, 4, seed=1)
    assert ((alone > 0) & (alone < 1)).all()
