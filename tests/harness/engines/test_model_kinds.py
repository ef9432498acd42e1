"""The local engine on many kinds of models, tokenizers and adapters, beside the same expert read by peft alone."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tiny_models import (
    ADAPTER,
    ARCHITECTURES,
    CONFIG,
    TARGETS,
    WEIGHTS,
    edit_json,
    edit_tensors,
    make_full,
    make_lora,
    make_model,
)
from tokenizers import Tokenizer, models, normalizers, processors
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.engines.local import LocalEngine
from harness.engines.settings import EngineSettings
from harness.engines.tokenizer import Tokens
from harness.experts import base_model
from harness.experts.files import not_finite
from harness.experts.pool import open_pool
from utilities.core import Chat
from utilities.errors import UserError

PROMPTS = ["Where is it?", "x", "There it is. " * 6 + "So:", "It was long. " * 12 + "So:"]
"""The last two are longer than the windows, and the last than the rope's switch, of the models that have them."""
OPTIONS = [[" a town", " b"], [" yes", " no, it is not"], [" one", " two", " three"], [" up", " down there"]]


def product(base, experts, row=(1.0, 0.0), prompts=PROMPTS, options=OPTIONS, **settings):
    """Log-probabilities of the options, generated texts, and the engine's notes."""
    pool = open_pool([str(expert) for expert in experts], base)
    engine = LocalEngine(base, pool, EngineSettings(device="cpu", dtype="float32", **settings))
    try:
        particle = engine.particle(np.array(row[: len(experts)]))

        async def answers():
            found = await particle.choice_logprobs(prompts, options)
            return found, await particle.generate(prompts[:2] + prompts[3:], max_tokens=4)

        found, texts = asyncio.run(answers())
        return [list(one.logprobs) for one in found], [one.text for one in texts], engine.notes
    finally:
        engine.close()


def reference(base, expert, prompts=PROMPTS, options=OPTIONS):
    """The same with peft or transformers: one prompt and option at a time, encoded as one text."""
    lora = (expert / CONFIG).exists()
    model = AutoModelForCausalLM.from_pretrained(
        base if lora else expert, dtype=torch.float32, attn_implementation="eager"
    )
    model = (PeftModel.from_pretrained(model, expert) if lora else model).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    found = []
    for prompt, choices in zip(prompts, options, strict=True):
        start = len(encoded(tokenizer, prompt))
        values = []
        for option in choices:
            ids = encoded(tokenizer, prompt + option)
            with torch.inference_mode():
                logprobs = model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(dim=-1)
            values.append(sum(float(logprobs[k - 1, ids[k]]) for k in range(start, len(ids))))
        found.append(values)
    return found


def encoded(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    return ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids


def assert_like_reference(base, experts, atol=1e-3, **settings):
    found, texts, notes = product(base, experts, **settings)
    expected = reference(base, experts[0])
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=atol, rtol=0)
    plain = reference(base, base)
    assert (
        max(abs(a - b) for one, two in zip(expected, plain, strict=True) for a, b in zip(one, two, strict=True)) > 0.05
    )
    assert len(texts) == 3
    return notes


@pytest.mark.slow
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_particle_answers_as_peft_whatever_the_architecture_and_the_batch(kind, tmp_path):
    base = make_model(tmp_path / "base", kind)
    options = {"target_modules": TARGETS[kind]} if kind in TARGETS else {}
    experts = [make_lora(base, tmp_path / name, seed, **options) for seed, name in enumerate("ab", 1)]
    assert_like_reference(base, experts)


@pytest.mark.parametrize("kind", ["gemma2", "bloom"])
def test_eager_attention_is_chosen_where_sdpa_lacks_something_and_reported(kind, tmp_path):
    base = make_model(tmp_path / "base", kind)
    experts = [make_lora(base, tmp_path / "a")]
    assert any("attention: eager" in note for note in assert_like_reference(base, experts))
    with pytest.raises(UserError, match="--attention sdpa"):
        product(base, experts, attention="sdpa")


@pytest.mark.parametrize(("kind", "note"), [("phi3 with longrope", "rope changes beyond 64"), ("gpt2", None)])
def test_lengths_are_mixed_unless_they_change_the_answers(kind, note, tmp_path):
    base = make_model(tmp_path / "base", kind)
    notes = assert_like_reference(base, [make_lora(base, tmp_path / "a")])
    assert any(note in one for one in notes) if note else not notes


def test_positions_that_are_not_counted_from_zero_are_the_models_own(tmp_path):
    base = make_model(tmp_path / "base", "roberta")
    assert_like_reference(base, [make_lora(base, tmp_path / "a")])


def test_a_model_whose_answer_depends_on_later_tokens_is_refused_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(base_model, "why_not_causal", lambda model: None)  # nothing in config or class shows it
    base = make_model(tmp_path / "base", "rembert", is_decoder=False)
    with pytest.raises(UserError, match=r"RemBertForCausalLM gives .* no causal language model"):
        LocalEngine(base, None, EngineSettings(device="cpu"))


