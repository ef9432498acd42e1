from __future__ import annotations

import asyncio
import shutil
import threading
import time

import numpy as np
import pytest
from conftest import make_base
from safetensors.torch import load_file, save_file
from stub_lora_server import LoraStub
from stub_server import Answer, error

from harness.engines import remote
from harness.engines import server_client as lora_server
from harness.engines.local import LocalEngine
from harness.engines.local_reference import first_expert_logprobs
from harness.engines.remote import CHUNK, RemoteEngine
from harness.engines.settings import EngineSettings
from harness.experts.pool import open_pool
from utilities.core import Reason, Unscored
from utilities.errors import UserError

ROWS = [[0.6, 0.5, -0.1], [1.0, 0.0, 0.0], [-0.4, 0.2, 0.9]]
PROMPTS = ["Q: what is it?\nA:", "The heart pumps", "x", "A much longer prompt than the others, with more words in it:"]
OPTIONS = [[" yes", " no"], [" blood", " air", " a rather long answer", " b"], ["y", "z"], ["1", "2", "3"]]
COMPLETIONS, LOAD = "/v1/completions", "/v1/load_lora_adapter"
KEY_ENV = "TEST_MODEL_SERVER_KEY"


async def asked(engine, rows=ROWS, prompts=PROMPTS, options=OPTIONS):
    particles = [engine.particle(None if row is None else np.array(row)) for row in rows]
    return await asyncio.gather(*(one.choice_logprobs(prompts, options) for one in particles))


def choices(engine, row, prompts=PROMPTS, options=OPTIONS):
    return asyncio.run(asked(engine, [row], prompts, options))[0]


def generated(engine, row, prompts=PROMPTS, max_tokens=12, stop=()):
    row = None if row is None else np.array(row)
    return asyncio.run(engine.particle(row).generate(prompts, max_tokens=max_tokens, stop=stop))


