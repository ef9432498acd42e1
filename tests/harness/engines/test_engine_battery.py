"""What every engine must do, a row an engine, and in the numbers of the local one; skipped where one is not installed.

The embedded model in float32 stands for all: five of its experts, and mixtures of them.
"""

from __future__ import annotations

import asyncio
import importlib.util

import numpy as np
import pytest
import torch

from harness.embedded import BASE, expert_folders
from harness.engines.base import engines
from harness.engines.settings import EngineSettings
from harness.experts.pool import open_pool
from utilities.core import ChoiceLogprobs, Reason, Response, Unscored
from utilities.errors import UserError
from utilities.tasks import load_task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ENGINES = ["local", "local on cuda", "vllm", "remote", "ray", "ray of vllm"]
NEEDS = {"vllm": ("vllm",), "remote": ("vllm",), "ray": ("ray",), "ray of vllm": ("ray", "vllm")}
"""Packages; the remote engine is tested against vLLM's own server."""
EXPERTS = expert_folders()[:5]
MARGIN = 1e-3
"""Of log-probabilities, and of the two best options where the greedy choice must be the same."""
MIXTURES = [np.full(5, 0.2), np.array([0.9, -0.3, 0.4, 0.2, 0.1]), np.array([0.0, 0.0, 1.3, 0.0, -0.2])]
MIXTURES += [np.tile(MIXTURES[1], 4) + np.repeat([0.3, -0.1, 0.2, -0.4], 5)]  # other coefficients in each layer
PARITY_ITEMS = 200


@pytest.fixture(scope="module")
def pool():
    return open_pool([str(folder) for folder in EXPERTS], BASE).grouped("layer")


@pytest.fixture(scope="module")
def local(pool):
    engine = engines.get("local")(BASE, pool, EngineSettings(dtype="float32", device="cpu"), {})
    yield engine
    engine.close()


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, pool):
    """One engine at a time: the next one starts when the tests of this one are done."""
    for needed in NEEDS.get(request.param, ()):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    if request.param == "local on cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    name, _, device = request.param.removesuffix(" of vllm").partition(" on ")
    settings = {"dtype": "float32", "device": device or "cpu", "adapter_slots": 6}
    if request.param == "remote":
        settings["base_url"] = request.getfixturevalue("vllm_server").url
    if request.param == "ray":
        settings |= {"workers": 2, "worker_engine": "local"}
    if request.param == "ray of vllm":
        settings |= {"workers": 1, "worker_engine": "vllm"}
    engine = engines.get(name)(BASE, pool, EngineSettings(**settings), {})
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def questions():
    """Prompts and options of 200 items, short ones and cases."""
    task = load_task("medical", edition="mini", limit=PARITY_ITEMS // 2)
    items = [item for s in task.item_sets.values() for item in s.dev]
    assert len(items) == PARITY_ITEMS
    return [item.question for item in items], [[f" {text}" for text in item.choices.values()] for item in items]


def ask(engine, rows, prompts, options):
    async def all_rows():
        return await asyncio.gather(*(engine.particle(row).choice_logprobs(prompts, options) for row in rows))

    return asyncio.run(all_rows())


def tell(engine, rows, prompts, **options):
    async def all_rows():
        return await asyncio.gather(*(engine.particle(row).generate(prompts, **options) for row in rows))

    return asyncio.run(all_rows())


class TestEngine:
    """The shared battery."""

    def test_log_probabilities_and_greedy_choices_are_those_of_the_local_engine(self, engine, local, questions, capsys):
        rows = list(np.eye(5))
        found, expected = ask(engine, rows, *questions), ask(local, rows, *questions)
        exceptions = []
        for k, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
            for n, (a, b) in enumerate(zip(mine, theirs, strict=True)):
                assert a.tokens == b.tokens
                np.testing.assert_allclose(a.logprobs, b.logprobs, atol=MARGIN, rtol=0)
                best, second = sorted(b.logprobs)[-2:][::-1]
                if np.argmax(a.logprobs) != np.argmax(b.logprobs):
                    exceptions.append((EXPERTS[k].name, n, best - second))
        with capsys.disabled():
            print(f"\n{engine.name}: {len(exceptions)} of {5 * PARITY_ITEMS} greedy choices differ: {exceptions}")
        assert all(margin <= MARGIN for _, _, margin in exceptions)

    def test_generated_texts_are_those_of_the_local_engine(self, engine, local, questions):
        prompts = questions[0][:12]
        rows = [*MIXTURES, None]
        for options in ({"max_tokens": 12}, {"max_tokens": 12, "stop": [".", " of"]}):
            found, expected = tell(engine, rows, prompts, **options), tell(local, rows, prompts, **options)
            assert found == expected

    def test_particles_that_are_asked_together_answer_as_they_do_alone(self, engine, questions):
        prompts, options = questions[0][:20], questions[1][:20]
        rows = [*np.eye(5), *MIXTURES, None]  # more than there are slots
        together = ask(engine, rows, prompts, options)
        for row, answers in zip(rows, together, strict=True):
            (alone,) = ask(engine, [row], prompts, options)
            for a, b in zip(answers, alone, strict=True):
                np.testing.assert_allclose(a.logprobs, b.logprobs, atol=MARGIN, rtol=0)
        values = np.array([[a.logprobs[0] for a in answers] for answers in together])
        assert len(np.unique(values.round(3), axis=0)) == len(rows)

    def test_a_row_of_zeros_is_the_base_model(self, engine, questions):
        prompts, options = questions[0][:5], questions[1][:5]
        zero, base = ask(engine, [np.zeros(5), None], prompts, options)
        for a, b in zip(zero, base, strict=True):
            np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-6, rtol=0)

    def test_options_of_one_token_and_of_many_agree_with_the_local_engine(self, engine, local):
        prompts = ["The answer is", "Answer: B, then"]
        options = [[" A", " B", " C"], [" a", " a very long answer", " B"]]
        (found,), (expected,) = (ask(e, [MIXTURES[1]], prompts, options) for e in (engine, local))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a.logprobs, b.logprobs, atol=MARGIN, rtol=0)

    def test_what_does_not_fit_is_unscored_in_its_place(self, engine):
        prompts = ["short", "long " * 3000, "short too"]
        (found,) = tell(engine, [None], prompts, max_tokens=4)
        assert [type(one) for one in found] == [Response, Unscored, Response]
        assert found[1].reason is Reason.TRUNCATED
        (found,) = ask(engine, [MIXTURES[0]], prompts, [[" a", " b"]] * 3)
        assert [type(one) for one in found] == [ChoiceLogprobs, Unscored, ChoiceLogprobs]

    def test_nothing_asked_is_nothing_answered(self, engine):
        assert tell(engine, [None, MIXTURES[0]], [], max_tokens=4) == [[], []]
        assert ask(engine, [MIXTURES[0]], [], []) == [[]]

    def test_a_chat_template_that_the_base_model_lacks_is_said_in_words(self, engine):
        with pytest.raises(UserError, match="chat template"):
            tell(engine, [None], ["hello"], max_tokens=4, chat=True)

    def test_it_says_where_it_computes_and_how_long(self, engine):
        assert engine.device and engine.times.forward > 0
