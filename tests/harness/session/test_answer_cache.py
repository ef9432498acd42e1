"""Answers of the base model and the experts are computed once for all runs, and never believed on doubt."""

import asyncio
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import refused

from harness.engines.local import LocalEngine
from harness.engines.settings import EngineSettings
from harness.experts.pool import open_pool
from harness.run.adapt import adapt
from harness.run_folder.events import Bus, Evaluated
from harness.run_folder.store import Store
from harness.session import answer_cache
from harness.session.answer_cache import AnswerCache, answers_folder
from harness.session.session import open_session
from harness.session.settings import run_settings
from utilities import statistics
from utilities.core import Chat, Reason, Unscored
from utilities.errors import UserError

PROMPTS, OPTIONS = (
    ["The sky is", "Two and two are", "long " * 600],
    [[" blue", " green"], [" four", " five", " 6"], [" a"]],
)
VARYING = {"seconds", "time_share", "run", "cached_answers"}


@pytest.fixture(scope="module")
def engine(base, adapters):
    engine = LocalEngine(base, open_pool([str(folder) for folder in adapters], base), EngineSettings(device="cpu"))
    yield engine
    engine.close()


@pytest.fixture
def sent(monkeypatch):
    """The number of prompts of every list that the local engine answers."""
    seen = []
    for name in ("choice_logprobs", "generate"):
        answer = getattr(LocalEngine, name)

        def counted(self, prompts, *given, answer=answer):
            seen.append(len(prompts))
            return answer(self, prompts, *given)

        monkeypatch.setattr(LocalEngine, name, counted)
    return seen


def answers_of(engine, row=None, prompts=PROMPTS, base=None, pool=None, **settings):
    """Both kinds of answers of a model through a cache that is opened anew, as every run does."""
    base, pool = base or engine.pool.base.folder, pool or engine.pool
    cache = AnswerCache(engine, base, pool, EngineSettings(**{"device": "cpu", **settings}))
    model = cache.model(None if row is None else np.array(row, dtype=float))

    async def both():
        return await model.choice_logprobs(prompts, OPTIONS), await model.generate(prompts, max_tokens=4, stop=["\n"])

    return asyncio.run(both())


def test_the_second_time_nothing_is_computed_and_every_bit_is_equal(engine, sent):
    for row in (None, [0, 1, 0]):
        first = answers_of(engine, row)
        assert isinstance(first[0][2], Unscored)
        assert first[0][2].reason is Reason.TRUNCATED
        assert sent == [3, 3]
        assert answers_of(engine, row) == first
        assert sent == [3, 3]
        sent.clear()


def test_one_expert_is_known_in_another_pool_and_a_mixture_never(engine, base, adapters, sent):
    first = answers_of(engine, [0, 1, 0])
    sent.clear()
    part = open_pool([str(folder) for folder in adapters[1:]], base)
    other = LocalEngine(base, part, EngineSettings(device="cpu"))
    assert answers_of(other, [1, 0]) == first
    assert sent == []
    computed = answers_of(other, [0.999, 0.0]), answers_of(other, [0.999, 0.0])
    assert sent == [3, 3] * 2
    assert computed[0] == computed[1] != first
    other.close()
    for row in ([0.5, 0.5, 0], [0, 2, 0], [0, -1, 0], [0, 0, 0]):
        sent.clear()
        assert answers_of(engine, row) == answers_of(engine, row)
        assert sent == [3, 3, 3, 3]


def test_what_may_change_an_answer_is_part_of_its_key(engine, base, tmp_path, sent, monkeypatch):
    own = shutil.copytree(base, tmp_path / "base")
    experts = [shutil.copytree(expert.folder, tmp_path / expert.name) for expert in engine.pool.experts]
    pool, threads = open_pool([str(folder) for folder in experts], own), torch.get_num_threads()

    def computed(**given):
        sent.clear()
        answers_of(engine, [1, 0, 0], base=own, pool=pool, **given)
        return sent == [3, 3]

    assert computed()
    assert not computed()
    for setting in ({"dtype": "bfloat16"}, {"attention": "eager"}, {"max_model_len": 256}):
        assert computed(**setting), setting
    assert computed(prompts=["The sky was", *PROMPTS[1:]])
    assert computed(prompts=[*PROMPTS[:2], "short"])
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_batch_tokens", engine._batch_tokens // 2)
        assert computed()
    with monkeypatch.context() as patch:
        patch.setattr(answer_cache, "_software", lambda: "another version")
        assert computed()
    torch.set_num_threads(threads + 1)
    try:
        assert computed()
    finally:
        torch.set_num_threads(threads)
    assert not computed()
    (own / "chat_template.jinja").write_text("{{ messages }}")
    assert computed()
    weights = experts[0] / "adapter_model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert computed()
    assert not computed()


def test_answers_in_smaller_batches_are_not_stored_for_larger_ones(engine, monkeypatch):
    answer = LocalEngine.choice_logprobs

    with monkeypatch.context() as patch:

        def short_of_memory(self, prompts, options):
            patch.setattr(self, "_batch_tokens", self._batch_tokens - 1)
            return answer(self, prompts, options)

        patch.setattr(LocalEngine, "choice_logprobs", short_of_memory)
        answers_of(engine)
    assert len(entries()) == 1  # generated after the batches had become smaller


def test_a_conversation_is_not_the_text_of_it(engine):
    model = AnswerCache(engine, engine.pool.base.folder, engine.pool, EngineSettings(device="cpu")).model(None)
    chat = Chat.of([("user", "hello")])
    asyncio.run(model.generate([str(chat)], max_tokens=2))
    with pytest.raises(UserError, match="chat template"):
        asyncio.run(model.generate([chat], max_tokens=2))


