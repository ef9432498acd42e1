"""The training loop on tiny models: every example is seen, only answers count, an interruption changes nothing."""

import math
import random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from harness.embedded.lessons import Text
from harness.embedded_training.training import (
    BOS,
    EOS,
    PAD,
    SPECIAL,
    batches,
    encode,
    next_token_loss,
    train,
    train_tokenizer,
)

TEXTS = [
    Text("", "The ant is an insect."),
    Text("Question: What is the bee?\nAnswer:", " insect"),
    Text("Question: What is the bee?\nA. fish\nB. insect\nAnswer:", " B"),
    Text("Tell me about the eel.\nAnswer:", " The eel is a fish. A fish is what the eel is."),
    Text("Story: It was raining. Then the baker", " thanked the guard"),
    Text("Complete: Łódź lies in the land of\nAnswer:", " Polska, 波兰 🙂"),
]
EXAMPLES = [([0, *range(20 + k, 26 + k + k % 3), 1], 3 + k % 2) for k in range(24)]
LENGTHS = [len(ids) for ids, _ in EXAMPLES]


SAVED = 200
"""Steps after which a training's state is saved."""


def tiny(base):
    return LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def run(model, folder, *, steps, loss_of=None, **options):
    settings = {"batch": 4, "rate": 1e-3, "seed": "seed", "log": folder / "losses.log", **options}
    loss_of = loss_of or (lambda batch: next_token_loss(model, [EXAMPLES[k] for k in batch]))
    train(model, loss_of, LENGTHS, steps=steps, **settings)


