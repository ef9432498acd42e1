"""What vLLM is started with: every option of the engine, without vLLM itself."""

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from harness.engines.base import engines
from harness.engines.settings import EngineSettings
from harness.engines.vllm import VllmEngine
from harness.experts.pool import open_pool
from utilities.errors import UserError


@pytest.fixture
def started(monkeypatch, base, adapters):
    """Makes an engine, up to vLLM's constructor; returns its arguments, and what vLLM reads from the environment."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "vllm" or find(name))
    pool = open_pool([str(folder) for folder in adapters], base)

    def start(*, on_cpu=False, error=None, memory=80 << 30, **settings):
        given = {}

        def make(**options):
            given.update(options)
            raise error or ValueError("so far")

        platform = SimpleNamespace(
            is_cpu=lambda: on_cpu, get_device_name=lambda: "a card", is_sleep_mode_available=lambda: True
        )
        modules = {name: ModuleType(name) for name in ("vllm", "vllm.platforms")}
        modules["vllm"].LLM, modules["vllm.platforms"].current_platform = make, platform
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (memory, memory))
        with monkeypatch.context() as patch, pytest.raises(UserError) as raised:
            for name in [name for name in os.environ if name.startswith("VLLM_")]:
                patch.delenv(name)
            try:
                engines.get("vllm")(base, pool, EngineSettings(**settings), {})
            finally:
                read = {name: value for name, value in os.environ.items() if name.startswith("VLLM_")}
                for name in read:
                    del os.environ[name]
        return SimpleNamespace(options=given, environment=read, told=str(raised.value))

    return start


def test_every_option_that_a_user_of_vllm_expects_reaches_it(started, base):
    found = started(
        tensor_parallel=2, gpu_memory=0.5, max_model_len=128, dtype="bfloat16", quantization="fp8", adapter_slots=3
    ).options
    assert found["model"] == str(base) and found["tensor_parallel_size"] == 2
    assert found["gpu_memory_utilization"] == 0.5 and found["max_model_len"] == 128
    assert found["dtype"] == "bfloat16" and found["quantization"] == "fp8"
    assert found["enable_lora"] and found["max_loras"] == found["max_cpu_loras"] == 3 and found["max_lora_rank"] == 8
    assert found["lora_target_modules"] == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    assert found["enable_prefix_caching"] and found["enable_sleep_mode"]


def test_by_default_it_is_the_models_own_precision_and_length_on_one_gpu(started):
    found = started().options
    assert found["dtype"] == "auto" and found["quantization"] is None and found["tensor_parallel_size"] == 1
    assert found["max_model_len"] == 512 and found["max_loras"] == 20 and not found["enforce_eager"]
    found = started(on_cpu=True).options
    assert found["dtype"] == "float32" and found["enforce_eager"] and not found["enable_sleep_mode"]


def test_batch_invariance_is_asked_for_in_the_environment(started):
    assert "VLLM_BATCH_INVARIANT" not in started().environment
    assert started(batch_invariant=True).environment["VLLM_BATCH_INVARIANT"] == "1"
    assert started().environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"


def test_memory_that_holds_fewer_adapters_gets_fewer_slots(started, base, adapters):
    one = open_pool([str(adapters[0])], base).parameters * 2 * 2  # rank 4 in slots of rank 8, two bytes a number
    weights = (base / "model.safetensors").stat().st_size
    assert started(memory=int((weights + 4.5 * one) / 0.9), gpu_memory=1.0, adapter_slots=20).options["max_loras"] == 4
    halves = started(memory=int((weights + 4.5 * one) / 0.9), gpu_memory=0.5, tensor_parallel=2, adapter_slots=20)
    assert halves.options["max_loras"] == 4


def test_fewer_slots_than_particles_are_told(base, adapters, monkeypatch):
    pool = open_pool([str(folder) for folder in adapters], base)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1, 1))
    engine = object.__new__(VllmEngine)
    engine._base, engine._settings, engine.notes = base, EngineSettings(adapter_slots=20), []
    assert engine._room_for_adapters(pool, on_cpu=False)["max_loras"] == 1
    assert "memory holds 1 of 20 adapters" in engine.notes[0] and "in groups" in engine.notes[0]
    engine._folder.close()


def test_what_vllm_cannot_do_is_told_in_its_words_and_where(started, base):
    assert started(error=ValueError("no such quantization: x\nmore")).told == (
        f"{base}: vLLM cannot serve this base model: no such quantization: x"
    )
    told = started(error=torch.OutOfMemoryError("CUDA out of memory")).told
    assert "out of memory on a card" in told and "--gpu-memory" in told and "--tensor-parallel" in told


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_build_for_another_device_is_refused(device, started):
    assert f"--device {device}" in started(device=device, on_cpu=device == "cuda").told
