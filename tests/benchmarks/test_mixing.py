"""Mixing 20 particles from 10 LoRA experts of 40 million parameters, beside a plain memory copy of as many bytes."""

import ctypes
import shutil
import sys
import threading
import time
from itertools import islice

import psutil
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import LlamaConfig

from harness.experts.pool import open_pool

EXPERTS, PARTICLES, REPEATS = 10, 20, 3
RANK, LAYERS, HIDDEN, INNER = 16, 32, 4096, 11008  # rank 16 on all linear layers of a 7B Llama: 40.0 M parameters
MODULES = {
    **{f"self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in "qkvo"},
    **{f"mlp.{name}_proj": (HIDDEN, INNER) for name in ("gate", "up")},
    "mlp.down_proj": (INNER, HIDDEN),
}
COPIED = 1 << 29
"""Bytes of the buffer that is copied again and again: larger than any processor's cache."""

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="its own memory is told apart from files on Linux only"),
]


@pytest.fixture(params=["float32", "bfloat16"])
def pool(request, tmp_path):
    """A pool of memory-mapped experts; its 1.6 GB are removed afterwards."""
    base = tmp_path / "base"
    LlamaConfig(
        hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=32, vocab_size=256
    ).save_pretrained(base)
    shapes = {}
    for layer in range(LAYERS):
        for module, (inputs, outputs) in MODULES.items():
            path = f"base_model.model.model.layers.{layer}.{module}"
            shapes |= {f"{path}.lora_A.weight": (RANK, inputs), f"{path}.lora_B.weight": (outputs, RANK)}
    config = LoraConfig(
        r=RANK, lora_alpha=32, target_modules=[name.split(".")[1] for name in MODULES], base_model_name_or_path="base"
    )
    generator = torch.Generator().manual_seed(0)
    for j in range(EXPERTS):
        tensors = {
            name: torch.randn(shape, generator=generator).to(getattr(torch, request.param))
            for name, shape in shapes.items()
        }
        config.save_pretrained(tmp_path / f"expert{j}")
        save_file(tensors, tmp_path / f"expert{j}" / "adapter_model.safetensors", {"format": "pt"})
    del tensors
    yield open_pool([str(tmp_path / f"expert{j}") for j in range(EXPERTS)], base, check_values=False)
    shutil.rmtree(tmp_path)


def tensors_of(pool, name):
    return [source.file.get_tensor(source.key) for source in pool._sources[name]]


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def consume(mixtures):
    for _ in mixtures:
        pass


def own_memory():
    """Resident bytes of this process that are no file: without the memory-mapped pool."""
    memory = psutil.Process().memory_info()
    return memory.rss - memory.shared


def peak_of_own_memory(work):
    """By how much `work` raises it at most, sampled every millisecond."""
    ctypes.CDLL(None).malloc_trim(0)  # what was freed but kept would hide what is taken
    before, peak, done = own_memory(), 0, threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, own_memory() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    return peak


def test_mixing_beside_a_memory_copy(pool, capsys):
    rows = torch.randn(PARTICLES, EXPERTS, generator=torch.Generator().manual_seed(1))
    dtype = tensors_of(pool, next(iter(pool._sources)))[0].dtype
    read, written = EXPERTS * pool.parameters * dtype.itemsize, PARTICLES * pool.parameters * rows.dtype.itemsize

    # What is measured is right: some tensors against the sum written out.
    for name, found in islice(pool.mix(rows), 0, None, 50):
        experts = torch.stack(tensors_of(pool, name)).double()
        torch.testing.assert_close(found.double(), torch.tensordot(rows.double(), experts, 1), atol=1e-4, rtol=0)
    assert 39e6 < pool.parameters < 41e6

    peak = peak_of_own_memory(lambda: consume(pool.mix(rows)))
    source, target = torch.ones(2, COPIED, dtype=torch.uint8)
    mixing, single, copying = [], [], []
    for _ in range(REPEATS):
        mixing.append(seconds(lambda: consume(pool.mix(rows))))
        single.append(seconds(lambda: consume(pool.mix(rows[:1]))))
        copying += [seconds(lambda: target.copy_(source)) * (read + written) / COPIED for _ in range(3)]
    size, kind = f"{pool.parameters / 1e6:.1f} M parameters", str(dtype).removeprefix("torch.")
    with capsys.disabled():
        print(f"\n{PARTICLES} mixtures (float32) of {EXPERTS} experts ({kind}) of {size}")
        print(f"  bytes read and written  {read / 1e9:6.2f} + {written / 1e9:.2f} GB")
        print(f"  mixing                  {min(mixing):6.2f} s")
        print(f"  copying so many bytes   {min(copying):6.2f} s")
        print(f"  ratio                   {min(mixing) / min(copying):6.2f}")
        print(f"  a single mixture        {min(single):6.2f} s")
        print(f"  memory beyond the pool  {peak / 1e6:6.0f} MB")
