from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time

import numpy as np
import pytest
import torch
from conftest import make_tokenizer
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from harness.engines.batching import Batch
from harness.engines.local import LocalEngine
from harness.engines.settings import EngineSettings
from harness.experts.pool import open_pool
from utilities.core import Reason, Response, Unscored
from utilities.errors import UserError

ROWS = [[0.6, 0.5, -0.1], [1.0, 0.0, 0.0], [-0.4, 0.2, 0.9]]
PROMPTS = ["Q: what is it?\nA:", "The heart pumps", "x", "A much longer prompt than the others, with more words in it:"]
OPTIONS = [[" yes", " no"], [" blood", " air", " a rather long answer", " b"], ["y", "zz"], [" 1", " 22", " 333"]]
CPU = {"device": "cpu", "dtype": "float32"}


def choices(engine, row, prompts=PROMPTS, options=OPTIONS):
    row = None if row is None else np.array(row)
    return asyncio.run(engine.particle(row).choice_logprobs(prompts, options))


def generated(engine, row, prompts=PROMPTS, max_tokens=12, stop=()):
    row = None if row is None else np.array(row)
    return asyncio.run(engine.particle(row).generate(prompts, max_tokens=max_tokens, stop=stop))


def plain_choices(model, tokenizer, prompts=PROMPTS, options=OPTIONS):
    """One option at a time, nothing padded, nothing shared."""
    found = []
    for prompt, texts in zip(prompts, options, strict=True):
        values = []
        for text in texts:
            start, end = tokenizer(prompt)["input_ids"], tokenizer(text, add_special_tokens=False)["input_ids"]
            with torch.inference_mode():
                logprobs = model(torch.tensor([start + end])).logits[0].float().log_softmax(dim=-1)
            values.append(sum(logprobs[len(start) - 1 + k, token].item() for k, token in enumerate(end)))
        found.append(values)
    return found


def plain_generations(model, tokenizer, prompts=PROMPTS, max_tokens=12):
    """One prompt at a time, so nothing is padded."""
    found = []
    for prompt in prompts:
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False
            )
        new = out[0, ids.shape[1] :].tolist()
        ended = new[-1] == tokenizer.eos_token_id
        found.append((tokenizer.decode(new[:-1] if ended else new, skip_special_tokens=True), ended))
    return found


def assert_close(found, expected, atol=1e-4):
    assert len(found) == len(expected)
    for answer, values in zip(found, expected, strict=True):
        np.testing.assert_allclose(answer.logprobs, values, atol=atol, rtol=0)


def peft_model(base, folder):
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()


@pytest.fixture(scope="module")
def tokenizer(base):
    return AutoTokenizer.from_pretrained(base)


@pytest.fixture(scope="module")
def pool(adapters, base):
    return open_pool([str(folder) for folder in adapters], base)


@pytest.fixture(scope="module")
def engine(base, pool):
    engine = LocalEngine(base, pool, EngineSettings(**CPU))
    yield engine
    engine.close()


@pytest.fixture
def make(base, pool):
    """Makes engines that are closed after the test."""
    engines = []

    def new(folder=base, experts=pool, state=None, **settings):
        engines.append(LocalEngine(folder, experts, EngineSettings(**CPU | settings), state))
        return engines[-1]

    yield new
    for one in engines:
        one.close()


@pytest.fixture(scope="module")
def winners(pool, tmp_path_factory):
    """The mixtures ROWS as adapter folders."""
    folder = tmp_path_factory.mktemp("winners")
    for k, row in enumerate(ROWS):
        pool.write(torch.tensor(row, dtype=torch.float64), folder / str(k))
    return [folder / str(k) for k in range(len(ROWS))]


# -- option log-likelihoods --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", range(len(ROWS)))
def test_a_folded_particle_scores_options_like_its_peft_model(k, engine, base, winners, tokenizer):
    expected = plain_choices(peft_model(base, winners[k]), tokenizer)
    found = choices(engine, ROWS[k])
    assert_close(found, expected)
    assert [answer.tokens for answer in found] == [tuple(len(text) for text in texts) for texts in OPTIONS]
    assert abs(expected[0][0] - choices(engine, None)[0].logprobs[0]) > 0.01  # the particle is not the base


def test_no_row_is_the_base_model_and_so_is_a_row_of_zeros(engine, base, tokenizer):
    expected = plain_choices(LlamaForCausalLM.from_pretrained(base).eval(), tokenizer)
    assert_close(choices(engine, None), expected)
    assert choices(engine, [0.0, 0.0, 0.0]) == choices(engine, None)