def entries():
    return sorted(answers_folder().iterdir())


def resigned(path, change):
    """Changes the stored answers and makes the hash fit again."""
    answers = change(json.loads(path.read_text().partition("\n")[2]))
    text = json.dumps(answers)
    path.write_text(f"{answer_cache._hashed(path.name, text)}\n{text}")


DAMAGE = {
    "emptied": lambda path: path.write_text(""),
    "truncated": lambda path: path.write_text(path.read_text()[:-9]),
    "one digit edited": lambda path: path.write_text(path.read_text().replace("1", "2")),
    "not a text": lambda path: path.write_bytes(b"\xff\xfe\x00" * 50),
    "of another key": lambda path: path.write_text(next(p for p in entries() if p != path).read_text()),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "too few answers": lambda path: resigned(path, lambda answers: answers[:-1]),
    "of another type": lambda path: resigned(path, lambda answers: ["A" for _ in answers]),
    "an option too few": lambda path: resigned(
        path, lambda answers: [[one[0][:-1], one[1][:-1]] if isinstance(one, list) else one for one in answers]
    ),
    "not a number": lambda path: resigned(
        path, lambda answers: [[["NaN"] * len(one[0]), one[1]] if isinstance(one, list) else one for one in answers]
    ),
    "too many tokens": lambda path: resigned(
        path, lambda answers: [{**one, "tokens": 99} if "tokens" in one else one for one in answers]
    ),
    "nothing but null": lambda path: resigned(path, lambda answers: None),
}


ONE_KIND = {"an option too few", "not a number", "too many tokens"}
"""Damage to the entry of only one of the two kinds of answers."""


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_or_foreign_entry_is_computed_again(damage, engine, sent):
    first = answers_of(engine)
    for path in entries():
        DAMAGE[damage](path)
    assert answers_of(engine) == first
    assert len(sent) == 3 if damage in ONE_KIND else 4


def test_a_folder_that_cannot_be_written_is_no_error(engine, tmp_path, monkeypatch):
    (tmp_path / "model-swarms").write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert answers_of(engine) == answers_of(engine)


@pytest.fixture
def search(base, adapters, tmp_path, monkeypatch):
    """Runs a small search in a new folder; returns its result, its records, and the answered items by particle."""

    monkeypatch.setattr(statistics, "RESAMPLES", 100)

    def run(**changes):
        flat = {"task": "medical", "edition": "mini", "limit": 3, "base_model": str(base), "particles": 4}
        flat |= {"iterations": 1, "experts": [str(folder) for folder in adapters], "device": "cpu", **changes}
        session = open_session(run_settings(flat))
        folder, events, bus = tmp_path / f"run{len(list(tmp_path.iterdir()))}", [], Bus()
        store = Store.create(folder, {"settings": session.settings.model_dump(mode="json")})
        bus.subscribe(events.append)
        try:
            result = json.loads(adapt(session, store, bus).model_dump_json())
        finally:
            store.close()
            session.close()
        records = {path.name: Store(folder).records(path.stem) for path in sorted((folder / "records").iterdir())}
        result["winner"].pop("adapter")
        items = [event.items for event in events if isinstance(event, Evaluated)]
        return result, records, items

    return run


def comparable(result):
    return {name: value for name, value in result.items() if name not in VARYING}


def test_a_run_with_another_seed_finds_its_experts_and_ends_as_without_them(search):
    first, _, items = search(seed=0)
    assert first["cached_answers"] == 0
    assert items[:3] == [6, 6, 6]
    again, records, items = search(seed=1)
    plain, expected, items_without = search(seed=1, cache=False)
    assert comparable(again) == comparable(plain)
    assert records == expected
    assert plain["cached_answers"] == 0
    known = 3 * 6 + 6 + 4 * 6  # experts on dev, base on dev, all four on test
    assert again["cached_answers"] in {known, known + 6}  # more if the best row is an expert
    assert items[:3] == [0, 0, 0]
    assert items_without[:3] == [6, 6, 6]
    assert items[3:] == items_without[3:]


def test_other_engines_and_code_of_the_base_model_have_no_cache(base, adapters):
    flat = {"task": "medical", "edition": "mini", "limit": 2, "base_model": str(base), "device": "cpu"}
    flat |= {"experts": [str(folder) for folder in adapters]}
    for changes in ({"cache": False}, {"trust_remote_code": True}, {"engine": "ray"}):
        session = open_session(run_settings({**flat, **changes}))
        assert session.answer_cache(None) is None
        session.close()


def test_the_verb_shows_and_clears_what_is_stored(here, base, adapters):
    command = ["evaluate", "--task", "medical", "--edition", "mini", "--limit", "4", "--base-model", base, "--json"]
    command += ["--experts", *adapters]
    first, second = here(*command), here(*command)
    assert json.loads(first.stdout) == json.loads(second.stdout)
    assert "from the cache" not in first.stderr
    assert "32 answers of the base model and the experts are from the cache" in second.stderr
    shown = json.loads(here("cache", "--json").stdout)
    assert shown["answers"]["bytes"] > 1000
    assert not shown["answers"]["deleted"]
    replies = Path(shown["judgements"]["path"])
    replies.write_text("replies")
    assert "deleted" in here("cache", "clear").stdout
    assert entries() == []
    assert replies.exists()
    here("cache", "clear", "--judgements")
    assert not replies.exists()
    assert "from the cache" not in here(*command, "--no-cache").stderr
    assert entries() == []
    refused(here("compare", "--task", "medical", "--no-cache"), "compare", "--no-cache")
    refused(here("cache", "burn"), "burn")


def test_stored_entries_are_private_to_the_user(engine):
    answers_of(engine)
    assert {path.stat().st_mode & 0o777 for path in entries()} == {0o600}
