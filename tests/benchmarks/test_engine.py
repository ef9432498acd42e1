"""Log-likelihoods of 400 questions' options: all options of a question in one sequence, beside each in its own."""

import asyncio
import time

import numpy as np
import pytest

from harness.embedded import BASE
from harness.engines.local import LocalEngine
from harness.engines.settings import EngineSettings
from utilities.prompts import load_prompt
from utilities.tasks import load_task

pytestmark = pytest.mark.benchmark

QUESTIONS, REPEATS = 400, 3


@pytest.mark.parametrize(("prompt", "answer_by"), [("plain", "text"), ("lettered", "letter")])
def test_shared_prefix(prompt, answer_by, base, capsys):
    embedded = (BASE / "model.safetensors").is_file()
    sets = load_task("medical", edition="mini").item_sets.values()
    items = [item for s in sets for item in (*s.test, *s.dev) if len(item.choices) == 4][:QUESTIONS]
    assert len(items) == QUESTIONS
    template = load_prompt(prompt)
    prompts = [template.render(question=item.question, choices=item.choices) for item in items]
    options = [
        [f" {text}" for text in (item.choices if answer_by == "letter" else item.choices.values())] for item in items
    ]
    engines = {}
    for shared in (True, False):
        engine = LocalEngine(BASE if embedded else base, None, EngineSettings(device="cpu", dtype="float32"))
        assert engine._packs  # the model allows it
        engine._packs = shared
        engines[shared] = engine

    def answers(shared):
        return asyncio.run(engines[shared].particle(None).choice_logprobs(prompts, options))

    seconds = {True: [], False: []}
    try:
        together, apart = (np.array([answer.logprobs for answer in answers(shared)]) for shared in (True, False))
        np.testing.assert_allclose(together, apart, atol=1e-3, rtol=0)
        for _ in range(REPEATS):
            for shared, taken in seconds.items():
                start = time.perf_counter()
                answers(shared)
                taken.append(time.perf_counter() - start)
    finally:
        for engine in engines.values():
            engine.close()
    with capsys.disabled():
        model, tokens = "embedded model" if embedded else "tiny model", engine.tokenizer(prompts)["input_ids"]
        mean = sum(map(len, tokens)) / QUESTIONS
        print(f"\n{QUESTIONS} questions of four options, {model}, prompt {prompt!r} of {mean:.0f} tokens on average")
        for name, taken in (("shared prefix", seconds[True]), ("without", seconds[False])):
            print(f"  {name:14}{min(taken):6.2f} s, {QUESTIONS / min(taken):.0f} questions a second")
        print(f"  ratio         {min(seconds[False]) / min(seconds[True]):6.2f}")