def test_an_engine_without_experts_answers_as_the_base_and_as_nothing_else(make, engine):
    alone = make(experts=None)
    assert choices(alone, None) == choices(engine, None)
    with pytest.raises(ValueError, match="without experts"):
        alone.particle(np.array([1.0]))


def test_the_base_answers_bit_for_bit_the_same_before_and_after_particles(make):
    engine = make()
    before = choices(engine, None)
    weights = {name: weight.clone() for name, weight in engine.model.state_dict().items()}
    first = [choices(engine, row) for row in ROWS]
    assert choices(engine, None) == before
    assert all(torch.equal(weight, weights[name]) for name, weight in engine.model.state_dict().items())
    assert [choices(engine, row) for row in reversed(ROWS)] == first[::-1]


def test_particles_asked_at_the_same_time_answer_as_one_at_a_time(engine):
    rows = [*ROWS, None, ROWS[0]]

    async def together():
        particles = [engine.particle(None if row is None else np.array(row)) for row in rows]
        asked = [particle.choice_logprobs(PROMPTS, OPTIONS) for particle in particles]
        asked += [particle.generate(PROMPTS, max_tokens=5) for particle in particles]
        return await asyncio.gather(*asked)

    alone = [choices(engine, row) for row in rows] + [generated(engine, row, max_tokens=5) for row in rows]
    assert asyncio.run(together()) == alone


def test_shared_and_separate_prefixes_agree(make, monkeypatch):
    packed = make()
    monkeypatch.setattr(LocalEngine, "_can_pack", lambda self: False)
    separate = make()
    assert packed._packs and not separate._packs
    assert_close(choices(separate, ROWS[0]), [answer.logprobs for answer in choices(packed, ROWS[0])])


@pytest.mark.parametrize("refuses", [True, False])
def test_a_model_that_takes_no_mask_of_its_own_falls_back_to_the_ordinary_one(refuses, make, engine, monkeypatch):
    forward = LlamaForCausalLM.forward

    def stubborn(self, *args, attention_mask=None, **options):
        if attention_mask is not None and attention_mask.dim() == 4:
            if refuses:
                raise ValueError("wrong shape for attention_mask")
            attention_mask = torch.ones_like(options["input_ids"])  # ignored, silently
        return forward(self, *args, attention_mask=attention_mask, **options)

    monkeypatch.setattr(LlamaForCausalLM, "forward", stubborn)
    fallen = make()
    assert not fallen._packs
    found = choices(fallen, ROWS[0])
    monkeypatch.undo()
    assert_close(found, [answer.logprobs for answer in choices(engine, ROWS[0])])


@pytest.mark.parametrize("count", [2, 3, 10, 26])
def test_any_number_of_options_is_answered_independent_of_the_others(count, engine):
    texts = [f" {'abcdefgh'[: k % 8]}{k}" for k in range(count)]
    together = choices(engine, ROWS[0], PROMPTS[:1], [texts])[0]
    alone = [choices(engine, ROWS[0], PROMPTS[:1], [[text]])[0].logprobs[0] for text in texts]
    assert together.tokens == tuple(len(text) for text in texts)
    np.testing.assert_allclose(together.logprobs, alone, atol=1e-4, rtol=0)


def test_equal_options_have_equal_log_probabilities(engine):
    first, second, third = choices(engine, ROWS[0], ["Q:"], [[" same", " other", " same"]])[0].logprobs
    assert abs(first - third) < 1e-5 < abs(first - second)


def test_a_prompt_beyond_the_context_is_unscored_and_the_others_are_scored(engine):
    found = choices(engine, None, ["a" * 600, *PROMPTS], [[" b", " c"], *OPTIONS])
    assert isinstance(found[0], Unscored) and found[0].reason is Reason.TRUNCATED and "512" in found[0].detail
    assert_close(found[1:], [answer.logprobs for answer in choices(engine, None)])


@pytest.mark.parametrize(("length", "fits"), [(509, True), (510, False)])
def test_the_context_is_counted_to_the_token(length, fits, engine):
    # One token a byte, one that opens the prompt, two for the longest option; the context has 512.
    found = choices(engine, None, ["a" * length], [[" b", "c"]])[0]
    assert isinstance(found, Unscored) is not fits


def test_an_option_without_tokens_is_unscored(engine):
    found = choices(engine, None, ["a", "b"], [["", " c"], [" d", " e"]])
    assert isinstance(found[0], Unscored) and found[0].reason is Reason.NOT_APPLICABLE
    assert not isinstance(found[1], Unscored)


