"""The local engine on a GPU, beside the battery: memory that is too small, precision, and a search that repeats.

python -m pytest -m slow tests/harness/engines/test_local_engine_cuda.py
python -m pytest -m slow tests/harness/engines/test_engine_battery.py -k cuda
"""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
import torch

from harness.embedded import BASE, expert_folders
from harness.engines.local import LocalEngine
from harness.engines.settings import EngineSettings
from harness.experts.pool import open_pool
from utilities.errors import UserError
from utilities.tasks import load_task

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]

ROWS = [None, *np.random.default_rng(0).normal(size=(3, 5)) / 2]


@pytest.fixture(scope="module")
def pool():
    return open_pool([str(folder) for folder in expert_folders()[:5]], BASE)


@pytest.fixture(scope="module")
def questions():
    items = [i for s in load_task("medical", edition="mini", limit=50).item_sets.values() for i in s.dev]
    return [item.question for item in items], [[f" {text}" for text in item.choices.values()] for item in items]


def answers(pool, questions, device="cuda", rows=ROWS, **settings):
    engine = LocalEngine(BASE, pool, EngineSettings(device=device, **settings))
    try:
        return engine, [asyncio.run(engine.particle(row).choice_logprobs(*questions)) for row in rows]
    finally:
        engine.close()


def values(found):
    return np.concatenate([answer.logprobs for answers in found for answer in answers])


def fill():
    """Takes what memory torch may still have, in ever smaller pieces."""
    for size in (1 << 24, 1 << 21, 1 << 19, 1 << 14, 1 << 9):
        while True:
            try:
                yield torch.empty(size, dtype=torch.uint8, device="cuda")
            except torch.OutOfMemoryError:
                break


def test_auto_takes_the_gpu_and_bfloat16_and_answers_about_the_same(pool, questions):
    engine, found = answers(pool, questions, device="auto")
    assert engine.device.startswith("cuda")
    _, exact = answers(pool, questions, dtype="float32")
    apart = np.abs(values(found) - values(exact))
    assert 1e-4 < apart.mean() < 0.1  # it is another precision, and the same model
    chosen = [[max(range(len(a.logprobs)), key=a.logprobs.__getitem__) for a in one] for one in (found[0], exact[0])]
    assert np.mean(np.array(chosen[0]) == np.array(chosen[1])) > 0.9


def test_particles_leave_the_base_model_as_it_was_and_repeat_to_the_bit(pool, questions):
    _, found = answers(pool, questions, rows=[None, *ROWS[1:], None, *ROWS[1:]], dtype="float32")
    assert found[:4] == found[4:]


def test_a_gpu_that_is_too_small_for_the_batch_gets_smaller_ones(pool, questions):
    """A fraction of the card is all that torch may take: real refusals of memory, on any card."""
    prompts, options = ([text * 4 for text in questions[0]] * 20, questions[1] * 20)
    _, expected = answers(pool, (prompts, options), rows=ROWS[:2], dtype="float32", batch_tokens=4096)
    total = torch.cuda.get_device_properties(0).total_memory
    engine = LocalEngine(BASE, pool, EngineSettings(device="cuda", dtype="float32", batch_tokens=1 << 20))
    try:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (160 << 20)) / total)
        found = [asyncio.run(engine.particle(row).choice_logprobs(prompts, options)) for row in ROWS[:2]]
        assert engine.state()["batch_tokens"] < 1 << 20
        filling = list(fill())
        with pytest.raises(UserError, match=r"out of memory on cuda.*--dtype bfloat16"):
            asyncio.run(engine.particle(None).generate(prompts[:8], max_tokens=8))
        filling.clear()
        assert len(asyncio.run(engine.particle(None).generate(prompts[:8], max_tokens=8))) == 8  # and it goes on
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        engine.close()
    np.testing.assert_allclose(values(found), values(expected), atol=1e-3, rtol=0)


def test_a_search_on_the_gpu_repeats(base, adapters, tmp_path):
    pytest.importorskip("pyarrow", reason="records are kept in parquet files")
    from harness.run.adapt import adapt
    from harness.run_folder.events import Bus
    from harness.run_folder.store import Store
    from harness.session.session import open_session
    from harness.session.settings import run_settings

    def result(name):
        flat = {"task": "medical", "edition": "mini", "limit": 8, "base_model": str(base), "particles": 5}
        flat |= {"iterations": 3, "experts": [str(folder) for folder in adapters], "device": "cuda"}
        store = Store.create(tmp_path / name, {})
        try:
            found = json.loads(adapt(open_session(run_settings(flat)), store, Bus()).model_dump_json())
        finally:
            store.close()
        for lasting in ("seconds", "time_share", "run", "cached_answers"):
            del found[lasting]
        del found["winner"]["adapter"]
        return found

    assert result("one") == result("two")
