"""Shared by all tests: no network, few threads, and tiny real models and adapters that the tests make themselves."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import gc
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from closed_caches import closed_caches  # noqa: F401 - a fixture
from own_cache import own_cache_of_a_module, own_cache_of_a_test  # noqa: F401 - fixtures
from peft import LoraConfig, get_peft_model
from stub_server import JudgeServer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from vllm_server import vllm_server  # noqa: F401 - a fixture

from utilities import statistics

# A test that needs more examples says so; hypothesis's own default is 100.
# Nothing depends on the time or on chance: a busy machine is not a failure, and a run is repeatable.
hypothesis.settings.register_profile(
    "quick",
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("quick")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """The whole default suite runs on every core; chosen files, slow tests and benchmarks have the machine alone."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and "not slow" in config.option.markexpr
    return None if whole else 0


def pytest_collection_finish() -> None:
    """Leaves the half a million objects of imported libraries out of the collection that every closed engine runs.

    A search freezes and unfreezes all objects itself, which would put them back.
    """
    gc.collect()
    gc.freeze()
    gc.freeze = gc.unfreeze = lambda: None


@pytest.fixture(scope="module", autouse=True)
def rough_intervals(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fewer resamples where tests run whole searches: nobody reads intervals that took a sixth of a tiny one."""
    with pytest.MonkeyPatch.context() as patch:
        room = request.path.parent
        if room.parent.name == "harness" and room.name in {"experts", "lab", "run", "session", "sweep", "topics"}:
            patch.setattr(statistics, "RESAMPLES", 100)
        yield


SHARED_DATA = Path(__file__).parents[2] / "shared" / "data" / "model_swarms"


@pytest.fixture(scope="session")
def published() -> Path:
    """The published evaluation data; tests that read it are skipped where it is not there."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the published data is not on this machine")
    return SHARED_DATA


def make_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: one token a byte, so nothing needs training."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, "</s>": 1, "<pad>": 2, **{byte: k + 3 for k, byte in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.save_pretrained(folder)
    return fast


def make_base(folder: Path, seed: int = 0, hidden: int = 32) -> Path:
    """A Llama model with random weights, large enough that its answers differ: about 25,000 parameters."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        initializer_range=0.4,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    make_tokenizer(folder)
    return folder


def make_adapter(base: Path, folder: Path, seed: int, **config: object) -> Path:
    """A LoRA adapter with random A and B, written by peft itself."""
    torch.manual_seed(seed)
    options: dict[str, object] = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    model = get_peft_model(LlamaForCausalLM.from_pretrained(base), LoraConfig(**{**options, **config}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    model.peft_config["default"].base_model_name_or_path = "tiny"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny base model."""
    return make_base(tmp_path_factory.mktemp("family") / "tiny")


@pytest.fixture(scope="session")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of three LoRA adapters of the tiny base model."""
    folder = tmp_path_factory.mktemp("adapters")
    return [make_adapter(base, folder / name, seed) for seed, name in enumerate(("ant", "bee", "cat"), 1)]


@pytest.fixture
def new_adapter(base: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes further adapters of the tiny base model: `new_adapter("name", r=8)`."""

    def make(name: str, seed: int = 9, **config: object) -> Path:
        return make_adapter(base, tmp_path / name, seed, **config)

    return make


@pytest.fixture
def judge_server() -> Iterator[JudgeServer]:
    """A judge's server, real as far as HTTP goes; answers "Rating: 7/10" until a test says otherwise."""
    with JudgeServer() as server:
        yield server


@pytest.fixture
def here(capfd, monkeypatch):
    """Runs the command line in this process: the same code, without importing torch again for every case."""

    def call(*arguments, columns=200):
        from harness.cli.main import main

        monkeypatch.setattr(sys, "argv", ["run.py", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", str(columns))
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as ended:
                main()
                raise SystemExit(0)
        finally:
            signal.signal(signal.SIGTERM, handler)
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, ended.value.code, out, err)

    return call


def refused(done, *words):
    """Asserts that a command ended as a user's mistake, in one line that has all `words`."""
    assert done.returncode == 2, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    message = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert len(message) == 1, done.stderr
    for word in words:
        assert str(word) in message[0]