def test_no_prompts_have_no_answers(engine):
    assert choices(engine, None, [], []) == []
    assert generated(engine, None, []) == []


# -- batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [1, 60, 100_000])
def test_the_batch_size_does_not_change_the_answers(tokens, make, engine):
    sized = make(batch_tokens=tokens)
    assert sized.state() == {"batch_tokens": tokens, "padding": "right"}
    assert_close(choices(sized, ROWS[0]), [answer.logprobs for answer in choices(engine, ROWS[0])])
    assert generated(sized, ROWS[0]) == generated(engine, ROWS[0])


@pytest.mark.parametrize("padding", [{"padding": "right"}, {}])
def test_an_earlier_engines_state_is_taken_over(padding, make):
    """Without `padding` it is of a version whose batches had another layout: a run keeps it to its end."""
    assert make(batch_tokens=77, state={"batch_tokens": 33, **padding}).state() == {"batch_tokens": 33, **padding}


def test_both_layouts_of_batches_give_the_same_answers_and_one_has_less_padding(make):
    prompts = ["a long prompt " * k + "with a short answer" for k in range(8)] + ["short"] * 8
    options = [[" A", " B"]] * 8 + [[" a long answer" * k, " another"] for k in range(1, 9)]
    right, aligned = make(batch_tokens=4000), make(state={"batch_tokens": 4000})
    for row in (ROWS[0], None):
        pairs = zip(choices(right, row, prompts, options), choices(aligned, row, prompts, options), strict=True)
        for one, other in pairs:
            assert one.tokens == other.tokens
            np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4, rtol=1e-5)
    computed = [sum(batch.tokens for batch in e._plan(prompts, options).batches) for e in (right, aligned)]
    real = sum(row.length for batch in right._plan(prompts, options).batches for row in batch._rows)
    assert real <= computed[0] < computed[1]


@pytest.mark.parametrize("packs", [True, False])
def test_out_of_memory_lowers_the_batch_size_and_everything_is_answered(packs, make, engine, monkeypatch):
    logprobs = Batch.logprobs
    refused = []

    def limited(self, model, device, **options):
        if self.tokens > 200:
            refused.append(self.tokens)
            raise torch.OutOfMemoryError("out of memory")
        return logprobs(self, model, device, **options)

    monkeypatch.setattr(LocalEngine, "_can_pack", lambda self: packs)
    small = make(batch_tokens=800)
    monkeypatch.setattr(Batch, "logprobs", limited)
    prompts, options = PROMPTS[:3] * 15, OPTIONS[:3] * 15
    found = choices(small, ROWS[0], prompts, options)
    # Several batches of one plan fail; the limit falls below the failing size once and not once for each of them.
    assert len(refused) > 2 and 90 <= small.state()["batch_tokens"] <= 200
    refused.clear()
    again = choices(small, ROWS[0], prompts, options)
    assert not refused, "the second time all batches fit"
    monkeypatch.undo()
    expected = [answer.logprobs for answer in choices(engine, ROWS[0])[:3]] * 15
    assert_close(found, expected)
    assert_close(again, expected)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
@pytest.mark.parametrize("packs", [True, False])
def test_out_of_memory_with_a_single_question_is_told_in_one_sentence(packs, error, make, monkeypatch):
    def never(self, *args, **options):
        raise error

    monkeypatch.setattr(LocalEngine, "_can_pack", lambda self: packs)
    full = make()
    monkeypatch.setattr(Batch, "logprobs", never)
    monkeypatch.setattr(LlamaForCausalLM, "generate", never)
    for ask in (choices, generated):
        with pytest.raises(UserError) as caught:
            ask(full, None)
        assert str(caught.value) == (
            "out of memory on cpu, even with a single question at a time;"
            " try a smaller model, --dtype bfloat16, or shorter prompts"
        )
        assert caught.value.__cause__ is error


def test_what_is_done_already_is_not_advised_when_memory_runs_out(make, monkeypatch):
    def never(self, model, device, **options):
        raise OUT_OF_MEMORY[0]

    full = make(dtype="bfloat16")
    monkeypatch.setattr(Batch, "logprobs", never)
    with pytest.raises(UserError, match="try a smaller model, or shorter prompts"):
        choices(full, None)