def assert_close(found, expected):
    assert [one.tokens for one in found] == [one.tokens for one in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def pool(adapters, base):
    return open_pool([str(folder) for folder in adapters], base)


@pytest.fixture(scope="module")
def local(base, pool):
    engine = LocalEngine(base, pool, EngineSettings(device="cpu", dtype="float32"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference(pool):
    """Reads the local engine's log-probabilities once per expert and prompt."""
    results = {}

    def cached(pool, ids, *settings):
        key = (pool.experts[0].folder, tuple(ids))
        if key not in results:
            results[key] = first_expert_logprobs(pool, ids, *settings)
        return results[key]

    return cached


@pytest.fixture
def server(base):
    with LoraStub(base) as stub:
        yield stub


@pytest.fixture
def start(base, pool, server, tmp_path, monkeypatch, reference):
    """Makes engines that are closed after the test; nobody waits between attempts."""
    monkeypatch.setattr(remote, "first_expert_logprobs", reference)
    monkeypatch.setattr(lora_server, "FIRST_WAIT", 0.0)
    engines = []

    def new(folder=base, experts=pool, **settings):
        given = {"base_url": server.url, "adapter_folder": tmp_path / "shared"} | settings
        engines.append(RemoteEngine(folder, experts, EngineSettings(**given)))
        return engines[-1]

    yield new
    for one in engines:
        one.close()
    assert not list((tmp_path / "shared").glob("*")), "adapters are left behind"


# -- what it answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [*ROWS, None])
def test_it_answers_as_the_local_engine_does(row, start, local):
    engine = start()
    assert_close(choices(engine, row), choices(local, row))
    assert generated(engine, row) == generated(local, row)


def test_stop_strings_cut_where_the_local_engine_cuts(start, local):
    text = generated(local, ROWS[0], max_tokens=20)[0].text
    stop = [text[6:8], text[3:5]]
    found = generated(start(), ROWS[0], max_tokens=20, stop=stop)
    assert found == generated(local, ROWS[0], max_tokens=20, stop=stop)
    assert found[0].finish_reason == "stop" and len(found[0].text) < len(text)


def test_what_does_not_fit_is_unscored_and_the_others_are_answered(start, server, local):
    server.context = 64
    engine = start()
    assert "takes 64 tokens; the base model, 512" in engine.notes[0]
    long = "word " * 20
    texts = generated(engine, ROWS[0], ["x", long])
    found = choices(engine, ROWS[0], [long, *PROMPTS[:1]], [[" a", " b"], OPTIONS[0]])
    assert isinstance(texts[1], Unscored) and texts[1].reason is Reason.TRUNCATED
    assert isinstance(found[0], Unscored) and found[0].reason is Reason.TRUNCATED
    assert texts[0] == generated(local, ROWS[0], ["x"])[0]
    assert_close(found[1:], choices(local, ROWS[0], PROMPTS[:1], OPTIONS[:1]))
    assert choices(engine, ROWS[0], [], []) == generated(engine, ROWS[0], []) == []


def test_token_ids_are_sent_and_equal_questions_once(start, server):
    engine = start()
    choices(engine, None)
    server.requests.clear()
    found = choices(engine, None, [PROMPTS[0]] * 3 + ["x"] * 3, [[" yes", " no"]] * 3 + [["y", "z"]] * 3)
    assert len(set(found)) == 2
    prompts = [prompt for body in server.asked(COMPLETIONS) for prompt in body["prompt"]]
    assert len(prompts) == 2 + 1  # both long options, and the one prompt whose options are one token each
    assert all(isinstance(token, int) for prompt in prompts for token in prompt)


def test_many_prompts_share_a_request_and_few_requests_are_in_flight(start, server):
    engine = start(concurrency=2)
    choices(engine, None)
    server.requests.clear()
    server.most_in_flight = 0
    prompts = [f"number {k}" for k in range(4 * CHUNK)]
    assert len(generated(engine, None, prompts, max_tokens=1)) == len(prompts)
    assert len(server.asked(COMPLETIONS)) == 4
    assert server.most_in_flight == 2


def test_a_server_without_chosen_tokens_is_asked_for_whole_options(start, server, local):
    whole = server._choice
    server._choice = lambda k, ids, body: {**whole(k, ids, body), "logprobs": None}
    assert_close(choices(start(), ROWS[0]), choices(local, ROWS[0]))


# -- adapters ----------------------------------------------------------------------------------------------------------


def test_a_particle_is_loaded_once_and_the_base_is_a_row_of_zeros_that_needs_no_check(start, server):
    engine = start()
    before = len(server.loads)
    assert before == 1  # the one that was tried at the start
    assert choices(engine, [0.0, 0.0, 0.0]) == choices(engine, None)
    assert len(server.loads) == before + 1
    choices(engine, ROWS[0])
    generated(engine, ROWS[0])
    assert len(server.loads) == before + 2


def test_no_more_adapters_are_loaded_than_there_are_slots_and_every_particle_is_answered(start, server, local):
    engine = start(adapter_slots=2)
    rows = [[0.1 * k, 0.3, -0.2] for k in range(7)]
    for found, row in zip(asyncio.run(asked(engine, rows)), rows, strict=True):
        assert_close(found, choices(local, row))
    assert server.most_loaded == 2
    assert len({name for name, _ in server.loads}) == len({path for _, path in server.loads}) == len(server.loads) == 8
    # What is still on disk is what the server still holds; which two these are depends on who was answered last.
    assert {name for name, path in server.loads if path.exists()} == set(server.loaded)
    assert len(server.loaded) == 2
    engine.close()
    assert not server.loaded and not server.loads[-1][1].parent.exists()


def test_an_adapter_that_returns_has_a_new_name(start, server, local):
    engine = start(adapter_slots=1)
    for row in (ROWS[0], ROWS[1], ROWS[0]):
        assert_close(choices(engine, row), choices(local, row))
    assert len(server.loads) == 4  # the stub asserts that no name and no path comes twice


def test_an_adapter_that_changes_nothing_is_no_silent_base(start, new_adapter, base, server):
    folder = new_adapter("nothing")
    weights = {k: v.zero_() if "lora_B" in k else v for k, v in load_file(folder / "adapter_model.safetensors").items()}
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    engine = start(experts=open_pool([str(folder)], base))
    np.testing.assert_allclose(choices(engine, [1.0])[0].logprobs, choices(engine, None)[0].logprobs, atol=1e-5)


def test_a_server_that_answers_as_the_base_is_caught_at_the_start(start, server):
    server.deaf = True
    with pytest.raises(UserError, match="answers as the base model all the same"):
        start()
    assert not server.loaded


def test_a_server_that_answers_as_the_base_is_caught_in_mid_run(start, server):
    engine = start()
    server.deaf = True
    with pytest.raises(UserError, match="answers as the base model all the same"):
        choices(engine, ROWS[0])


def test_an_expert_that_the_server_computes_otherwise_than_the_local_engine_is_refused(start, server):
    server.scale = 20.0
    with pytest.raises(UserError, match=r"with expert 'ant', .* differ from the local engine's by .*local$"):
        start()


def test_a_base_that_is_not_compared_is_reported_in_one_line(start, monkeypatch):
    def too_large(*_):
        raise UserError("the base model has 70 billion parameters, too many for this CPU")

    monkeypatch.setattr(remote, "first_expert_logprobs", too_large)
    assert start().notes == [
        "adapters are not compared with the local engine's: the base model has 70 billion parameters, too many for"
        " this CPU"
    ]


def test_a_server_of_a_quantised_copy_is_not_compared_and_reported(start, reference, monkeypatch):
    def other(*arguments):
        return tuple(np.array(one) + 0.3 for one in reference(*arguments))

    monkeypatch.setattr(remote, "first_expert_logprobs", other)
    (note,) = start().notes
    assert "answers otherwise than" in note and "quantised copy" in note


def test_an_adapter_that_the_server_refuses_is_told_in_its_words(start, server):
    engine = start()
    server.refuses = "LoRA rank 4 is greater than max_lora_rank 1."
    with pytest.raises(UserError, match="LoRA rank 4 is greater than max_lora_rank 1"):
        choices(engine, ROWS[0])
    server.refuses = ""
    assert choices(engine, ROWS[0])


# -- servers that are busy, broken, gone -------------------------------------------------------------------------------

TROUBLE = {
    "too many requests": error(429, "slow down"),
    "too many, and how long to wait": error(429, "slow down", **{"Retry_After": "0.05"}),
    "an error": error(500, "oops"),
    "no service": Answer(b"<html>", 503),
    "a timeout": error(408, "too slow"),
    "a cut connection": Answer(b'{"choices": []}' * 9, cut=True),
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE.keys())
def test_what_passes_is_asked_again(trouble, start, server, local):
    engine = start()
    server.script[COMPLETIONS].extend([trouble] * 3)
    assert_close(choices(engine, ROWS[0]), choices(local, ROWS[0]))
    assert not server.script[COMPLETIONS]


def test_the_wait_that_a_server_asks_for_is_kept(start, server):
    engine = start()
    server.script[COMPLETIONS].append(TROUBLE["too many, and how long to wait"])
    began = time.monotonic()
    generated(engine, None)
    assert time.monotonic() - began >= 0.05


def test_a_load_whose_answer_was_lost_is_a_load(start, server, local):
    engine = start()
    server.script[LOAD].append(Answer(b"Success", cut=True))
    load = server._load

    def lost(body):
        server._load = load
        load(body)
        return error(503, "after it was done")

    server._load = lost
    assert_close(choices(engine, ROWS[0]), choices(local, ROWS[0]))


def test_after_a_restart_the_adapter_is_loaded_under_a_new_name(start, server, local):
    engine = start()
    expected = choices(engine, ROWS[0])
    server.stop()
    server.start()
    assert choices(engine, ROWS[0]) == expected
    assert len(engine.notes) == 1 and "forgot a particle's adapter" in engine.notes[0]
    many = [f"number {k}" for k in range(3 * CHUNK)]
    server.forget()
    assert generated(engine, ROWS[0], many, max_tokens=2) == generated(local, ROWS[0], many, max_tokens=2)
    assert len(server.loads) == 4


@pytest.mark.parametrize("listed", [True, False])
def test_a_restart_with_another_base_is_noticed(listed, start, server, tmp_path):
    engine = start()
    choices(engine, ROWS[0])
    server.forget()
    server.serve(make_base(tmp_path / "other", seed=5), listed=listed)
    with pytest.raises(UserError, match="no longer serves the base model of the start of the run"):
        choices(engine, ROWS[0])
    if listed:  # also for a particle that the first server did not have
        with pytest.raises(UserError, match=r"it was tiny \(.*\) and is now tiny \(.*other\); restart it"):
            choices(engine, ROWS[1])


def test_an_adapter_that_was_forgotten_is_loaded_once_however_slow_the_farewell(start, server, local):
    engine, calls = start(), []
    many = [f"number {k}" for k in range(4 * CHUNK)]
    expected = generated(engine, ROWS[0], many, max_tokens=1)
    server.forget()
    farewell = engine._server.unload

    async def slow(name):
        calls.append(name)
        await asyncio.sleep(0.3)
        await farewell(name)

    engine._server.unload = slow
    before = len(server.loads)
    assert generated(engine, ROWS[0], many, max_tokens=1) == expected
    assert len(server.loads) == before + 1 and len(calls) == len(engine.notes) == 1


def test_a_server_that_forgets_what_it_loads_is_told_so(start, server):
    engine = start()
    server.forgets = True
    with pytest.raises(UserError, match="forgets adapters as soon as it has loaded them"):
        choices(engine, ROWS[0])
    with pytest.raises(UserError, match="forgets adapters as soon as it has loaded them"):
        start()


def test_a_server_that_is_gone_for_a_moment_is_waited_for(start, server, local, monkeypatch):
    engine = start()
    server.stop()
    monkeypatch.setattr(lora_server, "FIRST_WAIT", 0.2)

    async def meanwhile():
        waiting = asyncio.ensure_future(asked(engine, ROWS[:1]))
        await asyncio.sleep(0.1)
        server.start()
        return await waiting

    assert_close(asyncio.run(meanwhile())[0], choices(local, ROWS[0]))


def test_a_server_that_stays_away_ends_the_run_in_one_sentence(start, server, monkeypatch):
    engine = start()
    server.stop()
    monkeypatch.setattr(lora_server, "PATIENCE", 0.0)
    with pytest.raises(UserError, match=r"does not answer any more, after 4 attempts.*resume the run") as raised:
        choices(engine, ROWS[0])
    assert "\n" not in str(raised.value)


def test_a_server_that_ends_at_the_first_questions_is_told_how_it_is_started(start, server, monkeypatch):
    monkeypatch.setattr(lora_server, "PATIENCE", 0.0)
    choice = server._choice

    def ended(index, ids, body):
        if index:
            server.runtime_lora = False
            threading.Thread(target=server.stop).start()
        return choice(index, ids, body)

    server._choice = ended
    with pytest.raises(UserError, match=r"does not answer any more.*--lora-target-modules down_proj gate_proj"):
        start()


def test_an_answer_of_another_shape_is_told_so(start, server):
    engine = start()
    for body in (b"<html>", b"{}", b'{"choices": []}'):
        server.script[COMPLETIONS].append(Answer(body))
        with pytest.raises(UserError, match="is no completion of OpenAI's protocol"):
            choices(engine, None)


# -- servers that cannot do it -----------------------------------------------------------------------------------------


def test_a_server_without_the_endpoints_is_refused_with_the_reason_and_the_way(start, server, base):
    server.runtime_lora = False
    with pytest.raises(UserError, match=r"there is no http.*/v1/load_lora_adapter") as raised:
        start(adapter_slots=7)
    for word in ("VLLM_ALLOW_RUNTIME_LORA_UPDATING=1", str(base), "--max-loras 7", "--max-lora-rank 8", "q_proj"):
        assert word in str(raised.value)


def test_a_server_that_cannot_load_or_see_an_adapter_is_refused_in_its_words(start, server, monkeypatch):
    server.refuses = "LoRA is not enabled."
    with pytest.raises(UserError, match=r"HTTP 500, LoRA is not enabled.*--enable-lora"):
        start()
    server.refuses = ""
    monkeypatch.setattr(server, "_load", lambda body: error(404, f"No adapter found for {body['lora_path']}"))
    with pytest.raises(UserError, match=r"No adapter found for .*must see the folder .*--adapter-folder"):
        start()


def test_the_base_alone_needs_no_adapters(start, server, local):
    server.runtime_lora = False
    engine = start(experts=None)
    assert_close(choices(engine, None), choices(local, None))
    with pytest.raises(ValueError, match="without experts"):
        engine.particle(np.array([1.0]))


def test_a_server_of_another_base_is_refused(start, server):
    server.tokenizer = lambda text: {"input_ids": [1, 2, 3]}
    with pytest.raises(UserError, match="another tokenizer than the base model here"):
        start()
    server.script["/tokenize"].append(error(404, "no such thing"))
    with pytest.raises(UserError, match="does not say how it tokenizes"):
        start()


def test_a_wrong_model_name_is_answered_with_those_that_are_there(start, server):
    with pytest.raises(UserError, match="serves no model 'huge'; it has: tiny"):
        start(server_model="huge")
    server.models.append({"id": "other", "root": "/elsewhere", "parent": None})
    with pytest.raises(UserError, match="several models; name one with --server-model: tiny, other"):
        start()
    assert start(server_model="tiny").device.startswith("tiny at http://127")


def test_no_server_at_all_is_told_at_once(start, server):
    server.stop()
    with pytest.raises(UserError, match=r"no server answers there.*--base-url"):
        start()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"data": 3}', b'{"data": [{}]}'])
def test_a_server_of_another_protocol_is_told_so(body, start, server):
    server.script["/v1/models"].append(Answer(body))
    with pytest.raises(UserError, match="does not speak OpenAI's protocol"):
        start()


def test_the_key_comes_from_the_environment_and_is_never_repeated(start, server, monkeypatch):
    server.key = "a-secret-key-of-the-server"
    monkeypatch.delenv(KEY_ENV, raising=False)
    with pytest.raises(UserError, match=f"HTTP 401.*{KEY_ENV} is not set"):
        start(server_key_env=KEY_ENV)
    monkeypatch.setenv(KEY_ENV, "another-secret-key")
    with pytest.raises(UserError, match="is not accepted") as raised:
        start(server_key_env=KEY_ENV)
    assert "another-secret-key" not in str(raised.value)
    monkeypatch.setenv(KEY_ENV, server.key)
    assert choices(start(server_key_env=KEY_ENV), None)


@pytest.mark.parametrize("url", [None, "localhost:8000", "ftp://x/v1", "http://", "http://a:b:c/v1"])
def test_an_address_that_is_none_is_told_so(url, start):
    with pytest.raises(UserError, match="--base-url"):
        start(base_url=url)


def test_an_address_without_its_path_is_completed_and_one_with_a_password_refused(start, server):
    assert choices(start(base_url=server.url.removesuffix("/v1") + "/"), None)
    with pytest.raises(UserError, match="password") as raised:
        start(base_url=server.url.replace("//", "//me:hidden@"))
    assert "hidden" not in str(raised.value)


def test_only_lora_adapters_that_leave_the_output_layer_alone_are_served(start, base, tmp_path, new_adapter):
    models = [str(make_base(tmp_path / f"model{seed}", seed)) for seed in (1, 2)]
    with pytest.raises(UserError, match="full models; take --engine local"):
        start(experts=open_pool(models, base))
    headed = new_adapter("headed", target_modules=["lm_head", "q_proj"])
    weights = load_file(headed / "adapter_model.safetensors")
    weights = {key: tensor for key, tensor in weights.items() if "base_layer" not in key}
    save_file(weights, headed / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="output layer"):
        start(experts=open_pool([str(headed)], base))


def test_a_base_without_a_tokenizer_is_the_users_to_mend(start, tmp_path, base):
    broken = shutil.copytree(base, tmp_path / "broken")
    (broken / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="tokenizer cannot be loaded"):
        start(folder=broken)


# -- the end -----------------------------------------------------------------------------------------------------------


def test_a_job_that_waits_when_the_engine_closes_ends(start, server):
    engine = start()
    server.script[COMPLETIONS].extend([error(429, "slow down", **{"Retry_After": "60"})])

    async def ask():
        waiting = asyncio.ensure_future(asked(engine, [None]))
        while server.script[COMPLETIONS]:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(engine.close)
        await waiting

    with pytest.raises(RuntimeError, match="the engine was closed"):
        asyncio.run(ask())
    with pytest.raises(RuntimeError, match="the engine was closed"):
        choices(engine, None)
    engine.close()


def test_who_asked_may_give_up_and_the_next_one_is_answered(start, server, local):
    engine = start(adapter_slots=1)
    server.script[COMPLETIONS].extend([error(429, "slow down", **{"Retry_After": "0.2"})])

    async def ask():
        impatient = asyncio.ensure_future(asked(engine, ROWS[:1]))
        while server.script[COMPLETIONS]:
            await asyncio.sleep(0.01)
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
        return await asked(engine, ROWS[1:2])

    assert_close(asyncio.run(ask())[0], choices(local, ROWS[1]))


def test_time_in_the_server_and_time_of_mixing_are_told_apart_and_overlap_counts_once(start):
    engine = start()
    assert engine.times.forward == engine.times.mixing == 0.0
    began = time.perf_counter()
    asyncio.run(asked(engine))
    took = time.perf_counter() - began
    assert engine.times.forward > 0.0 and engine.times.mixing > 0.0
    assert engine.times.forward + engine.times.mixing <= took
    assert engine.state() == {}
