"""Mixtures of token probabilities against plain torch."""

import asyncio

import numpy as np
import pytest
import torch
from peft import PeftModel
from scipy.special import logsumexp, softmax
from tiny_models import make_full, make_lora, make_model, make_pairs_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.engines.settings import EngineSettings
from harness.engines.token_generation import _Reader, mixed_next
from harness.engines.token_mixture import TokenMixtureEngine, length_normalised, load_token_mixture, mixed_logprobs
from harness.experts.token_pool import open_token_pool
from utilities.errors import UserError
from utilities.tasks import load_task

PROMPTS = ["Q: what is it?\nA:", "The heart pumps", "x"]
OPTIONS = [[" yes", " no"], [" blood", " air", " a rather long answer"], ["y", "zz"]]
CPU = EngineSettings(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """A Llama and a Qwen2 base of other vocabularies with an adapter each, and a full model."""
    folder = tmp_path_factory.mktemp("models")
    llama, qwen = make_model(folder / "llama"), make_model(folder / "qwen", "qwen2", seed=3, vocab_size=264)
    make_pairs_tokenizer(qwen)
    make_lora(llama, folder / "ant")
    make_lora(llama, folder / "bee", seed=5)
    make_lora(qwen, folder / "cat", seed=2)
    make_full(qwen, folder / "dog")
    return folder


@pytest.fixture(scope="module")
def engine(family):
    pool = open_token_pool([str(family / name) for name in ("ant", "bee", "cat", "dog")], family / "llama")
    engine = TokenMixtureEngine(family / "llama", pool, CPU)
    yield engine
    engine.close()


def plain(family, name):
    """One expert as transformers and peft load it."""
    base = {"ant": "llama", "bee": "llama", "cat": "qwen"}.get(name, name)
    model = AutoModelForCausalLM.from_pretrained(family / base, dtype=torch.float32)
    if base != name:
        model = PeftModel.from_pretrained(model, family / name)
    return model.eval(), AutoTokenizer.from_pretrained(family / base)


def plain_logprobs(family, name, prompt, options):
    """Log-probability of each option in its own tokens, one at a time."""
    model, tokenizer = plain(family, name)
    values = []
    start = tokenizer(prompt)["input_ids"]
    for option in options:
        ids = tokenizer(prompt + option)["input_ids"]
        with torch.inference_mode():
            logprobs = model(torch.tensor([ids])).logits[0].double().log_softmax(dim=-1)
        values.append(sum(logprobs[k - 1, ids[k]].item() for k in range(len(start), len(ids))))
    return np.array(values)


def choices(engine, row, prompts=PROMPTS, options=OPTIONS):
    return asyncio.run(engine.particle(np.array(row)).choice_logprobs(prompts, options))


@pytest.mark.parametrize("by_length", [False, True])
def test_options_are_mixed_as_in_plain_torch(family, engine, by_length):
    weights = [0.2, 0.0, 0.5, 0.3]
    engine.by_length = by_length
    answers = choices(engine, weights)
    engine.by_length = False
    for answer, prompt, options in zip(answers, PROMPTS, OPTIONS, strict=True):
        lengths = np.array([len(one.removeprefix(" ")) if by_length else 1 for one in options])
        expected = sum(
            w * softmax(plain_logprobs(family, name, prompt, options) / lengths)
            for w, name in zip(weights, ("ant", "bee", "cat", "dog"), strict=True)
            if w
        )
        assert softmax(np.array(answer.logprobs) / lengths) == pytest.approx(expected, abs=1e-6)


def test_a_single_expert_answers_as_itself(family, engine):
    for k, name in enumerate(("ant", "bee", "cat", "dog")):
        for answer, prompt, options in zip(choices(engine, np.eye(4)[k]), PROMPTS, OPTIONS, strict=True):
            assert answer.logprobs == pytest.approx(plain_logprobs(family, name, prompt, options), abs=1e-4)


def test_a_mixture_of_one_option_is_that_of_its_probability():
    logprobs = np.log(np.array([[[0.5]], [[0.1]]]))
    mixed = mixed_logprobs(logprobs, np.array([0.25, 0.75]), np.ones((1, 1)))
    assert np.exp(mixed) == pytest.approx(0.25 * 0.5 + 0.75 * 0.1)


def test_an_impossible_option_stays_one_and_gaps_are_no_options():
    with np.errstate(divide="ignore"):
        logprobs = np.log([[[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]])
    mixed = mixed_logprobs(logprobs, np.array([0.5, 0.5]), np.ones((2, 3)))
    assert softmax(mixed[0]) == pytest.approx([0.25, 0.75, 0.0])
    assert np.exp(mixed[1] - logsumexp(mixed[1])) == pytest.approx([0.2, 0.3, 0.5])


def test_after_one_pass_a_mixture_costs_no_call(family):
    pool = open_token_pool([str(family / name) for name in ("ant", "bee", "cat")], family / "llama")
    engine = TokenMixtureEngine(family / "llama", pool, CPU)
    try:

        async def many():
            rows = np.random.default_rng(0).dirichlet(np.ones(3), size=200)
            await asyncio.gather(*(engine.particle(row).choice_logprobs(PROMPTS, OPTIONS) for row in rows))

        choices(engine, [1.0, 0.0, 0.0])
        assert list(engine._engines) == [0]  # weight 0 loads nothing
        assert engine.calls == len(PROMPTS)
        asyncio.run(many())
        assert engine.calls == 3 * len(PROMPTS)
    finally:
        engine.close()


def test_weights_that_are_no_distribution_are_refused(engine):
    for row in ([0.5, 0.6, 0.0, 0.0], [1.5, -0.5, 0.0, 0.0], [1.0, 0.0]):
        with pytest.raises(UserError, match="sum to 1"):
            engine.particle(np.array(row))


def test_a_question_that_one_expert_cannot_score_is_unscored(engine):
    (answer,) = choices(engine, [0.5, 0.0, 0.5, 0.0], ["word " * 300], [[" a", " b"]])
    assert answer.reason.value == "truncated"


def test_the_written_mixture_answers_as_the_engine(engine, tmp_path):
    row = np.array([0.2, 0.0, 0.5, 0.3])
    engine.pool.write(torch.from_numpy(row), tmp_path / "best")
    model = load_token_mixture(tmp_path / "best", device="cpu", dtype="float32")
    try:
        assert model.coefficients == {"ant": 0.2, "cat": 0.5, "dog": 0.3}
        for mine, own in zip(asyncio.run(model.choice_logprobs(PROMPTS, OPTIONS)), choices(engine, row), strict=True):
            assert mine.logprobs == pytest.approx(own.logprobs, abs=1e-6)
    finally:
        model.close()


def test_item_sets_must_agree_on_the_normalisation():
    task = load_task("medical", edition="mini")
    assert not length_normalised(task)
    first, *others = task.item_sets.values()
    for s in task.item_sets.values():
        s.scorer.normalize = "length"
    assert length_normalised(task)
    if others:
        first.scorer.normalize = "none"
        with pytest.raises(UserError, match="agree"):
            length_normalised(task)


# -- generation --------------------------------------------------------------------------------------------------------


def plain_generation(models, tokenizer, weights, prompt, max_tokens, ends=True):
    """One token at a time, without a cache; the tokens, and the probabilities of each step."""
    ids, steps = tokenizer(prompt)["input_ids"], []
    start = len(ids)
    with torch.inference_mode():
        for _ in range(max_tokens):
            each = [model(torch.tensor([ids])).logits[0, -1].double().softmax(dim=-1) for model in models]
            mixed = sum(w * p for w, p in zip(weights, each, strict=True))
            steps.append(mixed)
            ids.append(int(mixed.argmax()))
            if ends and ids[-1] == tokenizer.eos_token_id:
                break
    return ids[start:], steps


@pytest.fixture(scope="module")
def models(family):
    return [plain(family, "ant"), plain(family, "bee")]


def test_greedy_text_is_that_of_plain_torch(models, engine):
    weights = [0.6, 0.4]
    row = np.array([*weights, 0.0, 0.0])
    answers = asyncio.run(engine.particle(row).generate(PROMPTS, max_tokens=12))
    tokenizer = models[0][1]
    for answer, prompt in zip(answers, PROMPTS, strict=True):
        new, _ = plain_generation([model for model, _ in models], tokenizer, weights, prompt, 12)
        assert answer.text == tokenizer.decode(new, skip_special_tokens=True)


def test_probabilities_with_a_cache_and_padding_are_those_of_plain_torch(models):
    weights, pair = [0.6, 0.4], [model for model, _ in models]
    tokenizer = models[0][1]
    ids = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    readers = [_Reader(model, ids, 2, torch.device("cpu")) for model in pair]
    expected = [plain_generation(pair, tokenizer, weights, prompt, 4, ends=False) for prompt in PROMPTS]
    with torch.inference_mode():
        for step in range(4):
            mixed = mixed_next([reader.logits() for reader in readers], weights).exp()
            for k, (_, steps) in enumerate(expected):
                assert torch.allclose(mixed[k], steps[step], atol=1e-6, rtol=0)
            for reader in readers:
                reader.append(torch.tensor([new[step] for new, _ in expected]))


def test_a_stop_string_ends_an_answer(engine):
    row = np.array([0.6, 0.4, 0.0, 0.0])
    (free,) = asyncio.run(engine.particle(row).generate(PROMPTS[:1], max_tokens=12))
    mark = free.text[3:5]
    (cut,) = asyncio.run(engine.particle(row).generate(PROMPTS[:1], max_tokens=12, stop=[mark]))
    assert cut.text == free.text[: free.text.index(mark)]
    assert cut.finish_reason == "stop"


def test_choices_after_generation_are_unchanged(engine):
    row = np.array([0.6, 0.4, 0.0, 0.0])
    before = choices(engine, row)
    asyncio.run(engine.particle(row).generate(PROMPTS, max_tokens=3))
    assert [one.logprobs for one in choices(engine, row, list(PROMPTS))] == [one.logprobs for one in before]


def test_other_vocabularies_are_refused(engine):
    with pytest.raises(UserError, match="different vocabularies"):
        asyncio.run(engine.particle(np.array([0.5, 0.0, 0.5, 0.0])).generate(PROMPTS, max_tokens=3))