def test_out_of_memory_while_generating_lowers_the_batch_size(make, engine, monkeypatch):
    generate = LlamaForCausalLM.generate

    def limited(self, *, input_ids, **options):
        if len(input_ids) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return generate(self, input_ids=input_ids, **options)

    small = make()
    before = small.state()["batch_tokens"]
    monkeypatch.setattr(LlamaForCausalLM, "generate", limited)
    found = generated(small, ROWS[0])
    monkeypatch.undo()
    assert small.state()["batch_tokens"] < before
    assert found == generated(engine, ROWS[0])


def test_errors_of_another_kind_reach_the_asker_and_the_engine_goes_on(make, monkeypatch):
    engine = make()
    before = choices(engine, None)

    def broken(self, model, device, **options):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Batch, "logprobs", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        choices(engine, None)
    monkeypatch.undo()
    assert choices(engine, None) == before


def test_an_error_in_the_middle_of_folding_leaves_no_half_folded_particle(make, pool, monkeypatch):
    engine = make()
    before, particle = choices(engine, None), choices(engine, ROWS[0])
    assert choices(engine, None) == before
    mix = type(pool).mix

    def interrupted(self, rows):
        for k, one in enumerate(mix(self, rows)):
            if k == 9:
                raise torch.OutOfMemoryError("out of memory")
            yield one

    for row, expected in ((None, before), (ROWS[0], particle)):
        with monkeypatch.context() as patch, pytest.raises(UserError, match="out of memory"):
            patch.setattr(type(pool), "mix", interrupted)
            choices(engine, [9.0, 9.0, 9.0])
        assert choices(engine, row) == expected


# -- generation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", range(len(ROWS)))
def test_generation_in_padded_batches_equals_one_prompt_at_a_time_with_peft(k, engine, base, winners, tokenizer):
    expected = plain_generations(peft_model(base, winners[k]), tokenizer)
    found = generated(engine, ROWS[k])
    assert [answer.text for answer in found] == [text for text, _ in expected]
    assert [answer.finish_reason for answer in found] == ["stop" if ended else "length" for _, ended in expected]
    assert len({answer.text for answer in found}) > 1


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_what_the_model_recommends_for_generation_does_not_change_greedy_decoding(file, engine, make, base, tmp_path):
    recommended = {"do_sample": True, "temperature": 5.0, "top_k": 3, "repetition_penalty": 9.0, "num_beams": 3}
    recommended |= {"no_repeat_ngram_size": 1, "suppress_tokens": list(range(100)), "max_length": 7}
    folder = shutil.copytree(base, tmp_path / "chatty")
    if file == "config.json":  # where models of earlier days have it
        (folder / "generation_config.json").unlink()
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | recommended))
    plain, greedy = generated(engine, None), generated(make(folder), None)
    assert greedy == plain
    # The recommendations do reach whoever asks for nothing else, so they could have reached the engine.
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    assert model.generation_config.repetition_penalty == 9.0
    assert [text for text, _ in plain_generations(model, tokenizer)] != [answer.text for answer in plain]


def test_the_models_end_and_padding_tokens_are_kept(make, base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "ends")
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [1, 70], "pad_token_id": 2}))
    told = make(folder).model.generation_config
    assert (told.eos_token_id, told.pad_token_id) == ([1, 70], 2)


def test_max_tokens_is_kept_and_said(engine):
    for limit in (1, 4):
        found = generated(engine, ROWS[0], max_tokens=limit)
        assert all(answer.tokens <= limit for answer in found)
        assert any(answer.tokens == limit and answer.finish_reason == "length" for answer in found)


def test_a_stop_string_cuts_the_text_and_says_so_for_each_prompt_alone(engine):
    """Rows that are finished wait, padded, for the others: neither their text nor their count of tokens may show it."""
    free = generated(engine, ROWS[0], max_tokens=24)
    mark = free[0].text[3:5]
    assert len(mark) == 2 and mark.isascii()
    together = generated(engine, ROWS[0], max_tokens=24, stop=[mark, "never appears"])
    alone = [generated(engine, ROWS[0], [prompt], max_tokens=24, stop=[mark, "never appears"])[0] for prompt in PROMPTS]
    assert together == alone
    for answer, whole in zip(together, free, strict=True):
        assert answer.text == whole.text.split(mark)[0]
        if mark in whole.text:
            assert answer.finish_reason == "stop" and answer.tokens < whole.tokens
        else:
            assert answer == whole
    assert together[0].finish_reason == "stop" and any(mark not in whole.text for whole in free)