def test_a_tensor_of_one_number_is_checked_like_any_other(tmp_path):
    base = make_model(tmp_path / "base", "apertus", num_hidden_layers=1)  # its activation holds such tensors
    assert not_finite([base / WEIGHTS]) is None
    edit_tensors(base / WEIGHTS, lambda held: {k: v if v.dim() else v * float("nan") for k, v in held.items()})
    assert not_finite([base / WEIGHTS]) is not None


def test_adapters_of_a_tied_output_layer_come_with_copies_of_its_weight(tmp_path):
    base = make_model(tmp_path / "base", tie_word_embeddings=True)
    expert = make_lora(base, tmp_path / "a", target_modules=["lm_head", "q_proj"])
    assert any("base_layer" in name for name in load_file(expert / ADAPTER))
    assert_like_reference(base, [expert])
    edit_tensors(expert / ADAPTER, lambda held: {k: v + 1 if "base_layer" in k else v for k, v in held.items()})
    with pytest.raises(UserError, match=r"'a': tensor .*lm_head\.base_layer.weight is no lora_A"):
        open_pool([str(expert)], base)


def test_float8_adapters_are_mixed_as_the_numbers_that_they_hold(tmp_path):
    base = make_model(tmp_path / "base")
    experts = [make_lora(base, tmp_path / name, seed) for seed, name in enumerate("ab", 1)]
    edit_tensors(experts[0] / ADAPTER, lambda held: {k: v.to(torch.float8_e4m3fn) for k, v in held.items()})
    found, *_ = product(base, experts)
    edit_tensors(experts[0] / ADAPTER, lambda held: {k: v.float() for k, v in held.items()})
    for ours, theirs in zip(found, reference(base, experts[0]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["llama", "mixtral", "qwen3-moe", "gpt2"])
def test_full_models_are_read_as_transformers_saves_them_and_written_as_measured(kind, tmp_path):
    base = make_model(tmp_path / "base", kind)
    experts = [make_full(base, tmp_path / name, seed) for seed, name in enumerate("ab", 1)]
    assert_like_reference(base, experts)
    row = [0.5, 0.25]
    open_pool([str(one) for one in experts], base).write(torch.tensor(row), tmp_path / "winner")
    measured, *_ = product(base, experts, row)
    for ours, theirs in zip(measured, reference(base, tmp_path / "winner"), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("rope_parameters.rope_theta", {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
        ("hidden_act", {"hidden_act": "gelu"}),
        ("rms_norm_eps", {"rms_norm_eps": 1e-3}),
        ("tie_word_embeddings", {"tie_word_embeddings": True}),
    ],
)
def test_a_full_model_of_another_config_is_refused_by_the_fields_name(field, change, tmp_path):
    base = make_model(tmp_path / "base", tie_word_embeddings=False)
    expert = make_full(base, tmp_path / "a", **change)
    with pytest.raises(UserError, match=f"'a': {field} is "):
        open_pool([str(expert)], base)


def test_fields_that_change_no_number_may_differ_between_full_models(tmp_path):
    base = make_model(tmp_path / "base")
    changes = {"use_cache": False, "eos_token_id": 5, "transformers_version": "4.1", "attention_dropout": 0.1, "own": 1}
    assert_like_reference(base, [make_full(base, tmp_path / "a", **changes)])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (None, "tiny"),
        ("", None),
        ("owner/Tiny-bnb-4bit", "tiny"),
        ("/home/one/tiny/", "C:\\Users\\two\\tiny"),
        ("/data/checkpoint-500", "owner/tiny"),
    ],
)
def test_a_base_models_name_is_a_hint_and_no_identity(one, other, tmp_path):
    base = make_model(tmp_path / "tiny")
    experts = [make_lora(base, tmp_path / name, seed) for seed, name in enumerate("ab", 1)]
    for expert, name in zip(experts, (one, other), strict=True):
        edit_json(expert / CONFIG, base_model_name_or_path=name)
    pool = open_pool([str(expert) for expert in experts], base)
    assert (pool.base_warning is not None) == (one == "/data/checkpoint-500")


