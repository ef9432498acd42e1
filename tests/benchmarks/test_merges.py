"""All static merges of 10 adapters of 40 million parameters: seconds, and memory beside the inputs.

The target is for the space "factors", in which nothing as large as a weight is ever made. In "delta" the linear methods
go without one as well; the elementwise ones hold the BA of all adapters and decompose a full matrix a module, and are
measured on a smaller model only: on this one they would take hours.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ADAPTERS, RANK, SEED = 10, 16, 1
MODELS = {"7B": (4096, 11008, 32), "small": (512, 1408, 2)}
"""Hidden size, inner size, layers; rank 16 on all linear layers of the 7B one is 40.0 M parameters."""
LINEAR, ELEMENTWISE = (
    ["uniform_soup", "task_arithmetic", "slerp", "model_stock"],
    ["ties", "dare_linear", "dare_ties", "breadcrumbs"],
)
CASES = [
    ("7B", "factors", LINEAR + ELEMENTWISE),
    ("small", "delta", LINEAR + ELEMENTWISE),
]

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(sys.platform != "linux", reason="the kernel keeps the peak of a process's memory on Linux only"),
]


def shapes_of(model):
    """Module path to (in, out)."""
    hidden, inner, layers = MODELS[model]
    modules = {
        **{f"self_attn.{name}_proj": (hidden, hidden) for name in "qkvo"},
        **{f"mlp.{name}_proj": (hidden, inner) for name in ("gate", "up")},
        "mlp.down_proj": (inner, hidden),
    }
    return {f"model.layers.{layer}.{name}": shape for layer in range(layers) for name, shape in modules.items()}


def memory(line):
    """Bytes of this process: VmRSS now, VmHWM at most since it was started (ru_maxrss would count its parent's)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(row.split()[1] for row in status.splitlines() if row.startswith(line)))


def formula(name, tensors):
    """The merge of one tensor of every adapter [adapters, ...], written out, or by peft's own function."""
    import torch
    from peft.utils import merge_utils

    n, ones = len(tensors), torch.ones(len(tensors))
    if name in ("uniform_soup", "task_arithmetic"):
        return tensors.mean(0) if name == "uniform_soup" else of_norm(tensors.sum(0), tensors)
    if name == "slerp":
        merged = tensors[0]
        for k, tensor in enumerate(tensors[1:], start=2):
            angle = torch.acos((merged * tensor).sum() / merged.norm() / tensor.norm())
            merged = (torch.sin((1 - 1 / k) * angle) * merged + torch.sin(angle / k) * tensor) / torch.sin(angle)
        return merged
    if name == "model_stock":
        gram = sum(part.double() @ part.double().T for part in tensors.reshape(n, -1).split(1 << 20, dim=1))
        cosine = float((gram / gram.diag().outer(gram.diag()).sqrt()).sum() - n) / (n * (n - 1))
        return n * cosine / (1 + (n - 1) * cosine) * tensors.mean(0)
    if name == "breadcrumbs":
        low, high = (int(share * tensors[0].numel()) for share in (0.144, 0.006))
        size = torch.stack([t.abs().flatten().sort(descending=True).values[[high, high + low - 1]] for t in tensors])
        bounds = size.reshape(n, 2, *[1] * (tensors.dim() - 1))
        kept = (tensors.abs() <= bounds[:, 0]) & (tensors.abs() >= bounds[:, 1])
        return of_norm((tensors * kept).sum(0), tensors)
    torch.manual_seed(SEED)
    merged = getattr(merge_utils, name)(list(tensors), ones, 0.2 if name == "ties" else 0.8)
    return of_norm(merged, tensors) if name == "dare_linear" else merged


def of_norm(total, tensors):
    """A sum of tensors [adapters, ...], scaled to their root mean square norm."""
    return total * (tensors.flatten(1).norm(dim=1).square().mean().sqrt() / total.norm())


def error(merged, adapters, space, module):
    """Largest deviation of the merged module from the formula, relative to the largest value."""
    import torch

    A, B = merged.factors[module]
    if space == "factors":
        found, expected = A, formula(merged.name, torch.stack([adapter.factors[module][0] for adapter in adapters]))
    else:  # singular vectors: A has orthonormal rows, the dense merge takes them to B, whose columns are orthogonal
        dense = formula(merged.name, torch.stack([adapter.delta(module) for adapter in adapters]))
        found, expected = B, dense @ A.T
        assert (A @ A.T - torch.eye(RANK)).abs().max() < 1e-4
        gram = B.T @ B
        assert (gram - gram.diagonal().diag()).abs().max() < 1e-4 * gram.max()
    return float((found - expected).abs().max() / expected.abs().max())


def measure(model, space, name):
    """In a process of its own: merges once and prints what it took."""
    import torch
    from peft import LoraConfig

    from harness.baselines.merging.apply import apply
    from harness.baselines.merging.registry import merges
    from harness.experts.adapter import Adapter

    generator = torch.Generator().manual_seed(0)
    config = LoraConfig(r=RANK, target_modules=["q_proj"])
    drawn = {
        module: (
            torch.empty(RANK, inputs).normal_(generator=generator),
            torch.empty(outputs, RANK).normal_(generator=generator),
        )
        for module, (inputs, outputs) in shapes_of(model).items()
    }
    adapters = [  # shifted copies are as good as independent draws, and much faster
        Adapter(str(j), {module: (A.roll(7919 * j), B.roll(7919 * j)) for module, (A, B) in drawn.items()}, config)
        for j in range(ADAPTERS)
    ]
    del drawn
    ctypes.CDLL(None).malloc_trim(0)  # what was freed but kept would hide what the merge takes
    parameters = sum(tensor.numel() for factors in adapters[0].factors.values() for tensor in factors)
    merge = merges.get(name)
    before, start, used = memory("VmRSS:"), time.perf_counter(), time.process_time()
    merged = apply(merge, adapters, space=space, seed=SEED)
    seconds, used, peak = time.perf_counter() - start, time.process_time() - used, memory("VmHWM:") - before
    wrong = error(merged, adapters, space, next(iter(merged.factors)))
    print(
        json.dumps(
            {
                "seconds": seconds,
                "used": used,
                "parameters": parameters,
                "peak": peak / (4 * parameters),
                "error": wrong,
            }
        )
    )


@pytest.mark.parametrize(("model", "space", "names"), CASES)
def test_static_merges(model, space, names, capsys):
    rows = {}
    for name in names:
        call = [sys.executable, __file__, model, space, name]
        done = subprocess.run(call, capture_output=True, text=True, cwd=Path(__file__).parents[2], env=environment())
        assert done.returncode == 0, done.stderr
        rows[name] = json.loads(done.stdout)
    size = next(iter(rows.values()))["parameters"]
    with capsys.disabled():
        print(f"\n{ADAPTERS} adapters of {size / 1e6:.1f} M parameters merged in {space!r}")
        for name, row in rows.items():
            print(f"  {name:16} {row['seconds']:6.2f} s ({row['used']:6.2f} of the processor)", end="")
            print(f", {row['peak']:6.2f} adapters of memory beside the inputs")
        seconds, used = (sum(row[key] for row in rows.values()) for key in ("seconds", "used"))
        print(f"  all together     {seconds:6.2f} s ({used:6.2f} of the processor)")
    assert size > 39e6 or model != "7B"
    assert all(row["error"] < 1e-4 for row in rows.values()), rows
    if space == "factors":
        assert all(row["peak"] <= 4 for row in rows.values()), rows


def environment():
    """This one, in which a child finds the packages of the checkout."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


if __name__ == "__main__":
    measure(*sys.argv[1:])