def forced(engine, tokens):
    """Lets generation give out these tokens, one list a prompt."""

    def generate(*, input_ids, **options):
        return torch.cat([input_ids, torch.tensor(tokens)], dim=1)

    engine.model.generate = generate


def test_every_end_token_of_the_model_ends_an_answer(make, tokenizer, base, tmp_path):
    a, b, end, pad = (tokenizer.convert_tokens_to_ids(token) for token in ("a", "b", "</s>", "<pad>"))
    shutil.copytree(base, tmp_path / "tiny")
    GenerationConfig(eos_token_id=[end, b], pad_token_id=pad).save_pretrained(tmp_path / "tiny")
    engine = make(tmp_path / "tiny")
    forced(engine, [[a, a, a, a, a], [a, end, pad, pad, pad], [a, a, b, pad, pad], [a, a, pad, pad, pad]])
    assert generated(engine, None, ["q1", "q2", "q3", "q4"], max_tokens=5) == [
        Response("a" * 5, 5, "length"),
        Response("a", 1, "stop"),
        Response("aa", 2, "stop"),
        Response("aa", 2, "stop"),  # as after a stop string
    ]


def test_a_prompt_too_long_to_generate_is_unscored_and_the_others_are_answered(engine):
    found = generated(engine, ROWS[0], ["a" * 505, *PROMPTS])
    assert isinstance(found[0], Unscored) and found[0].reason is Reason.TRUNCATED
    assert found[1:] == generated(engine, ROWS[0])


# -- other models ------------------------------------------------------------------------------------------------------


def tiny(kind, folder):
    torch.manual_seed(3)
    common = {"vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    common |= {"num_attention_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.4}
    ids = {"bos_token_id": 0, "eos_token_id": 1}
    if kind == "gpt_neox":
        model = GPTNeoXForCausalLM(GPTNeoXConfig(**common, **ids, tie_word_embeddings=False))
    else:
        window = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0} if kind == "window" else {}
        model = Qwen2ForCausalLM(Qwen2Config(**common, **ids, num_key_value_heads=1, **window))
    model.save_pretrained(folder)
    make_tokenizer(folder)
    return folder


def adapted(base, folder, seed, **config):
    torch.manual_seed(seed)
    options = {"r": 3, "lora_alpha": 5, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | config
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**options))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.mark.parametrize(("kind", "packs"), [("gpt_neox", True), ("qwen2", True), ("window", False)])
def test_other_architectures_answer_like_peft(kind, packs, make, tmp_path):
    """One with a sliding window shorter than the prompts cannot take masks of its own, which would replace it."""
    base = tiny(kind, tmp_path / kind)
    pool = open_pool([str(adapted(base, tmp_path / name, seed)) for seed, name in enumerate("ab")], base)
    engine = make(base, pool)
    assert engine._packs is packs
    pool.write(torch.tensor([0.7, -0.4]), tmp_path / "winner")
    model, tokenizer = peft_model(base, tmp_path / "winner"), AutoTokenizer.from_pretrained(base)
    assert_close(choices(engine, [0.7, -0.4]), plain_choices(model, tokenizer))
    texts = [text for text, _ in plain_generations(model, tokenizer)]
    assert [answer.text for answer in generated(engine, [0.7, -0.4])] == texts


def test_an_adapted_output_layer_leaves_the_tied_embedding_alone(make, base, tmp_path, tokenizer):
    expert = adapted(base, tmp_path / "head", 4, target_modules=["lm_head", "q_proj"])
    engine = make(base, open_pool([str(expert)], base))
    before = choices(engine, None)
    assert_close(choices(engine, [1.0]), plain_choices(peft_model(base, expert), tokenizer))
    assert choices(engine, None) == before


def test_full_models_are_particles(make, base, tmp_path, tokenizer):
    folders = [tmp_path / "owl", tmp_path / "fox"]
    for seed, folder in enumerate(folders, 1):
        torch.manual_seed(seed)
        model = LlamaForCausalLM.from_pretrained(base)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(folder)
    pool = open_pool([str(folder) for folder in folders], base)
    engine = make(base, pool)
    before = choices(engine, None)
    pool.write(torch.tensor([0.6, 0.3]), tmp_path / "winner")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "winner").eval()
    assert_close(choices(engine, [0.6, 0.3]), plain_choices(model, tokenizer))
    assert_close(
        choices(engine, [0.0, 1.0]), plain_choices(AutoModelForCausalLM.from_pretrained(folders[1]), tokenizer)
    )
    assert choices(engine, None) == before == choices(engine, [0.0, 0.0])


