"""Settings of an engine: precision, batching, adapters, servers and workers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EngineSettings"]


class EngineSettings(BaseModel):
    """Settings of an engine."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model lives; auto takes a GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the weights; auto is float32 on a CPU and bfloat16 on a GPU."""
    attention: Literal["auto", "sdpa", "eager"] = "auto"
    """local: how attention is computed; auto is sdpa, and eager if the architecture or its config rules sdpa out."""
    batch_tokens: int | None = Field(None, ge=1, le=1 << 31)
    """Tokens of one batch, padding included; found by itself when not given, and lowered when memory runs out."""
    max_model_len: int | None = Field(None, ge=16, le=1 << 31)
    """Tokens that a prompt and its answer may have together; by default what the base model's config says."""
    trust_remote_code: bool = False
    """Allow the base model's repository to bring its own Python code, which then runs here."""
    adapter_slots: int | None = Field(None, ge=1, le=10_000)
    """vllm, remote: particles whose adapters are loaded at the same time; by default all of the swarm's."""
    gpu_memory: float = Field(0.9, gt=0, le=1)
    """vllm: share of the GPU's memory that vLLM may use; of the machine's, on a CPU at most."""
    tensor_parallel: int = Field(1, ge=1, le=1024)
    """vllm: GPUs that share one copy of the base model."""
    quantization: str | None = None
    """vllm: how the base model is quantised, such as fp8 or bitsandbytes; by default as its own files say."""
    share_gpu: bool = False
    """vllm: the engine sleeps while a reward model or a judge on the same GPU scores."""
    batch_invariant: bool = False
    """vllm: the same answers whatever else is in the batch, at some cost in speed (needs a recent GPU)."""
    base_url: str | None = None
    """remote: address of an OpenAI-compatible server that loads LoRA adapters, such as http://127.0.0.1:8000/v1."""
    server_model: str | None = None
    """remote: the base model's name on the server, where it serves several."""
    server_key_env: str = "MODEL_SERVER_KEY"
    """remote: environment variable that holds the server's key, where it asks for one."""
    adapter_folder: Path | None = None
    """remote: folder that this machine and the server both see; by default shared memory, for a server on this one."""
    concurrency: int = Field(8, ge=1, le=10_000)
    """remote: requests in flight at the same time, each of many prompts."""
    workers: int | None = Field(None, ge=1, le=10_000)
    """ray: engines, each on a machine's GPU or a share of its CPU; by default as many as the cluster has room for."""
    worker_engine: Literal["auto", "local", "vllm"] = "auto"
    """ray: the engine of each worker; auto is vllm where a worker has a GPU and vLLM, else local."""
    worker_cpus: int = Field(1, ge=1, le=1024)
    """ray: CPU cores, and so threads, of a worker: results do not depend on the number of workers, but on this."""
    ray_address: str | None = None
    """ray: a running cluster's address, or auto; by default a cluster is started on this machine."""