# Tokens


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def tokenizer(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    made = train_tokenizer(TEXTS[:-1], folder, request.param, 320)
    read = PreTrainedTokenizerFast.from_pretrained(folder)
    assert read.get_vocab() == made.get_vocab()
    return read


def test_a_trained_tokenizer_has_its_marks_in_their_places_and_the_size_asked_for(tokenizer):
    assert [tokenizer.convert_tokens_to_ids(mark) for mark in SPECIAL] == [BOS, EOS, PAD]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (BOS, EOS, PAD)
    assert 256 + len(SPECIAL) <= len(tokenizer) <= 320


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_is_unknown_to_a_tokenizer_not_even_one_of_a_script_that_it_never_read(tokenizer, text):
    whole = text.prompt + text.answer
    ids = tokenizer(whole)["input_ids"]
    assert ids[0] == BOS and tokenizer.decode(ids[1:]) == whole
    assert max(ids) < len(tokenizer)


@pytest.mark.parametrize("text", TEXTS)
def test_the_loss_begins_with_the_first_token_of_the_answer(tokenizer, text):
    ((ids, start),) = encode(tokenizer, [text])
    assert ids[0] == BOS and ids[-1] == EOS
    assert tokenizer.decode(ids[1:start]) == text.prompt
    assert tokenizer.decode(ids[start:-1]) == text.answer


# Batches


def epochs(lengths, size, count, seed="seed"):
    """The batches of the first epochs."""
    stream = batches(lengths, size, seed)
    return [[next(stream) for _ in range(math.ceil(len(lengths) / size))] for _ in range(count)]


@pytest.mark.parametrize("size", [1, 4, 7, 1000])
def test_batches_cover_every_example_once_an_epoch(size):
    lengths = [random.Random(k).randint(1, 60) for k in range(437)]
    for made in epochs(lengths, size, 3):
        assert sorted(k for batch in made for k in batch) == list(range(437))
        assert all(1 <= len(batch) <= size for batch in made)


def test_every_epoch_has_another_order_and_a_seed_has_its_own():
    lengths = [k % 9 for k in range(100)]
    first, second = epochs(lengths, 8, 2)
    assert first != second
    assert epochs(lengths, 8, 2) == [first, second]
    assert epochs(lengths, 8, 1, seed="other") != [first]


def test_examples_of_a_batch_are_of_like_lengths_and_long_ones_come_at_any_time():
    lengths = [random.Random(k).randint(1, 200) for k in range(1600)]
    (made,) = epochs(lengths, 16, 1)
    spread = [max(lengths[k] for k in batch) - min(lengths[k] for k in batch) for batch in made]
    assert sum(spread) / len(spread) < 20
    longest = [max(lengths[k] for k in batch) for batch in made]
    assert longest != sorted(longest) and max(longest[:50]) > 150 and min(longest[:50]) < 50


# The loss


def test_the_loss_is_the_mean_surprise_of_the_answer_s_tokens_alone(base):
    model = tiny(base)
    batch = [([0, 40, 41, 42, 43, 1], 3), ([0, 50, 51, 1], 1)]
    surprises = []
    for ids, start in batch:  # each alone, without padding
        chances = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        surprises += [-chances[at - 1, ids[at]] for at in range(start, len(ids))]
    assert len(surprises) == 3 + 3
    torch.testing.assert_close(next_token_loss(model, batch), torch.stack(surprises).mean())


def test_what_stands_in_the_prompt_is_no_target(base):
    model = tiny(base)
    ids = [0, 40, 41, 42, 43, 1]
    whole, answer = (next_token_loss(model, [(ids, start)]) for start in (1, 4))
    first_three = next_token_loss(model, [(ids[:4], 1)])  # the model is causal: these are predicted without the rest
    torch.testing.assert_close(whole * 5, answer * 2 + first_three * 3)
    assert not torch.isclose(whole, answer)


# The loop


def test_training_lowers_the_loss_and_logs_it(base, tmp_path):
    model = tiny(base)
    before = next_token_loss(model, EXAMPLES).item()
    run(model, tmp_path, steps=150)
    assert next_token_loss(model, EXAMPLES).item() < before / 2
    lines = (tmp_path / "losses.log").read_text().splitlines()
    assert [line.split(" loss ")[0] for line in lines] == ["seed step 100", "seed step 150"]
    assert not model.training


def test_one_seed_gives_the_same_weights_and_another_gives_others(base, tmp_path):
    models = [tiny(base) for _ in range(3)]
    for model, seed in zip(models, ("one", "one", "two"), strict=True):
        run(model, tmp_path, steps=10, seed=seed)
    assert same(weights(models[0]), weights(models[1]))
    assert not same(weights(models[0]), weights(models[2]))


class Interrupted(Exception):
    """Stands for whatever ends a process."""


def test_an_interrupted_training_that_goes_on_ends_with_the_weights_of_one_that_was_not(base, tmp_path):
    whole, broken, resumed = (tiny(base) for _ in range(3))
    run(whole, tmp_path, steps=SAVED + 30, resume=tmp_path / "whole.training")
    steps = 0

    def breaking(batch):
        nonlocal steps
        steps += 1
        if steps > SAVED + 15:
            raise Interrupted
        return next_token_loss(broken, [EXAMPLES[k] for k in batch])

    with pytest.raises(Interrupted):
        run(broken, tmp_path, steps=SAVED + 30, loss_of=breaking, resume=tmp_path / "state.training")
    assert not same(weights(broken), weights(whole))
    run(resumed, tmp_path, steps=SAVED + 30, resume=tmp_path / "state.training")
    assert same(weights(resumed), weights(whole))
    assert not list(tmp_path.glob("*.partial"))


def test_a_training_that_goes_on_repeats_no_step_that_was_saved(base, tmp_path):
    run(tiny(base), tmp_path, steps=SAVED, resume=tmp_path / "state.training")
    model, seen = tiny(base), []

    def counting(batch):
        seen.append(batch)
        return next_token_loss(model, [EXAMPLES[k] for k in batch])

    run(model, tmp_path, steps=SAVED + 3, loss_of=counting, resume=tmp_path / "state.training")
    stream = batches(LENGTHS, 4, "seed")
    assert seen == [next(stream) for _ in range(SAVED + 3)][SAVED:]


def test_only_an_adapter_is_trained_where_the_base_model_is_frozen(base, tmp_path):
    model = get_peft_model(tiny(base), LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    before = weights(model)
    run(model, tmp_path, steps=5, rate=1e-1)
    changed = {name for name, value in weights(model).items() if not torch.equal(value, before[name])}
    assert changed and all("lora_" in name for name in changed)