def test_bfloat16_answers_like_a_bfloat16_model_with_the_mixture_merged(make, base, winners, tokenizer):
    engine = make(dtype="bfloat16")
    assert engine.model.dtype == torch.bfloat16
    before = choices(engine, None)
    # Folding adds in float32 and rounds once, as casting the merged float32 model does.
    resident = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).float()
    merged = PeftModel.from_pretrained(resident, winners[0]).merge_and_unload().to(torch.bfloat16).eval()
    weights = dict(merged.named_parameters())
    found = choices(engine, ROWS[0])  # leaves the particle folded in
    for name, weight in engine.model.named_parameters():
        torch.testing.assert_close(weight, weights[name])
    assert_close(found, plain_choices(merged, tokenizer), atol=0.5)
    assert choices(engine, None) == before
    assert all(isinstance(answer, Response) for answer in generated(engine, ROWS[0]))


# -- from beginning to end ---------------------------------------------------------------------------------------------


def test_closing_ends_the_thread_and_may_be_done_twice(base):
    engine = LocalEngine(base, None, EngineSettings(**CPU))
    assert choices(engine, None)
    thread = engine._thread
    assert thread.is_alive()
    engine.close()
    assert not thread.is_alive()
    engine.close()


def test_asking_a_closed_engine_is_an_error(base):
    engine = LocalEngine(base, None, EngineSettings(**CPU))
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(asyncio.wait_for(engine.particle(None).choice_logprobs(PROMPTS, OPTIONS), 120))


def test_closing_while_jobs_wait_ends_them_with_an_error(base, pool, monkeypatch):
    engine = LocalEngine(base, pool, EngineSettings(**CPU, batch_tokens=1))
    running = threading.Event()
    logprobs = Batch.logprobs

    def noticed(self, model, device, **options):
        running.set()
        while not engine._closed:  # the job is not over before the engine is closed
            time.sleep(0.001)
        return logprobs(self, model, device, **options)

    monkeypatch.setattr(Batch, "logprobs", noticed)

    async def asked():
        prompts, options = PROMPTS * 300, OPTIONS * 300
        waiting = [
            asyncio.create_task(engine.particle(np.array(row)).choice_logprobs(prompts, options)) for row in ROWS
        ]
        await asyncio.to_thread(running.wait)
        await asyncio.to_thread(engine.close)
        return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 120)

    answers = asyncio.run(asked())
    assert len(answers) == 3
    assert all(isinstance(answer, RuntimeError) and "closed" in str(answer) for answer in answers)


def test_a_cancelled_question_does_not_disturb_the_next_one(engine):
    expected = choices(engine, ROWS[1])

    async def impatient():
        task = asyncio.create_task(engine.particle(np.array(ROWS[0])).choice_logprobs(PROMPTS, OPTIONS))
        await asyncio.sleep(0)
        task.cancel()
        return await engine.particle(np.array(ROWS[1])).choice_logprobs(PROMPTS, OPTIONS)

    assert asyncio.run(impatient()) == expected


def test_time_is_booked_to_the_forward_pass_and_to_mixing(make):
    engine = make()
    assert engine.times.forward == engine.times.mixing == 0.0
    choices(engine, None)
    assert engine.times.forward > 0.0 and engine.times.mixing == 0.0
    forward = engine.times.forward
    generated(engine, ROWS[0])
    assert engine.times.forward > forward and engine.times.mixing > 0.0


def test_a_base_that_is_not_there_or_is_broken_is_the_users_to_mend(base, tmp_path):
    (tmp_path / "empty").mkdir()
    broken = shutil.copytree(base, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"cut off")
    pickled = shutil.copytree(base, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    reasons = {
        tmp_path / "nowhere": "nowhere: .*holds no config.json",
        tmp_path / "empty": "empty: .*holds no config.json",
        broken: "broken/model.safetensors: not a readable safetensors file",
        pickled: r"pickled: there is no model\.safetensors; pytorch_model\.bin is a pickle file",
    }
    for folder, reason in reasons.items():
        with pytest.raises(UserError, match=reason):
            LocalEngine(folder, None, EngineSettings(**CPU))


def test_a_gpu_that_is_not_there_is_the_users_to_mend(base, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no GPU that torch can use"):
        LocalEngine(base, None, EngineSettings(device="cuda"))


def test_auto_is_float32_on_the_cpu(make, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    engine = make(device="auto", dtype="auto")
    assert engine.device == "cpu" and engine.model.dtype == torch.float32