def blank_tokenizer(folder, *, end=False):
    """The layout of Llama's: a blank is prepended to every text, and words with their blank are tokens."""
    words = ["▁a", "▁b", "▁town", "▁yes", "▁no", "▁one", "▁two", "▁up", "▁down"]
    pieces = ["<s>", "</s>", "<pad>", "<unk>", "▁", *(chr(k) for k in range(33, 127))]
    merges = []
    for word in words:
        for k in range(2, len(word) + 1):
            if word[:k] not in pieces:
                pieces.append(word[:k])
                merges.append((word[: k - 1], word[k - 1]))
    tokenizer = Tokenizer(models.BPE(vocab={p: k for k, p in enumerate(pieces)}, merges=merges, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    single = "<s> $A </s>" if end else "<s> $A"
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 0), ("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("end", [False, True])
def test_prompt_and_option_are_encoded_as_one_text_without_the_tokenizers_end(end, tmp_path):
    base = make_model(tmp_path / "base")
    blank_tokenizer(base, end=end)
    (((prompt, options),), tokens) = ((tokens := Tokens(base)).questions(["so:"], [[" a", " town"]]), tokens)
    read = tokens.tokenizer.convert_ids_to_tokens
    assert read(prompt) == ["<s>", "▁", "s", "o", ":"]
    assert [read(option) for option in options] == [["▁a"], ["▁town"]]
    assert tokens.prompts(["so:"], 4) == [prompt]
    assert_like_reference(base, [make_lora(base, tmp_path / "a")])


def test_blanks_at_a_prompts_end_belong_to_the_option(tmp_path):
    make_model(tmp_path / "base")
    blank_tokenizer(tmp_path / "base")
    tokens = Tokens(tmp_path / "base")
    assert tokens.questions(["so: "], [["a", "b"]]) == tokens.questions(["so:"], [[" a", " b"]])


def test_an_option_that_changes_the_prompts_last_token_begins_before_it(tmp_path):
    make_model(tmp_path / "base")
    blank_tokenizer(tmp_path / "base")
    tokens = Tokens(tmp_path / "base")
    ((prompt, options),) = tokens.questions(["it: tow"], [["n", "x"]])
    wholes = [tokens.ids(["it: town"])[0], tokens.ids(["it: towx"])[0]]
    assert [prompt + option for option in options] == wholes


def test_a_tokenizer_without_padding_and_end_tokens_answers(tmp_path):
    base = make_model(tmp_path / "base", pad_token_id=None)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (base / name).unlink(missing_ok=True)
    (base / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    assert_like_reference(base, [make_lora(base, tmp_path / "a")])


def test_weights_that_a_config_describes_and_the_files_lack_are_named(tmp_path):
    base = make_model(tmp_path / "base", tie_word_embeddings=False)
    edit_tensors(base / WEIGHTS, lambda held: {k: v for k, v in held.items() if k != "lm_head.weight"})
    with pytest.raises(UserError, match=r"the weight files hold no lm_head\.weight"):
        LocalEngine(base, None, EngineSettings(device="cpu"))


CHATML = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} </s>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
INST = (
    "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content | trim }}</s>"
    "{% else %}{{ raise_exception('System role not supported') }}{% endif %}{% endfor %}"
)
THINKS = CHATML.replace(
    "<{{ m.role }}> ", "<{{ m.role }}> {% if loop.last and m.role == 'assistant' %}<think></think>{% endif %}"
)
CHATS = [
    Chat.of([("user", "Where is it?")]),
    Chat.of([("user", "one?"), ("assistant", "two"), ("user", "What is it? " * 3)]),
]


@pytest.mark.parametrize(("template", "gap"), [(CHATML, ""), (INST, " "), (THINKS, "<think></think>")])
def test_in_a_chat_an_option_is_scored_as_the_assistants_message(template, gap, tmp_path):
    base = make_model(tmp_path / "base")
    blank_tokenizer(base, end=True)  # it adds <s> and </s> by itself, as the templates do
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(base)
    options = [["a", "town"], ["yes", "no", "its"]]
    opened = {"tokenize": False, "add_generation_prompt": True}
    heads = [tokenizer.apply_chat_template(chat.messages, **opened) + gap for chat in CHATS]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    tokens = Tokens(base)
    prompts = [*CHATS, "x", "x"]  # texts among chats
    found, *_ = product(base, [make_lora(base, tmp_path / "a")], (0.0,), prompts, [*options, [" a"], [" b"]])
    for head, own, values, question in zip(heads, options, found, tokens.questions(CHATS, options), strict=False):
        expected = []
        for option in own:
            ids = tokenizer(head + option, add_special_tokens=False)["input_ids"]
            start = len(question[0])
            assert ids[:start] == question[0] and 0 not in ids[1:]
            with torch.inference_mode():
                logprobs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(dim=-1)
            expected.append(sum(float(logprobs[k - 1, ids[k]]) for k in range(start, len(ids))))
            assert "".join(tokenizer.convert_ids_to_tokens(ids[start:])).lstrip("▁") == option
        assert np.allclose(values, expected, atol=1e-4)


def test_a_chat_template_without_the_tasks_roles_is_refused_in_one_sentence(tmp_path):
    base = make_model(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = INST
    tokenizer.save_pretrained(base)
    with pytest.raises(UserError, match=r"does not take the messages of the task \(system, user\): System role not"):
        Tokens(base).prompts([Chat.of([("system", "Be brief."), ("user", "Why?")])], 4)
    tokenizer.chat_template = None
    for file in ("chat_template.jinja", "tokenizer_config.json"):
        (base / file).unlink(missing_ok=True)
    tokenizer.save_pretrained(base)
    with pytest.raises(UserError, match="this base model has none"):
        Tokens(base).questions([CHATS[0]], [["a", "b"]])
